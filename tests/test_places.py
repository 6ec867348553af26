"""What is written goes beside data sets, stores and runs, not into their midst."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from driveworld import build_world
from ovps.errors import ConfigError, StorageError
from ovps.files import locked, write_whole
from ovps.places import check_free, names_apart, what_is
from pipelines.evaluate import evaluate
from pipelines.options import PrecomputeOptions, VocabularyOptions
from pipelines.precompute import precompute
from pipelines.train import TrainOptions, train
from pipelines.vocabulary import build


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Roots of a store, a run, a data set in each layout, by name."""
    files = {
        "store": "store.json",
        "run": "run.json",
        "nuscenes": "v1.0-mini/sample.json",
        "kitti": "sequences/00/velodyne/000000.bin",
        "world": ".scenes/settings.json",
        "recording": "points/000000.bin",
        "drives": "monday/points/000000.bin",
    }
    for name, file in files.items():
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).write_text("{}")
    for name in ("recording", "drives"):
        (tmp_path / name / "calibration.yaml").write_text("{}")
    return {name: tmp_path / name for name in files}


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["/a/run"], ["run"]),
        (["/a/one", "/b/two"], ["one", "two"]),
        (["/a/seed0", "/b/seed0"], ["a/seed0", "b/seed0"]),
        (["/w/a/x/seed0", "/w/b/x/seed0"], ["a/x/seed0", "b/x/seed0"]),
        (["/seed0", "/b/seed0"], ["/seed0", "b/seed0"]),
        (["/a/run", "/a/run"], ["run", "run"]),
        ([], []),
    ],
)
def test_folders_are_named_by_as_much_of_their_paths_as_differs(folders, names):
    assert names_apart([Path(folder) for folder in folders]) == names


def test_what_a_folder_is_is_told_by_its_files(places, tmp_path):
    assert {name: what_is(root) for name, root in places.items()} == {
        "store": "store",
        "run": "run",
        "nuscenes": "data set",
        "kitti": "data set",
        "world": "data set",
        "recording": "recording",
        "drives": "recording",
    }
    assert what_is(places["drives"] / "monday") == "recording"
    (tmp_path / "mine" / "points").mkdir(parents=True)
    assert what_is(tmp_path / "mine") is None
    assert what_is(tmp_path) is None
    assert what_is(tmp_path / "not there") is None


@pytest.mark.parametrize(
    ("place", "free"),
    [
        *(("store", False), ("store/new/deep", False), ("store/vocabulary.safetensors", False), ("storey", True)),
        *(("run", False), ("run/checkpoints/x", False), ("run/vocabulary.safetensors", False), ("run/eval", True)),
        *(("nuscenes", False), ("nuscenes/panoptic/mine", False), ("nuscenes/v1.0-mini", False)),
        *(("nuscenes/predictions", True), ("kitti/sequences/00", False), ("kitti", False), (".", True)),
        *(("kitti/poses", False), ("world", False), ("world/sequences", False), ("world/.scenes/x", False)),
        *(("recording", False), ("recording/points/x", False), ("recording/found", True), ("recording-found", True)),
        *(("drives/monday", False), ("drives/monday/images", False), ("drives/found", True), ("drives-found", True)),
        *(("store/../mine", True), ("mine/../store/x", False)),
    ],
)
def test_only_what_lies_beside_is_free(places, tmp_path, monkeypatch, place, free):
    monkeypatch.chdir(tmp_path)
    for path in (Path(place), tmp_path / place):
        if free:
            check_free(path)
        else:
            with pytest.raises(ConfigError, match="Give a"):
                check_free(path)


def test_every_command_that_writes_refuses(places, store, mini_nuscenes):
    """Before anything is written: a run in a store's folder would take its vocabulary away."""
    before = sorted(p for root in (*places.values(), store) for p in root.rglob("*"))
    data = {"dataset": "nuscenes", "dataroot": mini_nuscenes, "version": "v1.0-trainval"}
    data |= {"encoder": "demo", "workers": 0}
    for write in (
        lambda: train(TrainOptions(cache=store, out=store)),
        lambda: train(TrainOptions(cache=store, out=places["nuscenes"])),
        lambda: evaluate(places["run"], store, out=store),
        lambda: build(VocabularyOptions(names="car", encoder="demo", out=store / "vocabulary.safetensors")),
        lambda: build(VocabularyOptions(names="car", encoder="demo", out=places["run"] / "vocabulary.safetensors")),
        lambda: precompute(PrecomputeOptions(**data, out=places["run"])),
        lambda: build_world(places["store"], scenes=1, frames=1, seed=1),
        lambda: build_world(places["run"], scenes=1, frames=1, seed=1),
    ):
        with pytest.raises(ConfigError):
            write()
    assert sorted(p for root in (*places.values(), store) for p in root.rglob("*")) == before


def test_what_is_in_the_way_is_named_as_its_user_knows_it(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="A folder of that name is there: give another name") as caught:
        write_whole(tmp_path / "folder", b"")
    assert caught.value.path == str(tmp_path / "folder")
    busy = StorageError("busy")
    for below in ("x", "x/y"):
        with pytest.raises(StorageError, match="A file stands where a folder is to be") as caught:
            write_whole(tmp_path / "file" / below, b"")
        assert caught.value.path == str(tmp_path / "file")
        with pytest.raises(StorageError, match="A file stands") as caught, locked(tmp_path / "file" / below, busy):
            pass
        assert caught.value.path == str(tmp_path / "file")
    with pytest.raises(StorageError, match="Give a shorter name"):
        write_whole(tmp_path / ("x" * 300) / "y", b"")


SCRIPT = """
import multiprocessing, sys
from pathlib import Path
from ovps.errors import StorageError
from ovps.files import locked

with locked(Path(sys.argv[1]), StorageError("busy", remedy="Wait until it ends")):
    child = multiprocessing.get_context("spawn").Process(target=print, args=("called",))
    child.start()
    child.join()
"""


def test_a_worker_that_runs_its_script_again_is_not_told_to_wait_for_its_parent(tmp_path):
    def run(script):
        (tmp_path / "script.py").write_text(script)
        words = [sys.executable, tmp_path / "script.py", tmp_path / "lock"]
        return subprocess.run(words, capture_output=True, text=True, check=True)

    last = run(SCRIPT).stderr.splitlines()[-1]
    assert last.startswith("ovps.errors.ConfigError: a worker process imports the script that started it")
    assert last.endswith('Put what the script does below `if __name__ == "__main__":`')
    mended = run(SCRIPT.replace("with locked", 'if __name__ == "__main__":\n  with locked'))
    assert (mended.stdout, mended.stderr) == ("called\n", "")


def test_a_store_may_be_where_a_store_is_to_be_but_not_inside_it(tmp_path):
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr/store.json").write_text("{}")
    check_free(tmp_path / "zarr", but="store")
    with pytest.raises(ConfigError, match="among the files of the store"):
        check_free(tmp_path / "zarr/partitions/mine", but="store")
