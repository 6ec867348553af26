"""Summary of a store, from its manifests alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from cache_schemas import FrameRow, PartitionRow, Provenance, SkippedRow
from ovps.cache import codecs
from ovps.cache.layout import CODEC_STATE
from ovps.cache.leftovers import lost_warnings
from ovps.cache.manifest import read_manifests
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.cache.sweeps import SweepStatistics, sweep_statistics, sweep_warnings
from ovps.cache.where import Where, storage_of
from ovps.errors import ConfigError, SetupError
from ovps.shortage import faults

FLOAT16_BYTES = 2
_FEW = 0.01  # of the voxels; one camera that looks ahead sees a tenth
_ODD_ERROR = 0.5  # of a feature's length; the built-in codecs are off by less than a third
_PART_OF = {
    "clip": "clip",
    "points": "points",
    "voxels": "points",
    "objects": "objects",
    "thumbnails": "images",
    "earlier": "earlier sweeps",
}


class StoreSummary(BaseModel, frozen=True):
    """A store in numbers.

    Attributes:
        subsets: frames of each subset.
        frames_by_scene: frames of each scene.
        image_sizes: images of each size, as "1600x900" pixels.
        quarantined: frames that could not be computed, or not with their labels, and why.
        bytes: of all files of all partitions.
        bytes_per_frame: the same, by frames.
        bytes_by_part: of them, points and voxels, CLIP features, labels and objects, images, points of earlier sweeps,
            and what belongs to none of these.
        bytes_by_array: of them, by array of the schema; what belongs to no array is `metadata`.
        clip_bytes: of the arrays `clip/*`, as compressed.
        codec_lossless: exact but for rounding to float16, and so was any codec that the features were stored in
            before; None: the codec is of a package that is not installed.
        codec_state_bytes: of what the codec has made of training frames, once for the store.
        clip_bytes_dense_fp16: of the same features as plain float16, uncompressed: what codecs are compared with.
        codec_max_error: largest |stored - computed| of a feature, in a sample of 512 voxels of each frame.
        codec_mean_error: mean of the same.
        sweeps: points a frame, and which of them cameras and grid hold; None without frames.
        missing: of a data set, frames and labels that the store lacks, by split; None: not looked for.
        warnings: what in them should be looked into.
    """

    path: str
    schema_version: int
    provenance: Provenance
    partitions: int
    frames: int
    subsets: dict[str, int]
    frames_by_scene: dict[str, int]
    points: int
    voxels: int
    valid_voxels: int
    objects: int
    labelled_frames: int
    image_sizes: dict[str, int]
    quarantined: tuple[SkippedRow, ...]
    unlabelled_frames: int
    bytes: int
    bytes_per_frame: float
    bytes_by_part: dict[str, int]
    bytes_by_array: dict[str, int]
    clip_bytes: int
    clip_bytes_dense_fp16: int
    codec_lossless: bool | None
    codec_state_bytes: int
    codec_max_error: float
    codec_mean_error: float
    sweeps: SweepStatistics | None
    warnings: tuple[str, ...]
    missing: dict[str, dict[str, int]] | None = None


def store_info(path: Where) -> StoreSummary:
    """Summarise a store.

    Raises:
        CacheError: no store, or one of another schema version.
        CorruptStoreError: a manifest that cannot be read.
    """
    storage = storage_of(path)
    info = read_info(storage)
    rows = list(read_manifests(storage))
    frames = [frame for row in rows for frame in row.frames]
    by_array = Counter[str]()
    for row in rows:
        for file in (file for part in row.parts.values() for file in part.files):
            by_array[_array_of(file.path)] += file.bytes
    valid_voxels = _sum(frames, "valid_voxels")
    return StoreSummary(
        path=storage.at(),
        schema_version=info.schema_version,
        provenance=info.provenance,
        partitions=len(rows),
        frames=len(frames),
        subsets=dict(sorted(Counter(frame.subset for frame in frames).items())),
        frames_by_scene=_frames_by_scene(rows),
        points=_sum(frames, "points"),
        voxels=_sum(frames, "voxels"),
        valid_voxels=valid_voxels,
        objects=_sum(frames, "objects"),
        labelled_frames=_sum(frames, "labelled"),
        image_sizes=dict(sorted(Counter(f"{c.width}x{c.height}" for frame in frames for c in frame.cameras).items())),
        quarantined=tuple(skipped for row in rows for skipped in row.skipped),
        unlabelled_frames=len(frames) - _sum(frames, "labelled"),
        bytes=sum(by_array.values()),
        bytes_per_frame=sum(by_array.values()) / max(len(frames), 1),
        bytes_by_part=_by_part(by_array),
        bytes_by_array=dict(sorted(by_array.items())),
        clip_bytes=sum(size for name, size in by_array.items() if name.startswith("clip/")),
        clip_bytes_dense_fp16=valid_voxels * info.provenance.clip_dim * FLOAT16_BYTES,
        codec_lossless=_lossless(info.provenance),
        codec_state_bytes=_size(storage, CODEC_STATE) if info.provenance.codec_state_sha256 else 0,
        codec_max_error=max((frame.codec_max_error for frame in frames), default=0.0),
        codec_mean_error=_mean_error(frames),
        sweeps=sweep_statistics(frames),
        warnings=(
            *lost_warnings(storage, info),
            *sweep_warnings(frames),
            *feature_warnings(frames, info.provenance),
        ),
    )


def _array_of(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else "metadata"


def _by_part(by_array: Mapping[str, int]) -> dict[str, int]:
    parts = Counter[str]()
    for name, size in by_array.items():
        parts["labels" if name == "points/label" else _PART_OF.get(name.partition("/")[0], "other")] += size
    return dict(parts.most_common())


def _lossless(provenance: Provenance) -> bool | None:
    if provenance.converted_from:
        return False
    try:
        return codecs.get(provenance.codec).lossless
    except (ConfigError, SetupError):
        return None


def _size(storage: Storage, key: str) -> int:
    try:
        return len(storage.get(key))
    except faults(OSError):  # it is lost; `ovps cache verify` tells
        return 0


def _sum(frames: Sequence[FrameRow], field: str) -> int:
    return sum(int(getattr(frame, field)) for frame in frames)


def _frames_by_scene(rows: list[PartitionRow]) -> dict[str, int]:
    scenes = Counter[str]()
    for row in rows:
        scenes[row.scene] += len(row.frames)
    return dict(sorted(scenes.items()))


def feature_warnings(frames: Sequence[FrameRow], provenance: Provenance) -> tuple[str, ...]:
    """Warn of features that hardly any voxel has, and of a codec that gives back others than it got.

    That is, off by half of their length and more on average. Features are unit vectors, or means of such. The mean of
    |error| over C channels is at most its length over sqrt(C).
    """
    voxels, valid = _sum(frames, "voxels"), _sum(frames, "valid_voxels")
    if valid < _FEW * voxels:
        return (f"{valid:,} of {voxels:,} voxels have a CLIP feature, and the others nothing: scores say little",)
    mean = _mean_error(frames)
    if mean <= _ODD_ERROR / math.sqrt(provenance.clip_dim):
        return ()
    return (
        f"codec {provenance.codec} gives features back that are off by {mean:.3g} in each of {provenance.clip_dim}"
        " channels on average, half of their length and more: scores of this store say little. Precompute with another"
        " codec",
    )


def _mean_error(frames: Sequence[FrameRow]) -> float:
    total = sum(frame.codec_mean_error * frame.valid_voxels for frame in frames)
    return total / max(_sum(frames, "valid_voxels"), 1)
