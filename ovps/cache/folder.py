"""One folder of a partition: a Zarr group, written in one go and distrusted when it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import numcodecs  # zarr's own
import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from cache_schemas import Array, FileRow, FolderRow, check_offsets, check_shapes
from ovps import machine
from ovps.cache.codecs.protocol import Arrays
from ovps.cache.layout import partition_key
from ovps.cache.shards import Shards
from ovps.cache.storage import LOST, Storage
from ovps.cache.zarr_files import ReadFiles, WrittenFiles, start_io
from ovps.errors import CorruptStoreError
from ovps.shortage import faults

SETTINGS = "provenance_sha256"  # attribute of the group: a folder of another store is not one of ours
CHUNK_BYTES = 2**19  # read at once; a frame's points are about as much
SHARD_BYTES = 2**24  # one file; more than glibc keeps (32 MiB) would come from the system, page by page, each time
WRITERS = 4  # threads of a folder at most; each has a shard in memory, packed
_LEVEL = 3  # of zstd


@dataclass(frozen=True, eq=False)
class Rows:
    """Arrays (n_i, ...) as one, end to end along their first axis, of which no more is joined than is asked for."""

    parts: Sequence[np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*self.parts)

    @property
    def ndim(self) -> int:
        return self.parts[0].ndim

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, wanted: slice) -> np.ndarray:
        """The rows from one number to another."""
        start, stop, _ = wanted.indices(len(self))
        found, first = [self.parts[0][:0]], 0
        for part in self.parts:
            found.append(part[max(0, start - first) : max(0, stop - first)])
            first += len(part)
        return np.concatenate(found)


def write_folder(
    storage: Storage,
    folder: str,
    arrays: Mapping[str, np.ndarray | Rows],
    attributes: Mapping[str, Any],
    dims: Mapping[str, Sequence[str]],
) -> FolderRow:
    """Write a folder of a store that is not there yet; it is durable when this returns.

    Args:
        dims: of each array, the names of its dimensions, for xarray and its like.

    Raises:
        StorageError: the disk refuses.
    """
    files = WrittenFiles(storage, partition_key(folder))
    if arrays:
        start_io()
        group = zarr.create_group(files, zarr_format=3)
        group.attrs.put(dict(attributes))
        with ThreadPoolExecutor(min(WRITERS, machine.cores()), thread_name_prefix="shard") as pool:
            for name in sorted(arrays):
                shards = Shards.of(_create_array(group, name, arrays[name], dims[name]))
                files.write_described()
                list(pool.map(partial(files.write_shard, shards, arrays[name]), range(shards.count)))
    storage.settle(partition_key(folder))
    return FolderRow(folder=folder, files=files.rows())


def settings_of(storage: Storage, key: str) -> str | None:
    """The hash of the provenance that a folder states; None where it states none, or cannot be read."""
    try:
        return str(json.loads(storage.get(f"{key}/zarr.json"))["attributes"][SETTINGS])
    except faults(ValueError, KeyError, TypeError, OSError):
        return None


def all_rows(storage: Storage, folder: str, name: str) -> np.ndarray | None:
    """One array of a folder of which no manifest tells, as its files are now; None if it cannot be read."""
    key, wanted = partition_key(folder), ("zarr.json", f"{name.partition('/')[0]}/")
    try:
        there = {path: entry for path, entry in storage.entries(key).items() if path.startswith(wanted)}
        hashes = storage.each(lambda path: storage.sha256(f"{key}/{path}"), there)
        files = tuple(
            FileRow(path=path, bytes=entry.bytes, sha256=sha256)
            for (path, entry), sha256 in zip(there.items(), hashes, strict=True)
        )
        listed = ReadFiles(storage, FolderRow(folder=folder, files=files), LOST)
        start_io()
        group = zarr.open_group(listed, mode="r", zarr_format=3)
        return _all(listed, Shards.of(_as_array(group[name])))
    except faults(ValueError, KeyError, TypeError, RuntimeError, OSError, CorruptStoreError):
        return None


def is_whole(storage: Storage, folder: str, names: Iterable[str]) -> bool:
    """Tell whether `write_folder` got to the end of these arrays: it writes them by name, shard after shard."""
    last = f"{partition_key(folder)}/{max(names)}"
    try:
        about = json.loads(storage.get(f"{last}/zarr.json"))
        length, shard = about["shape"][0], about["chunk_grid"]["configuration"]["chunk_shape"][0]
    except faults(ValueError, KeyError, OSError):
        return False
    return len(storage.entries(f"{last}/c")) == ceil(length / shard)


def _create_array(group: zarr.Group, name: str, data: np.ndarray | Rows, dims: Sequence[str]) -> zarr.Array:
    """One array, its shards to come. The last inner codec is the checksum: a flipped byte would read as wrong data."""
    row_bytes = max(1, data.dtype.itemsize * int(np.prod(data.shape[1:])))
    rows = max(1, min(CHUNK_BYTES // row_bytes, len(data)))
    shard = rows * max(1, min(SHARD_BYTES // (rows * row_bytes), -(-len(data) // rows)))
    inner = tuple(max(1, n) for n in data.shape[1:])
    by_column = tuple(reversed(range(data.ndim)))  # x after x: what is alike lies side by side
    return group.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=(rows, *inner),
        shards=(shard, *inner),
        compressors=[_compressor(data[:rows].T), Crc32cCodec()],
        dimension_names=tuple(dims),
        filters=[TransposeCodec(order=by_column)] if data.ndim > 1 else None,
        # chunks of zeros are written too: an absent file then always means a lost one
        config={"write_empty_chunks": True},
    )


def _compressor(chunk: np.ndarray) -> BytesBytesCodec:
    """Choose by the first chunk: shuffling bytes pays for coordinates, not for few values again and again."""
    plain, shuffled = numcodecs.Zstd(level=_LEVEL), numcodecs.Blosc("zstd", _LEVEL, numcodecs.Blosc.SHUFFLE)
    content = np.ascontiguousarray(chunk)
    if chunk.itemsize == 1 or len(plain.encode(content)) <= len(shuffled.encode(content)):
        return ZstdCodec(level=_LEVEL)
    return BloscCodec(typesize=chunk.itemsize, cname="zstd", clevel=_LEVEL, shuffle="shuffle")


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder as a manifest names it, its files checked for presence and size, its arrays open.

    Attributes:
        dims: of each array, the dimension along which frames are concatenated.
        offsets: of each such dimension, (F+1,) int64.
    """

    path: str
    files: ReadFiles
    arrays: Mapping[str, Shards]
    dims: Mapping[str, str]
    offsets: Arrays
    remedy: str

    @classmethod
    def open(
        cls, storage: Storage, row: FolderRow, specs: Iterable[Array], clip_dim: int, settings: str, remedy: str
    ) -> Folder:
        """Open the folder that a manifest names.

        Args:
            specs: the arrays that it has.
            settings: hash of the provenance that it must be of.
            remedy: of whatever is damaged.

        Raises:
            CorruptStoreError: a file that is missing, of another size or not of the schema.
            StorageError: the storage does not answer.
        """
        specs = tuple(specs)
        path = storage.at(partition_key(row.folder))
        files = ReadFiles(storage, row, remedy)
        files.check()
        dims = {spec.name: str(spec.dims[0]) for spec in specs}
        names = [*dims, *(f"offsets/{dim}" for dim in dict.fromkeys(dims.values()))]
        try:
            start_io()
            group = zarr.open_group(files, mode="r", zarr_format=3)
            if group.attrs.get(SETTINGS, settings) != settings:  # folders of earlier state none
                raise ValueError("it was made with other settings than store.json states")
            arrays = {name: _as_array(group[name]) for name in names}
            sizes = check_shapes({n: (a.shape, a.dtype) for n, a in arrays.items()}, specs, clip_dim=clip_dim)
            shards = {name: Shards.of(array) for name, array in arrays.items()}
            bounds = {name: shards.pop(name) for name in names if name.startswith("offsets/")}
            offsets = dict(zip(bounds, storage.each(partial(_all, files), bounds.values()), strict=True))
            check_offsets(offsets, sizes)
        except faults(ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
            raise CorruptStoreError(f"damaged partition: {error}", path=path, remedy=remedy) from error
        return cls(path, files, shards, dims, {name.removeprefix("offsets/"): a for name, a in offsets.items()}, remedy)

    def read(self, name: str, position: int) -> np.ndarray:
        """The rows of one array that are of the frame at a position.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        start, stop = map(int, self.offsets[self.dims[name]][position : position + 2])
        return self.files.read(self.arrays[name], start, stop)


def _all(files: ReadFiles, shards: Shards) -> np.ndarray:
    return files.read(shards, 0, shards.length)


def _as_array(node: Any) -> zarr.Array:
    if not isinstance(node, zarr.Array):
        raise ValueError(f"{node} is a group, expected an array")
    return node
