"""Writing a store: one partition at a time, committed by its manifest."""

from __future__ import annotations

import shutil
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import numpy as np

from cache_schemas import (
    SCHEMA_VERSION,
    Array,
    FolderRow,
    FrameRow,
    Part,
    PartitionRow,
    Provenance,
    SkippedRow,
    StoreInfo,
    check_arrays,
    dims_of,
)
from ovps.cache import codecs
from ovps.cache.codecs.protocol import Arrays, Codec, State, VoxelFeatures, codec_error
from ovps.cache.codecs.state import state_bytes
from ovps.cache.files import hash_file, storage_errors, write_whole
from ovps.cache.folder import write_folder
from ovps.cache.frame_arrays import arrays_of, arrays_of_frame, row_of
from ovps.cache.frame_data import CachedFrame
from ovps.cache.layout import (
    CODEC_STATE,
    INFO,
    LOCK,
    MANIFESTS,
    PARTITIONS,
    VOCABULARY,
    manifest_path,
    new_folder,
    partition_path,
)
from ovps.cache.manifest import manifest_files, read_manifest, write_manifest
from ovps.cache.partition import Partition
from ovps.cache.reader import read_info
from ovps.errors import CacheError, CorruptStoreError, ProvenanceError
from ovps.files import TEMPORARY
from ovps.taxonomy import Taxonomy
from ovps.vocabulary import Vocabulary, save_vocabulary

NO_STATE: State = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """A frame in the form it is stored in."""

    row: FrameRow
    arrays: Arrays


def create_store(
    path: Path, provenance: Provenance, taxonomy: Taxonomy, vocabulary: Vocabulary, state: State = NO_STATE
) -> StoreInfo:
    """Make an empty store, or check that the one at `path` may be added to.

    Args:
        provenance: names the others by their hashes.
        vocabulary: of the classes of the taxonomy.
        state: of the codec, see `Codec.fit`.

    Raises:
        ProvenanceError: the store was made with other settings; names both values of each.
        CacheError: the store is of another schema version.
        StorageError: the disk refuses.
    """
    if is_store(path):
        return check_provenance(path, provenance)
    with storage_errors(path):
        _check_ours(path)
        (path / MANIFESTS).mkdir(parents=True, exist_ok=True)
        (path / PARTITIONS).mkdir(parents=True, exist_ok=True)
        temporary = path / f"{TEMPORARY}{uuid4().hex}"
        save_vocabulary(vocabulary, temporary)
        write_whole(path / VOCABULARY, temporary.read_bytes())
        temporary.unlink()
    content = state_bytes(state)
    if content is not None:
        write_whole(path / CODEC_STATE, content)
    info = StoreInfo(
        schema_version=SCHEMA_VERSION,
        provenance=provenance,
        taxonomy=taxonomy.model_dump(mode="json"),
        vocabulary_sha256=hash_file(path / VOCABULARY),
    )
    write_whole(path / INFO, (info.model_dump_json(indent=2) + "\n").encode())
    return info


def is_store(path: Path) -> bool:
    """Tell whether a store has been made here, complete or not."""
    return (path / INFO).exists()


def check_provenance(path: Path, provenance: Provenance) -> StoreInfo:
    """Check that a store may be added to.

    Raises:
        ProvenanceError: it was made with other settings; names both values of each.
        CacheError: it is of another schema version.
    """
    info = read_info(path)
    pairs = {name: (value, getattr(provenance, name)) for name, value in info.provenance}
    differing = [f"{name} {there!r} there, {now!r} now" for name, (there, now) in pairs.items() if there != now]
    if differing:
        raise ProvenanceError(
            f"the store was made with other settings: {'; '.join(differing)}",
            path=path,
            remedy="Give another --out, or the settings of the store",
        )
    return info


def _check_ours(path: Path) -> None:
    """A folder that holds anything else is none to make a store in."""
    ours = {VOCABULARY, CODEC_STATE, LOCK, MANIFESTS, PARTITIONS}
    inside = sorted(p.name for p in path.iterdir()) if path.exists() else []
    others = [name for name in inside if name not in ours and not name.startswith(TEMPORARY)]
    if others:
        raise CacheError(
            f"the folder is no store and holds other things: {', '.join(others[:3])}",
            path=path,
            remedy="Give a new or empty folder",
        )


def encode_frame(
    frame: CachedFrame,
    features: VoxelFeatures,
    codec: Codec,
    state: State = NO_STATE,
    thumbnails: Sequence[bytes] = (),
) -> EncodedFrame:
    """Bring a frame into the form it is stored in.

    Args:
        features: `frame.clip` in factors.
        state: of the codec, see `Codec.fit`.
        thumbnails: encoded images of its cameras, as long as the cameras say; none: they say 0.
    """
    clip = codec.encode(features, state)
    error = codec_error(codec, clip, state, frame.valid, frame.clip)
    row = row_of(frame, max_error=error.largest, mean_error=error.mean)
    pictures = np.frombuffer(b"".join(thumbnails), np.uint8)
    return EncodedFrame(row, arrays_of_frame(frame) | {"thumbnails/bytes": pictures} | clip)


def stored_frames(path: Path, row: PartitionRow, tokens: Container[str]) -> list[EncodedFrame]:
    """Some frames of a partition in the form they are stored in, to be written again.

    Raises:
        CorruptStoreError: bytes that are not those that were written.
    """
    frames = [frame for frame in row.frames if frame.token in tokens]
    if not frames:
        return []
    partition = Partition.open(path, row, read_info(path).provenance)
    return [EncodedFrame(frame, partition.encoded(frame.token)) for frame in frames]


def write_partition(
    path: Path, name: str, scene: str, frames: Sequence[EncodedFrame], skipped: Sequence[SkippedRow] = ()
) -> PartitionRow:
    """Write and commit one partition, in place of one of that name. Until it is committed nobody sees it.

    Args:
        path: of the store.
        name: of the partition.
        frames: at least one frame, or none if all are in `skipped`.

    Raises:
        StorageError: the disk refuses; the store is as it was, unless it refused when the commit was done.
        CorruptStoreError: a partition of that name has a manifest that cannot be read.
    """
    provenance = read_info(path).provenance
    before = _folders_of(path, name)
    labelled = any(frame.row.labelled for frame in frames)
    folders = {part: new_folder(name) for part in (*(("labels",) if labelled else ()), "features")}
    try:
        written = {part: _write_part(path, folder, part, frames, provenance) for part, folder in folders.items()}
        row = PartitionRow(
            partition=name,
            scene=scene,
            features=written["features"],
            labels=written.get("labels"),
            frames=tuple(f.row for f in frames),
            skipped=tuple(skipped),
        )
        write_manifest(path, row)
    finally:
        _remove_unnamed(path, name, {*before, *folders.values()})
    return row


def write_labels(
    path: Path, before: PartitionRow, frames: Sequence[EncodedFrame], skipped: Sequence[SkippedRow]
) -> PartitionRow:
    """Commit other labels of a partition; its features stay where they are.

    Args:
        path: of the store.
        before: the partition as it is.
        frames: all of its frames, in their order, some of them labelled.

    Raises:
        StorageError: the disk refuses; the store is as it was, unless it refused when the commit was done.
    """
    folder = new_folder(before.partition)
    old = _folders_of(path, before.partition)
    try:
        labels = _write_part(path, folder, "labels", frames, read_info(path).provenance)
        row = PartitionRow(
            partition=before.partition,
            scene=before.scene,
            features=before.features,
            labels=labels,
            frames=tuple(frame.row for frame in frames),
            skipped=tuple(skipped),
        )
        write_manifest(path, row)
    finally:
        _remove_unnamed(path, before.partition, {*old, folder})
    return row


def _remove_unnamed(path: Path, partition: str, folders: set[str]) -> None:
    """Of these folders of a partition, delete those that its manifest does not name now.

    What it names decides, not how far the writer came: a disk may refuse after the commit. Folders that stay because
    the disk does not let go of them are leftovers.
    """
    with suppress(CorruptStoreError, OSError):
        for folder in folders - _folders_of(path, partition):
            shutil.rmtree(partition_path(path, folder), ignore_errors=True)


def _folders_of(path: Path, partition: str) -> set[str]:
    """The folders that the manifest of a partition names; none where there is no manifest."""
    manifest = manifest_path(path, partition)
    return {part.folder for part in read_manifest(manifest).parts.values()} if manifest.exists() else set()


def _write_part(
    path: Path, folder: str, part: Part, frames: Sequence[EncodedFrame], provenance: Provenance
) -> FolderRow:
    specs = arrays_of(part, codecs.get(provenance.codec), provenance)
    arrays = _joined(frames, specs, provenance.clip_dim) if frames else {}
    attributes = {"ovps_schema_version": SCHEMA_VERSION, "part": part, "codec": provenance.codec}
    return write_folder(partition_path(path, folder), arrays, attributes)


def _joined(frames: Sequence[EncodedFrame], specs: Sequence[Array], clip_dim: int) -> Arrays:
    """The arrays of a folder: those of its frames one after another, and the offsets."""
    lengths = {dim: [_length(frame, dim, specs) for frame in frames] for dim in dims_of(specs)}
    arrays: Arrays = {}
    for spec in specs:
        counts = lengths[str(spec.dims[0])]
        rows = [_array_of(f, spec, count, clip_dim) for f, count in zip(frames, counts, strict=True)]
        wrong = next((f.row.token for f, a, n in zip(frames, rows, counts, strict=True) if len(a) != n), None)
        if wrong is not None:
            raise ValueError(f"{spec.name} of frame {wrong} is not as long as the others of dimension {spec.dims[0]}")
        arrays[spec.name] = np.concatenate(rows)
    for dim, counts in lengths.items():
        arrays[f"offsets/{dim}"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    check_arrays(arrays, specs, clip_dim=clip_dim)
    return arrays


def _length(frame: EncodedFrame, dim: str, specs: Sequence[Array]) -> int:
    if dim in ("points", "voxels"):
        return int(getattr(frame.row, dim))
    return next((len(frame.arrays[s.name]) for s in specs if s.dims[0] == dim and s.name in frame.arrays), 0)


def _array_of(frame: EncodedFrame, spec: Array, length: int, clip_dim: int) -> np.ndarray:
    if spec.part == "labels" and not frame.row.labelled:  # beside labelled frames; its row says that it has none
        return np.zeros((length, *(clip_dim if dim == "C" else int(dim) for dim in spec.dims[1:])), spec.dtype)
    return frame.arrays[spec.name]


def remove_leftovers(path: Path) -> None:
    """Delete what no manifest names: of runs that did not finish, and of partitions that were replaced.

    Only for the holder of the store's lock: what another run is writing looks the same.

    Raises:
        CorruptStoreError: a manifest that cannot be read; nothing was deleted.
    """
    named = {part.folder for file in manifest_files(path) for part in read_manifest(file).parts.values()}
    for folder in (path / PARTITIONS).glob("*.zarr"):
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)
    for leftover in (*path.glob(f"{TEMPORARY}*"), *(path / MANIFESTS).glob(f"{TEMPORARY}*")):
        with suppress(OSError):
            leftover.unlink()
