"""The frames of a store by split, and what is said where there are none."""

from __future__ import annotations

import shutil

import pytest

from ovps.cache.reader import Store
from ovps.errors import ConfigError, CorruptStoreError
from tests.helpers.synthetic_store import write_synthetic_store


def test_frames_of_splits_are_those_that_say_so(tmp_path):
    store = Store.open(write_synthetic_store(tmp_path / "zarr", frames=3))
    assert store.frames_of(None) == list(store.frames)
    for split in ("train", "val"):
        assert store.frames_of([split]) == [ref for ref in store.frames if ref.subset == split]
    assert store.frames_of(("val", "train")) == list(store.frames)
    with pytest.raises(ConfigError, match=r"no frames of test; it has train, val.*Look again") as told:
        store.frames_of(["test"], "Look again")
    with pytest.raises(ConfigError, match="no frames of vall; it has"):
        store.frames_of(["train", "vall"])
    assert told.value.exit_code == 2


def test_a_split_all_of_whose_manifests_are_lost_is_told_as_that(tmp_path):
    path = write_synthetic_store(tmp_path / "zarr", frames=2)
    store = Store.open(path)
    for partition in {ref.partition for ref in store.frames if ref.subset == "val"}:
        (path / "manifest" / f"{partition}.parquet").unlink()
    with pytest.raises(
        ConfigError, match=rf"no frames of val; it has train, and \d partitions? without a manifest.*verify {path}`"
    ):
        Store.open(path).frames_of(["val"])


def test_a_store_that_has_lost_its_manifests_is_damaged_and_one_without_a_frame_is_not(tmp_path):
    path = write_synthetic_store(tmp_path / "zarr", frames=2)
    for file in (path / "manifest").iterdir():
        file.unlink()
    for subsets in (["val"], None):
        with pytest.raises(
            CorruptStoreError, match=r"manifests are lost.*`ovps precompute` again.*cache repair"
        ) as told:
            Store.open(path).frames_of(subsets)
        assert told.value.exit_code == 4
    shutil.rmtree(path / "partitions")
    with pytest.raises(ConfigError, match=r"holds no frame yet.*ovps precompute"):
        Store.open(path).frames_of(["val"])
