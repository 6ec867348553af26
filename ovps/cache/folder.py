"""One folder of a partition: a Zarr group, written in one go and distrusted when it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from cache_schemas import Array, FileRow, FolderRow, check_offsets, check_shapes
from ovps.cache.codecs.protocol import Arrays
from ovps.cache.files import files_below, hash_file, storage_errors
from ovps.errors import CorruptStoreError
from ovps.files import sync_folder

CHUNK_BYTES = 2**19  # read at once; a frame's points are about as much
SHARD_BYTES = 2**27  # one file; bounds the memory of writing
_NO_CHUNK = 2**64 - 1  # in the index of a shard


def write_folder(folder: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> FolderRow:
    """Write a folder that is not there yet; it is durable when this returns.

    Raises:
        StorageError: the disk refuses.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True)
        if arrays:
            group = zarr.create_group(folder, zarr_format=3, overwrite=True)
            group.attrs.put(dict(attributes))
            for name in sorted(arrays):
                _write_array(group, name, arrays[name])
        row = FolderRow(folder=folder.name, files=tuple(_listed(folder)))
        sync_folder(folder.parent)
    return row


def is_whole(folder: Path, names: Iterable[str]) -> bool:
    """Tell whether `write_folder` got to the end of these arrays: it writes them by name, shard after shard."""
    last = max(names)
    try:
        array = _as_array(zarr.open_group(folder, mode="r", zarr_format=3)[last])
    except (ValueError, KeyError, OSError):
        return False
    shards = ceil(array.shape[0] / (array.shards or array.chunks)[0])
    return sum(not path.is_dir() for path in (folder / last / "c").rglob("*")) == shards


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
    """Every file below a folder, with size and hash, durable from here on."""
    rows = []
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        rows.append(FileRow(path=name, bytes=path.stat().st_size, sha256=hash_file(path, sync=True)))
    for inner in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        sync_folder(inner)
    return rows


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder as a manifest names it, its files checked for presence and size, its arrays open.

    Attributes:
        dims: of each array, the dimension along which frames are concatenated.
        offsets: of each such dimension, (F+1,) int64.
    """

    path: Path
    arrays: Mapping[str, zarr.Array]
    dims: Mapping[str, str]
    offsets: Arrays
    remedy: str

    @classmethod
    def open(cls, path: Path, row: FolderRow, specs: Iterable[Array], clip_dim: int, remedy: str) -> Folder:
        """Open the folder that a manifest names.

        Args:
            specs: the arrays that it has.
            remedy: of whatever is damaged.

        Raises:
            CorruptStoreError: a file that is missing, of another size or not of the schema.
        """
        specs = tuple(specs)
        for file in row.files:
            problem = quick_check(path / file.path, file.bytes, file.sha256)
            if problem:
                raise CorruptStoreError(problem, path=path / file.path, remedy=remedy)
        dims = {spec.name: str(spec.dims[0]) for spec in specs}
        names = [*dims, *(f"offsets/{dim}" for dim in dict.fromkeys(dims.values()))]
        try:
            files = _StrictStore(path, {file.path: file.bytes for file in row.files}, remedy)
            group = zarr.open_group(files, mode="r", zarr_format=3)
            arrays = {name: _as_array(group[name]) for name in names}
            sizes = check_shapes({n: (a.shape, a.dtype) for n, a in arrays.items()}, specs, clip_dim=clip_dim)
            for array in arrays.values():
                files.expect_chunks_of(array)
            offsets = {name: np.asarray(arrays.pop(name)[:]) for name in names if name.startswith("offsets/")}
            check_offsets(offsets, sizes)
        except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
            raise CorruptStoreError(f"damaged partition: {error}", path=path, remedy=remedy) from error
        return cls(path, arrays, dims, {name.removeprefix("offsets/"): a for name, a in offsets.items()}, remedy)

    def read(self, name: str, position: int) -> np.ndarray:
        """The rows of one array that are of the frame at a position.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        start, stop = self.offsets[self.dims[name]][position : position + 2]
        try:
            return np.asarray(self.arrays[name][int(start) : int(stop)])
        except (ValueError, KeyError, RuntimeError, OSError) as error:
            raise CorruptStoreError(
                f"array {name} cannot be read: {error}", path=self.path / name, remedy=self.remedy
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
    """Say what is wrong with a file of a partition, without reading large ones; None if nothing is.

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
