"""One partition of a store, opened for reading and distrusted until checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from cache_schemas.v1 import PartitionRow, Provenance, arrays_of, check_offsets, check_shapes
from ovps.cache.codecs import Arrays, decode
from ovps.cache.files import hash_file
from ovps.cache.frame_data import CachedFrame
from ovps.cache.layout import manifest_path, partition_path
from ovps.cache.manifest import again, read_manifest
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


@dataclass(frozen=True, eq=False)
class Partition:
    """One partition, its files checked for presence and size, its arrays open."""

    folder: Path
    row: PartitionRow
    provenance: Provenance
    arrays: Mapping[str, zarr.Array]
    offsets: Arrays
    remedy: str

    @classmethod
    def open(cls, store: Path, name: str, provenance: Provenance) -> Partition:
        manifest = manifest_path(store, name)
        row = read_manifest(manifest)
        folder = partition_path(store, name)
        remedy = again(manifest)
        for file in row.files:
            problem = quick_check(folder / file.path, file.bytes, file.sha256)
            if problem:
                raise CorruptStoreError(problem, path=folder / file.path, remedy=remedy)
        labelled = any(f.labelled for f in row.frames)
        names = [a.name for a in arrays_of(provenance.codec, labelled=labelled)]
        try:
            group = zarr.open_group(_StrictStore(folder, read_only=True), mode="r", zarr_format=3)
            arrays = {n: _as_array(group[n]) for n in names}
            sizes = check_shapes(
                {n: (a.shape, a.dtype) for n, a in arrays.items()},
                provenance.codec,
                labelled=labelled,
                clip_dim=provenance.clip_dim,
            )
            offsets = {n: np.asarray(arrays[n][:]) for n in names if n.startswith("offsets/")}
            check_offsets(offsets, sizes)
        except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
            raise CorruptStoreError(f"damaged partition: {error}", path=folder, remedy=remedy) from error
        return cls(folder, row, provenance, arrays, offsets, remedy)

    def read(self, position: int) -> CachedFrame:
        frame = self.row.frames[position]
        try:
            arrays = {n: self._part(n, position) for n in self.arrays if not n.startswith("offsets/")}
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
    """Every chunk of a partition has been written, so a chunk that is not there is lost. Zarr would read zeros."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        if found is None:
            raise FileNotFoundError(f"missing file {self.root / key}")
        return found


def _as_array(node: Any) -> zarr.Array:
    if not isinstance(node, zarr.Array):
        raise ValueError(f"{node} is a group, expected an array")
    return node


def quick_check(path: Path, size: int, sha256: str) -> str | None:
    """What is wrong with a file of a partition, without reading the large ones; None if nothing is.

    Zarr reads an absent shard as zeros, so presence and size are checked here; flipped bytes inside a shard are
    seen by its own checksums when it is read, but those of the small `zarr.json` have none.
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
