"""Shards that are packed here are byte for byte zarr's, and zarr's are unpacked as zarr does."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec
from zarr.storage import MemoryStore

from cache_schemas import FolderRow
from ovps.cache.disk import LocalStorage
from ovps.cache.folder import Rows, write_folder
from ovps.cache.layout import partition_key
from ovps.cache.shards import Shards
from ovps.cache.zarr_files import ReadFiles
from ovps.errors import CorruptStoreError

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32"]
COMPRESSORS = {
    "zstd": lambda size: ZstdCodec(level=3),
    "blosc": lambda size: BloscCodec(typesize=size, cname="zstd", clevel=3, shuffle="shuffle"),
}


def made(data: np.ndarray, rows: int, slots: int, compressor: str, by_column: bool) -> tuple[zarr.Array, MemoryStore]:
    store = MemoryStore()
    array = zarr.create_group(store, zarr_format=3).create_array(
        "points/xyz",
        shape=data.shape,
        dtype=data.dtype,
        chunks=(rows, *data.shape[1:]),
        shards=(rows * slots, *data.shape[1:]),
        compressors=[COMPRESSORS[compressor](data.dtype.itemsize), Crc32cCodec()],
        filters=[TransposeCodec(order=tuple(reversed(range(data.ndim))))] if by_column else None,
        config={"write_empty_chunks": True},
    )
    return array, store


shapes = st.tuples(st.integers(1, 40)) | st.tuples(st.integers(1, 40), st.integers(1, 5))


@given(
    shapes.flatmap(lambda shape: st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, shape))),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from(sorted(COMPRESSORS)),
    st.booleans(),
    st.data(),
)
def test_the_bytes_are_those_of_zarr(data, rows, slots, compressor, by_column, drawn):
    array, store = made(data, rows, slots, compressor, by_column)
    array[:] = data
    cut = drawn.draw(st.integers(0, len(data)))
    shards = Shards.of(array)
    keys = [key for key in store._store_dict if "/c/" in key]
    assert sorted(keys) == sorted(shards.key(number) for number in range(shards.count))
    for number in range(shards.count):
        theirs = store._store_dict[shards.key(number)].to_bytes()
        assert shards.pack(Rows([data[:cut], data[cut:]]), number) == theirs
        spans = shards.index(theirs[-shards.index_bytes :], number)
        found = np.concatenate([shards.unpack(theirs[slice(*span)]) for span in spans])
        wanted = data[number * rows * slots :][: rows * slots]
        assert found[: len(wanted)].tobytes() == wanted.tobytes()
        assert found.dtype == data.dtype


def test_arrays_that_are_made_up_otherwise_are_refused():
    group = zarr.create_group(MemoryStore(), zarr_format=3)
    plain = group.create_array("plain", shape=(4,), chunks=(2,), dtype="int32")
    unchecked = group.create_array("unchecked", shape=(4,), chunks=(2,), shards=(4,), dtype="int32")
    with pytest.raises(ValueError, match="plain is not cut into shards"):
        Shards.of(plain)
    with pytest.raises(ValueError, match="without a checksum"):
        Shards.of(unchecked)


@pytest.fixture
def folder(tmp_path):
    """A folder whose one array has several shards, of several chunks, and what stands in it."""
    data = np.random.default_rng(0).integers(0, 2**16, (30_000, 768), np.uint16).view(np.float16)
    storage = LocalStorage(tmp_path)
    parts = Rows([data[:7], data[7:20_000], data[20_000:]])
    return storage, write_folder(storage, "part.zarr", {"clip/cells": parts}, {}, {"clip/cells": ("cells", "C")}), data


def opened(storage: LocalStorage, row: FolderRow) -> tuple[ReadFiles, Shards]:
    files = ReadFiles(storage, row, "Mend it")
    return files, Shards.of(zarr.open_group(files, mode="r", zarr_format=3)["clip/cells"])


def test_any_rows_of_a_folder(folder):
    storage, row, data = folder
    files, shards = opened(storage, row)
    assert shards.count == 3
    edge = shards.rows * shards.slots
    for start, stop in [(0, 30_000), (5, 5), (edge - 1, edge + 1), (edge, 2 * edge), (340, 342), (29_999, 30_000)]:
        found = files.read(shards, start, stop)
        assert found.tobytes() == data[start:stop].tobytes()
        assert found.flags.writeable
    theirs = zarr.open_group(storage.at(partition_key("part.zarr")), mode="r")["clip/cells"]
    assert theirs[edge - 1 : edge + 1].tobytes() == data[edge - 1 : edge + 1].tobytes()


def test_a_flipped_byte_is_told_with_its_shard(folder):
    storage, row, _ = folder
    files, shards = opened(storage, row)
    path = storage.root / partition_key("part.zarr") / shards.key(1)
    content = path.read_bytes()
    for place in (0, len(content) // 2, -1, -shards.index_bytes):
        spoilt = bytearray(content)
        spoilt[place] ^= 1
        path.write_bytes(spoilt)
        with pytest.raises(CorruptStoreError, match=r"checksum is wrong(.|\n)*Mend it") as caught:
            files.read(shards, 0, 30_000)
        assert caught.value.path == str(path)
    path.write_bytes(content)
    assert len(files.read(shards, 0, 30_000)) == 30_000
