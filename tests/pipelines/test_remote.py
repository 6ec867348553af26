"""Both stages on a store in a bucket: precompute with dask workers, killed and resumed, late labels, training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from uuid import uuid4

import pytest

from ovps import cli, progress
from ovps.cache import remote
from ovps.cache.layout import manifest_key, partition_key
from ovps.cache.manifest import read_manifests
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.doctor import examine
from ovps.errors import CacheError, ConfigError, StorageError
from pipelines.evaluate import evaluate
from pipelines.labels import add_labels
from pipelines.options import ConvertOptions, MergeOptions, RepairOptions, SubsetOptions
from pipelines.precompute import estimate, precompute, task
from pipelines.precompute.plan import plan
from pipelines.stores.convert import convert
from pipelines.stores.repair import repair
from pipelines.stores.select import merge, subset
from pipelines.train import TrainOptions, train
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.s3 import BUCKET, Rude, copy_of, served, silent, speaking, used
from tests.helpers.stores import same_frames, written
from tests.pipelines.test_precompute import one_scene
from tests.pipelines.test_precompute_again import bring_labels, take_labels
from tests.pipelines.untrained import LOOSE, TINY


@pytest.fixture(scope="module", autouse=True)
def _server(tmp_path_factory):
    with served() as endpoint, used(endpoint, tmp_path_factory.mktemp("reads")):
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mini_nuscenes(tmp_path_factory.mktemp("world"), scenes=1, frames=3, points=300)


@pytest.fixture(scope="module")
def disk(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("disk") / "zarr"
    precompute(one_scene(root, out))
    return out


@pytest.fixture
def url():
    return f"s3://{BUCKET}/{uuid4().hex}/zarr"


@pytest.mark.slow
def test_workers_write_it_and_training_reads_it(root, disk, url, tmp_path):
    options = one_scene(root, url, workers=2)
    assert estimate(options).free_bytes is None
    summary = precompute(options)
    assert (summary.out, summary.frames) == (url, 3)
    assert verify_store(url) == []
    assert written(copy_of(url, tmp_path / "copy")) == written(disk)
    assert precompute(one_scene(root, url)).frames_before == 3
    train(TrainOptions(cache=url, out=tmp_path / "run", overrides=(*TINY, "data.workers=1", "data.keep_mb=0")))
    scores = [evaluate(tmp_path / "run", cache, subset="train", merge=LOOSE, device="cpu") for cache in (url, disk)]
    assert scores[0].system == scores[1].system
    (place,) = (check for check in examine(url).checks if check.name == "cache")
    assert (place.status, place.found) == ("ok", f"{url} answers")


def test_no_store_is_written_within_another(root, disk, url, tmp_path):
    """The outer one would call its files strays, and whoever deletes the outer one deletes both."""
    precompute(one_scene(root, url))
    before = written(copy_of(url, tmp_path / "before"))
    for place in (f"{url}/sub", f"{url}/partitions/sub/deep"):
        for write in (
            lambda place: precompute(one_scene(root, place)),
            lambda place: estimate(one_scene(root, place)),
            lambda place: subset(SubsetOptions(cache=url, out=place)),
            lambda place: convert(ConvertOptions(cache=disk, out=place, codec="cells")),
        ):
            with pytest.raises(ConfigError, match=f"written among the files of the store {url} .*another place"):
                write(place)
    assert written(copy_of(url, tmp_path / "after")) == before
    assert verify_store(url) == []
    precompute(one_scene(root, f"{url}-beside"))


def test_who_may_use_but_a_part_of_a_bucket_writes_there(root, url, tmp_path):
    """What lies above is not to be seen: the server refuses, whatever is there."""
    inside = url.rpartition("://")[2]

    def answer(method: str, path: str) -> int | None:
        return 403 if path.endswith("/store.json") and not path.startswith(f"/{inside}/") else None

    with served() as endpoint, closing(Rude(endpoint)) as rude:
        rude.answer = answer
        with used(rude.endpoint, tmp_path / "reads"):
            assert precompute(one_scene(root, url)).frames == 3
            assert verify_store(url) == []


def test_a_store_within_another_is_no_stray_file(root, url):
    storage = storage_of(url)
    precompute(one_scene(root, f"{url}/sub/inner"))
    inner = {f"sub/inner/{path}": storage.get(f"sub/inner/{path}") for path in storage.entries("sub/inner")}
    storage.delete("sub")
    precompute(one_scene(root, url))
    for key, content in inner.items():
        storage.put(key, content)
    (problem,) = verify_store(url)
    assert (problem.kind, problem.path) == ("extra", f"{url}/sub/inner")
    assert "another store" in problem.message
    assert "Move it" in problem.remedy


def test_labels_that_come_late(url, tmp_path):
    root = write_mini_nuscenes(tmp_path / "world", scenes=1, frames=3, points=300)
    precompute(one_scene(root, tmp_path / "whole"))
    take_labels(root, tmp_path)
    precompute(one_scene(root, url))
    bring_labels(root, tmp_path)
    assert add_labels(url, root).added == 3
    assert verify_store(url) == []
    assert same_frames(copy_of(url, tmp_path / "copy"), tmp_path / "whole")


@pytest.mark.slow
def test_killed_in_the_middle_then_resumed(root, disk, url, tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from ovps.cache.zarr_files import WrittenFiles
from tests.pipelines.test_precompute import one_scene
from pipelines.precompute import precompute
real, calls = WrittenFiles.write_shard, 0
def dying(*args):
    global calls
    calls += 1
    if calls == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
WrittenFiles.write_shard = dying
precompute(one_scene(Path(sys.argv[1]), sys.argv[2]))
"""
    command = [sys.executable, "-c", code, str(root), url]
    assert subprocess.run(command, check=False, capture_output=True, env=os.environ).returncode == -signal.SIGKILL
    assert verify_store(url) == []
    assert len(Store.open(url).frames) == 2
    assert precompute(one_scene(root, url)).frames == 1
    assert verify_store(url) == []
    assert written(copy_of(url, tmp_path / "copy")) == written(disk)


def test_two_precomputes_at_once(root, disk, url, tmp_path, monkeypatch):
    """The one that commits later is told, changes nothing, and has nothing left to do when it is run again."""
    real = task.computed

    def other_first(*args):
        monkeypatch.setattr(task, "computed", real)
        assert precompute(one_scene(root, url)).frames == 3
        return real(*args)

    monkeypatch.setattr(task, "computed", other_first)
    with pytest.raises(CacheError, match=r"another run has committed partition .* meanwhile.*same command again"):
        precompute(one_scene(root, url))
    assert verify_store(url) == []
    assert written(copy_of(url, tmp_path / "copy")) == written(disk)
    assert precompute(one_scene(root, url)).frames == 0


def test_a_partition_that_another_run_has_done_meanwhile(root, disk, url, tmp_path, monkeypatch):
    """It was planned, and when its turn comes nothing is left to do: also where frames have no labels."""
    monkeypatch.setattr("pipelines.precompute.stage.plan", other_run(root, url, plan))
    assert precompute(one_scene(root, url)).frames == 0
    assert written(copy_of(url, tmp_path / "copy")) == written(disk)


def other_run(root, url, real):
    """A plan, made before another run begins and ends."""

    def planned(*args):
        tasks = real(*args)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipelines.precompute.stage.plan", real)
            precompute(one_scene(root, url))
        return tasks

    return planned


@pytest.mark.slow
def test_stores_are_converted_merged_and_repaired_there(root, disk, url, tmp_path):
    for name, frames in (("a", 1), ("b", 2)):
        only = tuple(ref.token for ref in Store.open(disk).frames[frames - 1 : 2 * frames - 1])
        subset(SubsetOptions(cache=disk, out=f"{url}-{name}", only=only))
    merge(MergeOptions(caches=(f"{url}-a", f"{url}-b"), out=url))
    assert same_frames(copy_of(url, tmp_path / "merged"), disk)
    convert(ConvertOptions(cache=url, out=f"{url}-small", codec="cells-pca"))
    convert(ConvertOptions(cache=disk, out=tmp_path / "small", codec="cells-pca"))
    assert same_frames(copy_of(f"{url}-small", tmp_path / "copy"), tmp_path / "small")
    storage = storage_of(url)
    row = next(read_manifests(storage))
    storage.delete(f"{partition_key(row.features.folder)}/points/xyz/c/0/0")
    assert verify_store(url)
    assert repair(RepairOptions(path=url, dataroot=root)).left == ()
    storage.put(manifest_key(row.partition), b"PAR1")
    assert repair(RepairOptions(path=url, dataroot=root)).manifests == 1
    assert same_frames(copy_of(url, tmp_path / "repaired"), disk)


@pytest.mark.parametrize(
    "command",
    [
        "cache verify s3://b/x",
        "cache info s3://b/x",
        "cache merge s3://b/x s3://b/y --out s3://b/z",
    ],
)
def test_no_command_is_silent_while_a_store_is_opened(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "ANSWER", timedelta(seconds=0.5))
    monkeypatch.setattr(remote, "RETRIES", 0)
    monkeypatch.setattr(progress, "TELL_EVERY", 0.4)
    monkeypatch.setattr(sys, "argv", ["ovps", *command.split()])
    with speaking(silent) as (endpoint, _), used(endpoint, tmp_path / "reads"), pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == StorageError.exit_code
    assert f"waiting for {endpoint} for " in capsys.readouterr().err
