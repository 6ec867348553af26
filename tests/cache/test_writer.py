"""Stores are made once, written by one run at a time, and survive a disk that refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from ovps.cache.disk import LocalStorage
from ovps.cache.info import store_info
from ovps.cache.layout import new_folder
from ovps.cache.leftovers import remove_leftovers
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.cache.writer import create_store, write_partition
from ovps.errors import CacheError, CorruptStoreError, ProvenanceError, StorageError
from ovps.taxonomy import load_taxonomy
from ovps.training.config import load_config
from pipelines.train import plan
from tests.helpers.stores import contents
from tests.helpers.synthetic_store import provenance, vocabulary, write_synthetic_store

TAXONOMY = load_taxonomy("nuscenes")


def test_two_encoders_do_not_mix(store):
    before = contents(store)
    with pytest.raises(ProvenanceError) as caught:
        create_store(storage_of(store), provenance(encoder="RN50", weights_sha256="1" * 64), TAXONOMY, vocabulary())
    for value in ("'synthetic'", "'RN50'", "0" * 64, "1" * 64):
        assert value in str(caught.value)
    assert contents(store) == before


def test_creating_a_store_again_keeps_it(store):
    before = contents(store)
    create_store(storage_of(store), Store.open(store).provenance, TAXONOMY, vocabulary(seed=1))
    assert contents(store) == before


def test_a_folder_of_other_things_is_not_made_a_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(CacheError, match=r"thesis\.tex"):
        create_store(storage_of(tmp_path), provenance(), TAXONOMY, vocabulary())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_one_run_at_a_time(store):
    with storage_of(store).exclusive(), pytest.raises(CacheError, match="another run"), storage_of(store).exclusive():
        pass
    with storage_of(store).exclusive():
        pass
    assert verify_store(store) == []


def test_leftovers_go(store):
    before = contents(store)
    unnamed = f"partitions/{new_folder('synthetic-0000.000000')}"  # of a partition that is there
    for place in (f"{unnamed}/points/xyz", "manifest/.tmp-2", ".tmp-3"):
        (store / place).parent.mkdir(parents=True, exist_ok=True)
        (store / place).write_text("half")
    remove_leftovers(storage_of(store))
    assert contents(store) == before


def test_a_partition_replaces_one_of_its_name(store):
    kept = len(Store.open(store).frames)
    write_partition(storage_of(store), "synthetic-0000.000000", "synthetic-0000", [])
    assert verify_store(store) == []
    assert len(Store.open(store).frames) == kept - 2


@pytest.mark.parametrize("limit", [300, 3000])  # fails in the small files, and in the large ones
def test_a_full_disk(store, limit):
    before = contents(store)
    code = f"""
import resource, sys
from pathlib import Path
from ovps.errors import StorageError
from tests.helpers import synthetic_store as s
from ovps.cache.writer import write_partition
real = s.write_partition
def limited(path, name, *rest):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    real(path, "more." + name, *rest)
s.write_partition = limited
try:
    s.write_synthetic_store(Path(sys.argv[1]), frames=2, points=400, seed=5)
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, check=False)
    assert done.returncode == StorageError.exit_code, done.stderr
    assert "File too large" in done.stdout
    assert "more.synthetic-0000.000000" in done.stdout
    assert "run the same command again" in done.stdout
    assert contents(store) == before
    assert verify_store(store) == []


def test_a_disk_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        create_store(storage_of(tmp_path / "file" / "store"), provenance(), TAXONOMY, vocabulary())
    assert "file" in str(caught.value.path)


def test_info(tmp_path):
    store = write_synthetic_store(tmp_path / "s", frames=3, points=200, codec="dense")
    info = store_info(store)
    assert (info.frames, info.partitions, info.points) == (6, 4, 1200)
    assert info.subsets == {"train": 3, "val": 3}
    assert info.frames_by_scene == {"synthetic-0000": 3, "synthetic-0001": 3}
    assert info.labelled_frames == 6
    files = [p for p in (store / "partitions").rglob("*") if p.is_file()]
    assert info.bytes == sum(info.bytes_by_array.values()) == sum(p.stat().st_size for p in files)
    assert info.clip_bytes == info.bytes_by_array["clip/dense"]
    assert 0 < info.codec_mean_error < info.codec_max_error < 2**-10
    assert info.clip_bytes_dense_fp16 == info.valid_voxels * 16 * 2
    assert info.model_dump_json()
    assert info.image_sizes == {"32x24": 6, "64x48": 6}


def test_a_store_holds_its_taxonomy_whole(tmp_path):
    """As if it had been made of a user's own taxonomy, whose file is gone."""
    nuscenes = load_taxonomy("nuscenes")
    mine = nuscenes.model_copy(update={"name": "mine"})
    opened = Store.open(write_synthetic_store(tmp_path / "own", frames=1, points=120, taxonomy=mine))
    assert opened.taxonomy == nuscenes.model_copy(update={"name": "mine", "raw_names": {}})
    split = tmp_path / "split.yaml"
    split.write_text("name: mine_b\ntaxonomy: mine\nnovel: [bus]\n")
    config = load_config("driveworld", [f"split={split}"])
    _, info = plan(opened, config)
    assert info.taxonomy == opened.taxonomy


def test_a_taxonomy_that_is_not_the_one_of_the_provenance(store):
    file = store / "store.json"
    info = json.loads(file.read_text())
    del info["sha256"]  # of an earlier version, which did not state it
    info["taxonomy"]["classes"][0]["name"] = "something else"
    file.write_text(json.dumps(info))
    with pytest.raises(CorruptStoreError, match="not the one that the provenance names"):
        Store.open(store)


def test_nothing_is_written_after_a_refusal(store, monkeypatch):
    """Zarr writes what it says of an array and of its groups at once, and does not wait for all when one fails."""
    before = contents(store)
    real = LocalStorage.write

    def refusing(self, key, content):
        about = json.loads(bytes(content)) if key.endswith("/zarr.json") else {}
        if about.get("node_type") == "array":
            raise StorageError("the disk is full", path=self.at(key))
        if "/" in key.partition(".zarr/")[2]:  # a group of arrays, on a slow disk
            time.sleep(0.3)
        real(self, key, content)

    monkeypatch.setattr(LocalStorage, "write", refusing)
    with pytest.raises(StorageError, match="the disk is full"):
        write_synthetic_store(store, frames=2, points=400, seed=5)
    time.sleep(0.5)
    assert contents(store) == before
