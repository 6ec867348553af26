"""One partition of a store, opened for reading and distrusted until checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from cache_schemas.v1 import PartitionRow, Provenance, arrays_of, check_offsets, check_shapes
from ovps.cache.codecs import Arrays, decode
from ovps.cache.files import hash_file
from ovps.cache.frame_data import CachedFrame
from ovps.cache.layout import manifest_path, partition_path
from ovps.cache.manifest import again
from ovps.errors import CorruptStoreError

# by which offsets an array is divided into frames
_OFFSETS_OF = {
    "points": "offsets/points",
    "voxels": "offsets/voxels",
    "objects": "offsets/objects",
    "clip/dense": "offsets/valid",
    "clip/cells": "offsets/cells",
    "clip/indices": "offsets/weights",
    "clip/weights": "offsets/weights",
}


_NO_CHUNK = 2**64 - 1  # in the index of a shard


@dataclass(frozen=True, eq=False)
class Partition:
    """One partition as one manifest names it, its files checked for presence and size, its arrays open."""

    folder: Path
    row: PartitionRow
    provenance: Provenance
    arrays: Mapping[str, zarr.Array]
    offsets: Arrays
    remedy: str

    @classmethod
    def open(cls, store: Path, row: PartitionRow, provenance: Provenance) -> Partition:
        """Open the folder that a manifest names.

        Raises:
            CorruptStoreError: a file that is missing, of another size or not of the schema.
        """
        folder = partition_path(store, row.folder)
        remedy = again(manifest_path(store, row.partition))
        for file in row.files:
            problem = quick_check(folder / file.path, file.bytes, file.sha256)
            if problem:
                raise CorruptStoreError(problem, path=folder / file.path, remedy=remedy)
        labelled = any(f.labelled for f in row.frames)
        names = [a.name for a in arrays_of(provenance.codec, labelled=labelled)]
        try:
            files = _StrictStore(folder, {file.path: file.bytes for file in row.files}, remedy)
            group = zarr.open_group(files, mode="r", zarr_format=3)
            arrays = {n: _as_array(group[n]) for n in names}
            sizes = check_shapes(
                {n: (a.shape, a.dtype) for n, a in arrays.items()},
                provenance.codec,
                labelled=labelled,
                clip_dim=provenance.clip_dim,
            )
            for array in arrays.values():
                files.expect_chunks_of(array)
            offsets = {n: np.asarray(arrays[n][:]) for n in names if n.startswith("offsets/")}
            check_offsets(offsets, sizes)
        except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
            raise CorruptStoreError(f"damaged partition: {error}", path=folder, remedy=remedy) from error
        return cls(folder, row, provenance, arrays, offsets, remedy)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Where each frame's rows lie, by token."""
        return {frame.token: position for position, frame in enumerate(self.row.frames)}

    def encoded(self, token: str) -> Arrays:
        """The arrays of one frame as they are stored, without the offsets.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        return {n: self._part(n, self.positions[token]) for n in self.arrays if not n.startswith("offsets/")}

    def read(self, token: str) -> CachedFrame:
        """One frame.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        frame = self.row.frames[self.positions[token]]
        arrays = self.encoded(token)
        try:
            valid = arrays["voxels/valid"]
            clip = decode(arrays, self.provenance.codec, valid, self.provenance.clip_dim)
            return CachedFrame(
                token=frame.token,
                scene=self.row.scene,
                subset=frame.subset,
                index=frame.index,
                timestamp_us=frame.timestamp_us,
                xyz=arrays["points/xyz"],
                intensity=arrays["points/intensity"],
                point_voxel=arrays["points/voxel"].astype(np.int64),
                views=arrays["points/views"],
                label=arrays["points/label"] if frame.labelled else None,
                coords=arrays["voxels/coords"],
                valid=valid,
                clip=clip,
                object_class=arrays["objects/class"],
                object_instance=arrays["objects/instance"],
                object_points=arrays["objects/points"],
                object_seen_points=arrays["objects/seen_points"],
                object_embedding=arrays["objects/embedding"],
                global_from_lidar=np.array(frame.global_from_lidar).reshape(4, 4),
                cameras=frame.cameras,
                beyond_range=frame.beyond_range,
            )
        except (ValueError, KeyError, IndexError, RuntimeError, OSError) as error:
            raise CorruptStoreError(
                f"cannot read: {error}", path=self.folder, frame=frame.token, remedy=self.remedy
            ) from error

    def _part(self, name: str, position: int) -> np.ndarray:
        """The rows of one frame."""
        if name == "clip/indptr":  # every frame's indptr has one entry more than rows
            start, stop = self.offsets["offsets/valid"][position : position + 2] + np.array([position, position + 1])
        else:
            key = name if name in _OFFSETS_OF else name.partition("/")[0]
            start, stop = self.offsets[_OFFSETS_OF[key]][position : position + 2]
        try:
            return np.asarray(self.arrays[name][int(start) : int(stop)])
        except (ValueError, KeyError, RuntimeError, OSError) as error:
            raise CorruptStoreError(
                f"array {name} cannot be read: {error}",
                path=self.folder / name,
                frame=self.row.frames[position].token,
                remedy=self.remedy,
            ) from error


class _StrictStore(LocalStore):
    """The files of a partition, each of the size that its manifest states, each shard with all of its chunks.

    Every chunk of a partition has been written, so one that is not there is lost. Zarr would read zeros: of an absent
    shard, of an empty one, and of one whose index lists no such chunk. Other damage is seen by the checksums.
    """

    def __init__(self, root: Path, sizes: Mapping[str, int], remedy: str) -> None:
        super().__init__(root, read_only=True)
        self._sizes, self._remedy = sizes, remedy
        self._chunks: dict[str, tuple[int, int]] = {}  # of each shard: chunks written, chunks that would fit

    def expect_chunks_of(self, array: zarr.Array) -> None:
        """Check from now on that the shards of this array hold their chunks; both are cut along the first axis."""
        if array.shards is None:
            raise ValueError(f"{array.path} has no shards")
        rows, shard_rows = array.chunks[0], array.shards[0]
        for number, start in enumerate(range(0, array.shape[0], shard_rows)):
            key = "/".join([array.path, "c", str(number), *["0"] * (array.ndim - 1)])
            self._chunks[key] = (ceil(min(array.shape[0] - start, shard_rows) / rows), shard_rows // rows)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        size = self._sizes.get(key)
        if found is None or size is None:
            raise self._corrupt(key, "missing file")
        match byte_range:
            case RangeByteRequest():
                wanted = byte_range.end - byte_range.start
            case SuffixByteRequest():
                wanted = byte_range.suffix
            case _:
                wanted = size
        actual = (self.root / key).stat().st_size
        if actual != size or len(found) != wanted:
            raise self._corrupt(key, f"{actual} bytes, expected {size}")
        if key in self._chunks and not isinstance(byte_range, RangeByteRequest):
            self._check_index(key, found)
        return found

    def _check_index(self, key: str, tail: Buffer) -> None:
        """A shard ends with two uint64 per chunk, offset and length, and their CRC-32C; all ones: no such chunk.

        https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
        """
        written, slots = self._chunks[key]
        index = np.frombuffer(tail[-16 * slots - 4 : -4].to_bytes(), "<u8").reshape(slots, 2)
        lost = np.flatnonzero((index[:written] == _NO_CHUNK).any(axis=1))
        if len(lost):
            raise self._corrupt(key, f"a shard without its chunk {lost[0]}")

    def _corrupt(self, key: str, message: str) -> CorruptStoreError:
        return CorruptStoreError(message, path=self.root / key, remedy=self._remedy)


def _as_array(node: Any) -> zarr.Array:
    if not isinstance(node, zarr.Array):
        raise ValueError(f"{node} is a group, expected an array")
    return node


def quick_check(path: Path, size: int, sha256: str) -> str | None:
    """What is wrong with a file of a partition, without reading the large ones; None if nothing is.

    Flipped bytes inside a shard are seen by its own checksums when it is read, but those of the small `zarr.json`
    have none.
    """
    try:
        actual = path.stat().st_size
    except OSError:
        return "missing file"
    if actual != size:
        return f"{actual} bytes, expected {size}"
    if path.name == "zarr.json" and hash_file(path) != sha256:
        return "not the bytes that were written"
    return None
