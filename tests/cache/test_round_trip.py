"""What is written is what is read, whatever the frames look like."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import random_array

from cache_schemas import SkippedRow
from ovps.cache import codecs
from ovps.cache.codecs.protocol import VoxelFeatures, codec_error
from ovps.cache.frame_data import CachedFrame
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.cache.writer import create_store, encode_frame, write_partition
from ovps.taxonomy import load_taxonomy
from tests.helpers.stores import written
from tests.helpers.synthetic_store import camera_row, provenance, vocabulary, write_synthetic_store

CLIP_DIM = 5
TAXONOMY = load_taxonomy("nuscenes")


def ragged_frame(seed: int, index: int, points: int, voxels: int, objects: int, seen: float, labelled: bool):
    """A frame without any sense, and its features in factors."""
    rng = np.random.default_rng(seed)
    voxels = min(voxels, points)
    weights = random_array((voxels, 7), density=0.6, dtype=np.float32, rng=rng).tocsr()
    weights = weights.multiply((rng.random(voxels) < seen)[:, None]).tocsr()
    weights.eliminate_zeros()
    features = VoxelFeatures(rng.normal(size=(7, CLIP_DIM)).astype(np.float32), weights)
    objects = objects if labelled else 0
    frame = CachedFrame(
        token=f"token-{index}",
        scene="scene",
        subset="train",
        index=index,
        timestamp_us=10**15 + index,
        xyz=rng.normal(size=(points, 3)).astype(np.float32),
        intensity=rng.random(points).astype(np.float32),
        point_voxel=np.sort(rng.integers(0, voxels, points)),
        views=rng.integers(0, 3, points).astype(np.uint8),
        label=rng.integers(0, 32000, points).astype(np.uint32) if labelled else None,
        coords=rng.integers(0, 480, (voxels, 3)).astype(np.int32),
        valid=features.valid,
        clip=features.dense(),
        object_class=rng.integers(1, 17, objects).astype(np.uint8),
        object_instance=rng.integers(0, 2**32, objects).astype(np.uint32),
        object_points=rng.integers(1, 99, objects).astype(np.int32),
        object_seen_points=rng.integers(0, 9, objects).astype(np.int32),
        object_embedding=rng.normal(size=(objects, CLIP_DIM)).astype(np.float32),
        global_from_lidar=rng.normal(size=(4, 4)),
        cameras=(camera_row("FRONT", 1241, 376, seen=seed % 7),) * (seed % 3),
        beyond_range=seed % 5,
    )
    return frame, features


ragged = st.tuples(
    st.integers(1, 60),  # points
    st.integers(1, 30),  # voxels
    st.integers(0, 4),  # objects
    st.sampled_from([0.0, 0.5, 1.0]),  # share of the voxels that are seen
    st.booleans(),  # labelled
)


@settings(max_examples=12, deadline=None)
@given(st.lists(ragged, min_size=1, max_size=3), st.sampled_from(["dense", "cells"]), st.integers(0, 2**32 - 1))
def test_write_then_read(shapes, codec, seed):
    frames = [ragged_frame(seed + i, i, *shape) for i, shape in enumerate(shapes)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        create_store(
            storage_of(path), provenance(clip_dim=CLIP_DIM, codec=codec), TAXONOMY, vocabulary(clip_dim=CLIP_DIM)
        )
        row = write_partition(
            storage_of(path), "scene.000000", "scene", [encode_frame(*frame, codecs.get(codec)) for frame in frames]
        )
        store = Store.open(path)
        assert [ref.token for ref in store.frames] == [frame.token for frame, _ in frames]
        for ref, stored, (frame, features) in zip(store.frames, row.frames, frames, strict=True):
            read = store.read(ref)
            assert_same(read, frame, but=("clip",))
            halved = features.cells.astype(np.float16).astype(np.float32)
            expected = features.weights @ halved if codec == "cells" else frame.clip.astype(np.float16)
            np.testing.assert_array_equal(read.clip, np.asarray(expected, np.float32))
            assert np.abs(read.clip - frame.clip).max() <= stored.codec_max_error
        assert verify_store(path) == []


def assert_same(read: CachedFrame, written: CachedFrame, but: tuple[str, ...] = ()) -> None:
    for field in fields(CachedFrame):
        got, expected = getattr(read, field.name), getattr(written, field.name)
        if field.name in but:
            continue
        if isinstance(expected, np.ndarray):
            assert got.dtype == expected.dtype, field.name
            np.testing.assert_array_equal(got, expected, err_msg=field.name)
        else:
            assert got == expected, field.name


@pytest.mark.parametrize("codec", ["dense", "cells"])
def test_the_same_frames_give_the_same_bytes(tmp_path, codec):
    first, second = (write_synthetic_store(tmp_path / name, frames=2, points=200, codec=codec) for name in "ab")
    assert written(first) == written(second)


def test_cells_equal_dense_within_the_rounding_of_float16(tmp_path):
    dense, cells = (
        Store.open(write_synthetic_store(tmp_path / codec, frames=2, points=300, codec=codec))
        for codec in ("dense", "cells")
    )
    for a, b in zip(dense.frames, cells.frames, strict=True):
        a, b = dense.read(a), cells.read(b)
        assert_same(a, b, but=("clip",))
        np.testing.assert_allclose(a.clip, b.clip, rtol=2**-10, atol=2**-24)


def test_a_cell_that_no_voxel_uses_is_not_stored():
    weights = random_array((4, 9), density=0.0, dtype=np.float32).tolil()
    weights[1, 3] = 0.25
    weights[1, 8] = 0.75
    features = VoxelFeatures(np.eye(9, 6, dtype=np.float32), weights.tocsr())
    cells = codecs.get("cells")
    arrays = cells.encode(features, {})
    assert arrays["clip/cells"].shape == (2, 6)
    np.testing.assert_array_equal(cells.decode(arrays, features.valid, {}), features.dense())
    assert codec_error(cells.factors(arrays, features.valid, {}), features).largest == 0


def test_shards_and_chunks_do_not_change_what_is_read(tmp_path, monkeypatch, store):
    monkeypatch.setattr("ovps.cache.folder.CHUNK_BYTES", 256)
    monkeypatch.setattr("ovps.cache.folder.SHARD_BYTES", 1024)
    small = write_synthetic_store(tmp_path / "small", frames=2, points=200)
    assert len(list(small.rglob("points/xyz/c/*/*"))) > 2
    assert verify_store(small) == []
    one, other = Store.open(store), Store.open(small)
    for a, b in zip(one.frames, other.frames, strict=True):
        assert_same(other.read(b), one.read(a))


def test_a_store_travels_to_a_worker(store):
    here = Store.open(store)
    frame = here.read(here.frames[1])
    there = pickle.loads(pickle.dumps(here))
    assert_same(there.read(there.frames[1]), frame)
    assert there.vocabulary.names == here.vocabulary.names


def test_frames_are_sorted_by_scene_then_index(store):
    frames = Store.open(store).frames
    assert [(f.scene, f.index) for f in frames] == [(f"synthetic-{s:04d}", i) for s in (0, 1) for i in (0, 1)]


def test_labelled_and_unlabelled_frames_in_one_partition(tmp_path):
    frames = [ragged_frame(i, i, 20, 8, 2, 1.0, labelled) for i, labelled in enumerate((True, False))]
    path = tmp_path / "store"
    create_store(storage_of(path), provenance(clip_dim=CLIP_DIM), TAXONOMY, vocabulary(clip_dim=CLIP_DIM))
    write_partition(
        storage_of(path), "scene.000000", "scene", [encode_frame(*frame, codecs.get("cells")) for frame in frames]
    )
    store = Store.open(path)
    assert store.read(store.frames[0]).label is not None
    assert store.read(store.frames[1]).label is None


def test_a_partition_of_nothing_but_quarantined_frames(tmp_path):
    path = tmp_path / "store"
    create_store(storage_of(path), provenance(), TAXONOMY, vocabulary())
    write_partition(
        storage_of(path), "scene.000000", "scene", [], [SkippedRow(token="t", kind="frame", reason="cut off")]
    )
    assert Store.open(path).frames == ()
    assert verify_store(path) == []
