"""Shards of Zarr arrays: packed and unpacked in the thread that asks.

Zarr does it on one event loop for the whole process, at about a millisecond for every array of a frame, and packs on no
more than one core. What is packed here is byte for byte what zarr writes.

https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple, Protocol

import google_crc32c  # zarr's own
import numcodecs  # zarr's own
import numpy as np
import zarr

_NO_CHUNK = 2**64 - 1  # in the index of a shard
_CHECKSUM = 4  # bytes of a CRC-32C
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


class Compressor(Protocol):
    """One of numcodecs."""

    def encode(self, buf: Any) -> bytes: ...

    def decode(self, buf: Any) -> bytes: ...


class Span(NamedTuple):
    """Bytes of a file from a start to a stop."""

    start: int
    stop: int


class Table(Protocol):
    """Rows that are had slice by slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, wanted: slice) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Shards:
    """The makeup of the shards of an array: cut along its first axis, chunks compressed and ending in a checksum.

    Attributes:
        path: of the array within its group.
        length: rows of the array.
        rows: of a chunk; a last one that is not full is filled up with zeros.
        slots: chunks that a shard has room for.
        row: shape of a row.
        order: of the axes as they lie in a chunk.
    """

    path: str
    length: int
    rows: int
    slots: int
    row: tuple[int, ...]
    dtype: np.dtype
    order: tuple[int, ...]
    compressor: Compressor

    @classmethod
    def of(cls, array: zarr.Array) -> Shards:
        """Read the makeup from the metadata of an array.

        Raises:
            ValueError: it is another one.
        """
        about: Any = array.metadata.to_dict()
        match about:
            case {
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [shard_rows, *shard_row]}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [rows, *row], **sharding}}],
            } if shard_row == row == [max(1, size) for size in array.shape[1:]] and shard_rows % rows == 0:
                order, compressor = _codecs(sharding, array.ndim)
            case _:
                raise ValueError(f"{array.path} is not cut into shards along its first axis")
        dtype = np.dtype(array.dtype).newbyteorder("<")
        return cls(
            array.path, array.shape[0], rows, shard_rows // rows, tuple(array.shape[1:]), dtype, order, compressor
        )

    @property
    def count(self) -> int:
        """Number of shards; none where rows hold nothing."""
        return all(self.row) * ceil(self.length / (self.rows * self.slots))

    @property
    def index_bytes(self) -> int:
        """Length of the index that a shard ends in."""
        return 16 * self.slots + _CHECKSUM

    def key(self, number: int) -> str:
        """Key of a shard."""
        return "/".join([self.path, "c", str(number), *["0"] * len(self.row)])

    def pack(self, data: Table, number: int) -> bytes:
        """The content of a shard of an array."""
        index = np.full((self.slots, 2), _NO_CHUNK, "<u8")
        parts, offset = [], 0
        for slot in range(self._written(number)):
            first = (number * self.slots + slot) * self.rows
            parts.append(_checked(self.compressor.encode(self._laid(data[first : first + self.rows]))))
            index[slot] = offset, len(parts[-1])
            offset += len(parts[-1])
        return b"".join([*parts, _checked(index.tobytes())])

    def _laid(self, chunk: np.ndarray) -> np.ndarray:
        """A chunk as it lies in its bytes."""
        if len(chunk) < self.rows:
            chunk = np.concatenate([chunk, np.zeros((self.rows - len(chunk), *self.row), self.dtype)])
        return np.ascontiguousarray(chunk.transpose(self.order), self.dtype)

    def index(self, tail: bytes, number: int) -> list[Span]:
        """Find where each chunk lies in a shard, by its last `index_bytes`.

        Raises:
            ValueError: not the bytes that were written, or a chunk that is not there: zarr would read zeros.
        """
        index = np.frombuffer(_unchecked(tail), "<u8").reshape(self.slots, 2)[: self._written(number)]
        lost = np.flatnonzero((index == _NO_CHUNK).any(axis=1))
        if len(lost):
            raise ValueError(f"a shard without its chunk {lost[0]}")
        return [Span(start, start + length) for start, length in index.tolist()]

    def _written(self, number: int) -> int:
        """Chunks that a shard holds: the last one of an array is seldom full."""
        return min(self.slots, ceil(self.length / self.rows) - number * self.slots)

    def unpack(self, content: bytes) -> np.ndarray:
        """The rows of a chunk.

        Raises:
            ValueError, RuntimeError: not the bytes that were written.
        """
        shape = (self.rows, *self.row)
        values = np.frombuffer(self.compressor.decode(_unchecked(content)), self.dtype)
        laid = values.reshape([shape[axis] for axis in self.order])
        return laid.transpose(np.argsort(self.order))


def _little(codec: Mapping[str, Any]) -> bool:
    return codec.get("configuration", {}).get("endian", "little") == "little"


def _codecs(sharding: Mapping[Any, Any], ndim: int) -> tuple[tuple[int, ...], Compressor]:
    """The order of axes and the compressor of the chunks of a shard.

    Raises:
        ValueError: chunks or index are made up in another way.
    """
    match sharding:
        case {
            "codecs": [*first, {"name": "bytes"} as plain, packing, {"name": "crc32c"}],
            "index_codecs": [{"name": "bytes"} as index, {"name": "crc32c"}],
            "index_location": "end",
        } if _little(plain) and _little(index):
            pass
        case _:
            raise ValueError("chunks without a checksum, or an index of another kind")
    match first:
        case []:
            order = tuple(range(ndim))
        case [{"name": "transpose", "configuration": {"order": axes}}]:
            order = tuple(axes)
        case _:
            raise ValueError(f"unknown codecs {first}")
    match packing:
        case {"name": "zstd", "configuration": {"level": level, "checksum": checksum}}:
            return order, numcodecs.Zstd(level, checksum)
        case {
            "name": "blosc",
            "configuration": {"cname": name, "clevel": level, "shuffle": shuffle, "blocksize": size},
        }:
            # an item of what it shuffles is one of the array
            return order, numcodecs.Blosc(name, level, _SHUFFLES.index(shuffle), size)
        case _:
            raise ValueError(f"unknown compressor {packing}")


def _checked(content: bytes) -> bytes:
    return content + google_crc32c.value(content).to_bytes(_CHECKSUM, "little")


def _unchecked(content: bytes) -> memoryview:
    """Content without the checksum that it ends in."""
    if not ends_in_checksum(content):
        raise ValueError("a checksum is wrong")
    return memoryview(content)[:-_CHECKSUM]


def ends_in_checksum(content: bytes) -> bool:
    """Tell whether bytes are followed by their CRC-32C."""
    return int.from_bytes(content[-_CHECKSUM:], "little") == google_crc32c.value(content[:-_CHECKSUM])
