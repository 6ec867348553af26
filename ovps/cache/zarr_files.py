"""The files of one folder of a store as Zarr wants them: written with their hashes noted, read with distrust."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import numpy as np
from zarr.abc.store import ByteRequest, Store
from zarr.core import sync
from zarr.core.buffer import Buffer, BufferPrototype

from cache_schemas import FileRow, FolderRow
from ovps.cache.layout import partition_key
from ovps.cache.read_through import read_through
from ovps.cache.shards import Shards, Span, Table, ends_in_checksum
from ovps.cache.storage import Storage
from ovps.errors import CorruptStoreError
from ovps.shortage import faults

SMALL = 2**20  # bytes of a file that is hashed before a part of it is believed


def start_io() -> None:
    """Start the thread that zarr reads and writes in, before there is anything for it to do.

    Raises:
        RuntimeError: the system refuses it. Zarr itself would leave a coroutine that nobody awaits, and a loop that
            it cannot end when the process does: a warning and a traceback below the error.
    """
    try:
        sync._get_loop()
    except RuntimeError:
        loop, sync.loop[0], sync.iothread[0] = sync.loop[0], None, None
        if loop is not None:
            loop.close()
        raise


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
    """The files of a new folder. Size and hash of each are those of the bytes that were to be written.

    What zarr says of groups and arrays is kept until `write_described`: zarr writes several files at once, and where
    one is refused does not wait for the others, which would be written into a folder that has been deleted.
    """

    def __init__(self, storage: Storage, key: str) -> None:
        super().__init__(storage, key, read_only=False)
        self._described: dict[str, bytes] = {}
        self._rows: dict[str, FileRow] = {}

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if key not in self._described:
            return None
        if byte_range is not None:
            raise NotImplementedError
        return prototype.buffer.from_bytes(self._described[key])

    async def exists(self, key: str) -> bool:
        return key in self._described

    async def set(self, key: str, value: Buffer) -> None:
        self._described[key] = value.to_bytes()

    def write_described(self) -> None:
        """Write what zarr has said of groups and arrays since the last call."""
        for key in sorted(self._described.keys() - self._rows.keys()):
            self._put(key, self._described[key])

    def write_shard(self, shards: Shards, data: Table, number: int) -> None:
        """Write one shard of an array; may be called in several threads at once."""
        self._put(shards.key(number), shards.pack(data, number))

    def _put(self, key: str, content: bytes) -> None:
        self._storage.write(f"{self._key}/{key}", content)
        self._rows[key] = FileRow(path=key, bytes=len(content), sha256=_sha256(content))

    def rows(self) -> tuple[FileRow, ...]:
        """Every file, sorted by path."""
        return tuple(self._rows[key] for key in sorted(self._rows, key=PurePosixPath))


class ReadFiles(_Files):
    """The files of a folder, each of the size that its manifest states, each shard with all of its chunks.

    Zarr reads what an array is, and the rows come from `read`. Every chunk of a partition has been written, so one that
    is not there is lost. Damage is seen by the checksums, but for another shard of the same size in its place: of one
    chunk alone, as small files are, even its index is the same.
    """

    def __init__(self, storage: Storage, row: FolderRow, remedy: str) -> None:
        super().__init__(storage, partition_key(row.folder), read_only=True)
        self._rows, self._remedy = {file.path: file for file in row.files}, remedy
        self._kept = None if storage.local else read_through()
        self._sound: set[str] = set()  # small files that have been hashed

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

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if byte_range is not None:
            raise NotImplementedError
        return prototype.buffer.from_bytes(await asyncio.to_thread(self._hashed, key))

    def read(self, shards: Shards, start: int, stop: int) -> np.ndarray:
        """Rows of an array.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        found = np.empty((stop - start, *shards.row), shards.dtype)
        chunks = range(start // shards.rows, -(-stop // shards.rows)) if found.size else range(0)
        spans = {number: self._spans(shards, number) for number in {chunk // shards.slots for chunk in chunks}}

        def unpacked(chunk: int) -> np.ndarray:
            number, slot = divmod(chunk, shards.slots)
            with self._told(shards.key(number)) as key:
                return shards.unpack(self._read(key, spans[number][slot]))

        for chunk, values in zip(chunks, self._storage.each(unpacked, chunks), strict=True):
            first = chunk * shards.rows
            low, high = max(start, first), min(stop, first + shards.rows)
            found[low - start : high - start] = values[low - first : high - first]
        return found

    def _spans(self, shards: Shards, number: int) -> list[Span]:
        with self._told(shards.key(number)) as key:
            size = self._row(key).bytes
            return shards.index(self._read(key, Span(max(0, size - shards.index_bytes), size)), number)

    @contextmanager
    def _told(self, key: str) -> Iterator[str]:
        try:
            yield key
        except faults(ValueError, RuntimeError, OSError) as error:
            raise self._corrupt(key, f"cannot be read: {error}") from error

    def _row(self, key: str) -> FileRow:
        if key not in self._rows:
            raise self._corrupt(key, "missing file")
        return self._rows[key]

    def _read(self, name: str, span: Span | None) -> bytes:
        small = self._row(name).bytes <= SMALL
        if span and small and name not in self._sound:
            content = self._hashed(name)
            self._sound.add(name)
            return content[slice(*span)]
        if self._kept is None:
            return self._fetch(name, span)
        if span and small:
            return self._read(name, None)[slice(*span)]  # it is kept whole
        sha256 = self._rows[name].sha256
        piece = "whole" if span is None else f"{span.start}-{span.stop}"
        # parts of a shard, its chunks and its index, end in their CRC-32C
        sound = ends_in_checksum if span else lambda content: _sha256(content) == sha256
        return self._kept.get(f"{sha256}-{piece}", lambda: self._fetch(name, span), sound)

    def _hashed(self, name: str) -> bytes:
        """The whole of a file."""
        content = self._read(name, None)
        if _sha256(content) != self._rows[name].sha256:
            raise self._corrupt(name, "not the bytes that were written")
        return content

    def _fetch(self, name: str, span: Span | None) -> bytes:
        try:
            content = self._storage.get(f"{self._key}/{name}", span)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise self._corrupt(name, "missing file") from error
        wanted = span.stop - span.start if span else self._rows[name].bytes
        if len(content) != wanted:
            raise self._corrupt(name, f"{len(content)} bytes where {wanted} were written")
        return content

    def _corrupt(self, name: str, message: str) -> CorruptStoreError:
        return CorruptStoreError(message, path=self._storage.at(f"{self._key}/{name}"), remedy=self._remedy)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
