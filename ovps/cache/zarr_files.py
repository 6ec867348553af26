"""The files of one folder of a store as Zarr wants them: written with their hashes noted, read with distrust."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from math import ceil
from pathlib import PurePosixPath

import google_crc32c  # zarr's own
import numpy as np
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from cache_schemas import FileRow, FolderRow
from ovps.cache.layout import partition_key
from ovps.cache.read_through import read_through
from ovps.cache.storage import Storage
from ovps.errors import CorruptStoreError

SMALL = 2**20  # bytes of a file that is hashed before a part of it is believed
_NO_CHUNK = 2**64 - 1  # in the index of a shard


class _Files(Store):
    """Below one key of a storage. Partitions are read and written array by array: nothing is listed or deleted."""

    supports_writes = True
    supports_deletes = False
    supports_listing = False

    def __init__(self, storage: Storage, key: str, *, read_only: bool) -> None:
        super().__init__(read_only=read_only)
        self._storage, self._key = storage, key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and (self._storage, self._key) == (other._storage, other._key)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        raise NotImplementedError

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        raise NotImplementedError

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError


class WrittenFiles(_Files):
    """The files of a new folder. Size and hash of each are those of the bytes that were to be written."""

    def __init__(self, storage: Storage, key: str) -> None:
        super().__init__(storage, key, read_only=False)
        self._rows: dict[str, FileRow] = {}

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if key not in self._rows:
            return None
        if byte_range is not None:
            raise NotImplementedError
        content = await asyncio.to_thread(self._storage.get, f"{self._key}/{key}")
        return prototype.buffer.from_bytes(content)

    async def exists(self, key: str) -> bool:
        return key in self._rows

    async def set(self, key: str, value: Buffer) -> None:
        content = value.as_numpy_array().data.cast("B")  # where it lies: a shard is large
        await asyncio.to_thread(self._storage.write, f"{self._key}/{key}", content)
        sha256 = await asyncio.to_thread(hashlib.sha256, content)
        self._rows[key] = FileRow(path=key, bytes=len(content), sha256=sha256.hexdigest())

    def rows(self) -> tuple[FileRow, ...]:
        """Every file, sorted by path."""
        return tuple(self._rows[key] for key in sorted(self._rows, key=PurePosixPath))


class ReadFiles(_Files):
    """The files of a folder, each of the size that its manifest states, each shard with all of its chunks.

    Every chunk of a partition has been written, so one that is not there is lost. Zarr would read zeros: of an absent
    shard, of an empty one, and of one whose index lists no such chunk. Other damage is seen by the checksums, but for
    another shard of the same size in its place: of one chunk alone, as small files are, even its index is the same.
    """

    def __init__(self, storage: Storage, row: FolderRow, remedy: str) -> None:
        super().__init__(storage, partition_key(row.folder), read_only=True)
        self._rows, self._remedy = {file.path: file for file in row.files}, remedy
        self._kept = None if storage.local else read_through()
        self._sound: set[str] = set()  # small files that have been hashed
        self._chunks: dict[str, tuple[int, int]] = {}  # of each shard: chunks written, chunks that would fit

    def check(self) -> None:
        """Look at every file, without reading large ones.

        Flipped bytes inside a shard are seen by its own checksums when it is read, but those of the small `zarr.json`
        have none.

        Raises:
            CorruptStoreError: a file that is missing, or of another size; a `zarr.json` of other content.
        """
        there = self._storage.entries(self._key)
        for name, file in self._rows.items():
            if name not in there:
                raise self._corrupt(name, "missing file")
            if there[name].bytes != file.bytes:
                raise self._corrupt(name, f"{there[name].bytes} bytes, expected {file.bytes}")
        small = [name for name in self._rows if PurePosixPath(name).name == "zarr.json"]
        list(self._storage.each(self._hashed, small))

    def expect_chunks_of(self, array: zarr.Array) -> None:
        """Check from now on that the shards of this array hold their chunks; both are cut along the first axis."""
        if array.shards is None:
            raise ValueError(f"{array.path} has no shards")
        rows, shard_rows = array.chunks[0], array.shards[0]
        for number, start in enumerate(range(0, array.shape[0], shard_rows)):
            key = "/".join([array.path, "c", str(number), *["0"] * (array.ndim - 1)])
            self._chunks[key] = (ceil(min(array.shape[0] - start, shard_rows) / rows), shard_rows // rows)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        span = self._span(key, byte_range)
        content = await asyncio.to_thread(lambda: self._read(key, span) if span else self._hashed(key))
        if key in self._chunks and not isinstance(byte_range, RangeByteRequest):
            self._check_index(key, content)
        return prototype.buffer.from_bytes(content)

    def _span(self, key: str, byte_range: ByteRequest | None) -> tuple[int, int] | None:
        """Start and stop of what is asked for; the manifest knows the size."""
        if key not in self._rows:
            raise self._corrupt(key, "missing file")
        size = self._rows[key].bytes
        match byte_range:
            case RangeByteRequest():
                return byte_range.start, byte_range.end
            case SuffixByteRequest():
                return max(0, size - byte_range.suffix), size
            case OffsetByteRequest():
                return byte_range.offset, size
            case _:
                return None

    def _read(self, name: str, span: tuple[int, int] | None) -> bytes:
        small = self._rows[name].bytes <= SMALL
        if span and small and name not in self._sound:
            content = self._hashed(name)
            self._sound.add(name)
            return content[slice(*span)]
        if self._kept is None:
            return self._fetch(name, span)
        if span and small:
            return self._read(name, None)[slice(*span)]  # it is kept whole
        sha256 = self._rows[name].sha256
        piece = "whole" if span is None else f"{span[0]}-{span[1]}"
        # parts of a shard, its chunks and its index, end in their CRC-32C
        sound = _ends_in_checksum if span else lambda content: _sha256(content) == sha256
        return self._kept.get(f"{sha256}-{piece}", lambda: self._fetch(name, span), sound)

    def _hashed(self, name: str) -> bytes:
        """The whole of a file: zarr reads a shard so where it wants all of it."""
        content = self._read(name, None)
        if _sha256(content) != self._rows[name].sha256:
            raise self._corrupt(name, "not the bytes that were written")
        return content

    def _fetch(self, name: str, span: tuple[int, int] | None) -> bytes:
        try:
            content = self._storage.get(f"{self._key}/{name}", span)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise self._corrupt(name, "missing file") from error
        wanted = span[1] - span[0] if span else self._rows[name].bytes
        if len(content) != wanted:
            raise self._corrupt(name, f"{len(content)} bytes where {wanted} were written")
        return content

    def _check_index(self, key: str, tail: bytes) -> None:
        """A shard ends with two uint64 per chunk, offset and length, and their CRC-32C; all ones: no such chunk.

        https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
        """
        written, slots = self._chunks[key]
        index = np.frombuffer(tail[-16 * slots - 4 : -4], "<u8").reshape(slots, 2)
        lost = np.flatnonzero((index[:written] == _NO_CHUNK).any(axis=1))
        if len(lost):
            raise self._corrupt(key, f"a shard without its chunk {lost[0]}")

    def _corrupt(self, name: str, message: str) -> CorruptStoreError:
        return CorruptStoreError(message, path=self._storage.at(f"{self._key}/{name}"), remedy=self._remedy)


def _ends_in_checksum(content: bytes) -> bool:
    return int.from_bytes(content[-4:], "little") == google_crc32c.value(content[:-4])


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
