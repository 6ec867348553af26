"""Writing a store: one partition at a time, committed by its manifest."""

from __future__ import annotations

import shutil
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from cache_schemas.v1 import (
    SCHEMA_VERSION,
    Codec,
    FileRow,
    FrameRow,
    PartitionRow,
    Provenance,
    SkippedRow,
    StoreInfo,
    arrays_of,
    check_arrays,
)
from ovps.cache.codecs import Arrays, VoxelFeatures, codec_error, encode
from ovps.cache.files import files_below, hash_file, storage_errors, write_whole
from ovps.cache.frame_data import CachedFrame
from ovps.cache.layout import (
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
from ovps.files import TEMPORARY, sync_folder
from ovps.vocabulary import Vocabulary, save_vocabulary

CHUNK_BYTES = 2**19  # read at once; a frame's points are about as much
SHARD_BYTES = 2**27  # one file; bounds the memory of writing


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """A frame in the form it is stored in."""

    row: FrameRow
    arrays: Arrays


def create_store(path: Path, provenance: Provenance, vocabulary: Vocabulary) -> StoreInfo:
    """Make an empty store, or check that the one at `path` may be added to.

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
    digest = hash_file(path / VOCABULARY)
    info = StoreInfo(schema_version=SCHEMA_VERSION, provenance=provenance, vocabulary_sha256=digest)
    write_whole(path / INFO, (info.model_dump_json(indent=2) + "\n").encode())
    return info


def is_store(path: Path) -> bool:
    """Has a store been made here, complete or not?"""
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
    ours = {VOCABULARY, LOCK, MANIFESTS, PARTITIONS}
    inside = sorted(p.name for p in path.iterdir()) if path.exists() else []
    others = [name for name in inside if name not in ours and not name.startswith(TEMPORARY)]
    if others:
        raise CacheError(
            f"the folder is no store and holds other things: {', '.join(others[:3])}",
            path=path,
            remedy="Give a new or empty folder",
        )


def encode_frame(frame: CachedFrame, features: VoxelFeatures, codec: Codec) -> EncodedFrame:
    """Bring a frame into the form it is stored in; `features` are `frame.clip` in factors."""
    clip = encode(features, codec)
    error = codec_error(clip, codec, frame.valid, frame.clip)
    valid_voxels = int(frame.valid.sum())
    row = FrameRow(
        token=frame.token,
        subset=frame.subset,
        index=frame.index,
        timestamp_us=frame.timestamp_us,
        points=len(frame.xyz),
        voxels=len(frame.coords),
        valid_voxels=valid_voxels,
        objects=len(frame.object_class),
        labelled=frame.label is not None,
        beyond_range=frame.beyond_range,
        global_from_lidar=tuple(frame.global_from_lidar.astype(np.float64).ravel().tolist()),
        cameras=frame.cameras,
        codec_max_error=error.largest,
        codec_mean_error=error.mean,
    )
    arrays: Arrays = {
        "points/xyz": frame.xyz,
        "points/intensity": frame.intensity,
        "points/voxel": frame.point_voxel.astype(np.int32),
        "points/views": frame.views,
        "voxels/coords": frame.coords,
        "voxels/valid": frame.valid,
        "objects/class": frame.object_class,
        "objects/instance": frame.object_instance,
        "objects/points": frame.object_points,
        "objects/seen_points": frame.object_seen_points,
        "objects/embedding": frame.object_embedding,
        **clip,
    }
    if frame.label is not None:
        arrays["points/label"] = frame.label
    return EncodedFrame(row, arrays)


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
    before = _folder_of(path, name)
    folder = new_folder(name)
    work = partition_path(path, folder)
    try:
        with storage_errors(work):
            work.mkdir(parents=True)
            if frames:
                _write_arrays(work, _joined(frames, provenance), provenance)
            files = tuple(_listed(work))
            sync_folder(work.parent)
        row = PartitionRow(
            partition=name,
            folder=folder,
            scene=scene,
            frames=tuple(f.row for f in frames),
            skipped=tuple(skipped),
            files=files,
        )
        write_manifest(path, row)
    finally:
        _remove_unnamed(path, name, {before, folder})
    return row


def _remove_unnamed(path: Path, partition: str, folders: set[str | None]) -> None:
    """Of these folders of a partition, delete those that its manifest does not name now.

    What it names decides, not how far the writer came: a disk may refuse after the commit. Folders that stay because
    the disk does not let go of them are leftovers.
    """
    with suppress(CorruptStoreError, OSError):
        for folder in folders - {_folder_of(path, partition), None}:
            shutil.rmtree(partition_path(path, str(folder)), ignore_errors=True)


def _folder_of(path: Path, partition: str) -> str | None:
    """The folder that the manifest of a partition names; None where there is no manifest."""
    manifest = manifest_path(path, partition)
    return read_manifest(manifest).folder if manifest.exists() else None


def _joined(frames: Sequence[EncodedFrame], provenance: Provenance) -> Arrays:
    """The arrays of a partition: those of its frames one after another, and the offsets."""
    labelled = any(f.row.labelled for f in frames)
    names = [a.name for a in arrays_of(provenance.codec, labelled=labelled) if not a.name.startswith("offsets/")]
    arrays = {name: np.concatenate([_array_of(f, name) for f in frames]) for name in names}
    counts = {"points": "points/xyz", "voxels": "voxels/coords", "objects": "objects/class"}
    if provenance.codec == "cells":
        counts |= {"cells": "clip/cells", "weights": "clip/weights"}
    lengths = {offset: [len(f.arrays[name]) for f in frames] for offset, name in counts.items()}
    lengths["valid"] = [f.row.valid_voxels for f in frames]
    for offset, values in lengths.items():
        arrays[f"offsets/{offset}"] = np.concatenate([[0], np.cumsum(values)]).astype(np.int64)
    check_arrays(arrays, provenance.codec, labelled=labelled, clip_dim=provenance.clip_dim)
    return arrays


def _array_of(frame: EncodedFrame, name: str) -> np.ndarray:
    if name == "points/label" and not frame.row.labelled:
        return np.zeros(frame.row.points, np.uint32)  # beside labelled frames; its row says that it has none
    return frame.arrays[name]


def _write_arrays(folder: Path, arrays: Mapping[str, np.ndarray], provenance: Provenance) -> None:
    group = zarr.create_group(folder, zarr_format=3, overwrite=True)
    group.attrs.put({"ovps_schema_version": SCHEMA_VERSION, "codec": provenance.codec})
    for name in sorted(arrays):
        _write_array(group, name, arrays[name])


def _write_array(group: zarr.Group, name: str, data: np.ndarray) -> None:
    """One array, shard by shard. The checksum is the last inner codec, or a flipped byte would read as wrong data."""
    row_bytes = max(1, data.dtype.itemsize * int(np.prod(data.shape[1:])))
    rows = max(1, min(CHUNK_BYTES // row_bytes, len(data)))
    shard = rows * max(1, min(SHARD_BYTES // (rows * row_bytes), -(-len(data) // rows)))
    inner = tuple(max(1, n) for n in data.shape[1:])
    array = group.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=(rows, *inner),
        shards=(shard, *inner),
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        filters=None,
        # chunks of zeros are written too: an absent file then always means a lost one
        config={"write_empty_chunks": True},
    )
    for start in range(0, len(data), shard):
        array[start : start + shard] = data[start : start + shard]


def _listed(folder: Path) -> list[FileRow]:
    """Every file below a partition, with size and hash, durable from here on."""
    rows = []
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        rows.append(FileRow(path=name, bytes=path.stat().st_size, sha256=hash_file(path, sync=True)))
    for inner in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        sync_folder(inner)
    return rows


def remove_leftovers(path: Path) -> None:
    """Delete what no manifest names: of runs that did not finish, and of partitions that were replaced.

    Only for the holder of the store's lock: what another run is writing looks the same.

    Raises:
        CorruptStoreError: a manifest that cannot be read; nothing was deleted.
    """
    named = {read_manifest(file).folder for file in manifest_files(path)}
    for folder in (path / PARTITIONS).glob("*.zarr"):
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)
    for leftover in (*path.glob(f"{TEMPORARY}*"), *(path / MANIFESTS).glob(f"{TEMPORARY}*")):
        with suppress(OSError):
            leftover.unlink()
