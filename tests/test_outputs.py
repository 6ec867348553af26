"""Every option of every command that takes a path: what is written goes nowhere among files that it would harm."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from ovps import cli
from ovps.errors import CheckpointError, ConfigError, StorageError
from tests.helpers.commands import app_of, options
from tests.helpers.recording import write_recording
from tests.pipelines.untrained import untrained

# where it says OUT; what else is asked of the command is right, or never looked at
OUTPUTS = {
    ("world build", "--out"): "--scenes 1 --frames 1 --workers 1 --out OUT",
    ("data import", "--out"): "bag --out OUT",
    ("data check", "--out"): "recording --out OUT",
    ("precompute", "--out"): "--dataset folder --dataroot recording --encoder demo --workers 0 --out OUT",
    ("vocab build", "--out"): "--names car --encoder demo --out OUT",
    ("train", "--out"): "--cache store --out OUT",
    ("eval", "--out"): "--run run --cache store --out OUT",
    ("predict", "--out"): "--run run --cache store --out OUT",
    ("segment", "--out"): "recording --encoder demo --names car --out OUT",
    ("report", "--out"): "--run run --cache store --out OUT",
    ("view", "--html"): "--cache store --html OUT",
    ("query", "--html"): "--cache store car --html OUT",
    ("query", "--list"): "--cache store car --html q.html --list OUT",
    ("query", "--index"): "--cache store car --html q.html --index OUT",
    ("export", "--out"): "--cache store --npz --out OUT",
    ("cache convert", "--out"): "--cache store --codec cells --out OUT",
    ("cache export", "--out"): "--cache store --out OUT",
    ("cache import", "--out"): "--features features --dataset folder --dataroot recording --encoder demo --out OUT",
    ("cache merge", "--out"): "store twin --out OUT",
    ("cache subset", "--out"): "--cache store --limit 1 --out OUT",
    ("demo", "--out"): "--no-open --out OUT",
    ("experiment join", "--out"): "results --out OUT",
    ("demo_clip render", "--out"): "--out OUT",
    ("demo_clip train", "--out"): "--out OUT",
}
INPUTS = {
    *((f"cache {command}", "--dataroot") for command in ("import", "info", "labels", "repair")),
    ("cache import", "--features"),
    ("data check", "path"),
    ("data import", "bag"),
    ("demo_clip evaluate", "--dataroot"),
    ("demo_clip train", "--pictures"),
    ("demo_clip train", "--start"),
    ("experiment table", "folder"),
    ("precompute", "--dataroot"),
    ("query", "--image"),
    ("report", "--dataroot"),
    ("report", "--evaluation"),
    ("segment", "path"),
    *((command, "--run") for command in ("eval", "export", "predict", "query", "report", "segment", "tune", "view")),
    *((command, "--vocab") for command in ("eval", "export", "predict", "query", "report", "view")),
    *((command, "--dataset-root") for command in ("query", "view")),
    ("view", "--beside"),
}
FILES = {("vocab build", "--out"): ".safetensors", ("demo_clip train", "--out"): ".safetensors"}
FILES |= dict.fromkeys((("report", "--out"), ("view", "--html"), ("query", "--html")), ".html")
FILES |= {("query", "--list"): ".json"}
STORES = {"precompute", *(f"cache {command}" for command in ("convert", "import", "merge", "subset"))}
# what a command makes, it may write again
OWN = {"world build": {"nuscenes", "kitti"}, "train": {"run"}, **{command: {"store"} for command in STORES}}


def test_every_path_is_known_to_be_read_or_written():
    """Whoever adds an option says here which; what is written is tried below. Stores are texts."""
    paths = {
        (command, name)
        for command, named in options().items()
        for name, annotation in named.items()
        if "path" in f"{get_args(annotation)[0]} {get_args(annotation)[1].metavar}".casefold() or name == "--out"
    }
    assert paths == OUTPUTS.keys() | INPUTS


@pytest.fixture(scope="module")
def here(tmp_path_factory, mini_nuscenes, kitti_world) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    _, store = untrained(folder)
    store.rename(folder / "store")
    shutil.copytree(folder / "store", folder / "twin")
    write_recording(folder / "recording")
    (folder / "features").mkdir()
    write_recording(folder / "drives", scene="monday")
    for name, root in (("nuscenes", mini_nuscenes), ("kitti", kitti_world)):
        (folder / name).symlink_to(root)
    return folder


PLACES = {
    "store": ("store", "store/manifest", "store/new", "store/store.json"),
    "run": ("run", "run/checkpoints/new", "run/config.yaml"),
    "nuscenes": ("nuscenes", "nuscenes/samples", "nuscenes/v1.0-trainval/new"),
    "kitti": ("kitti", "kitti/sequences/00", "kitti/sequences/00/poses.txt", "kitti/sequences/new"),
    "recording": ("recording", "recording/points", "recording/points/000.bin"),
    "drives": ("drives", "drives/monday", "drives/monday/images/front/new"),
}
ONLY_FILES = {
    "store": ("store/new.json",),
    "nuscenes": ("nuscenes/new.json",),
    "kitti": ("kitti/splits.json",),
    "recording": ("recording/calibration.json",),
    "drives": ("drives/calibration.json",),
}


def refused(here: Path, command: str, option: str, place: str) -> bool:
    """Whether a command stops with a ConfigError that says why, before it has written anything."""
    app, called = app_of(command)
    words = shlex.split(OUTPUTS[command, option].replace("OUT", place))
    if option == "--list" and not place.endswith(".json"):
        words[-1] = f"{place}/checkpoints/new.json" if place == "run" else f"{place}/new.json"
    before = listed(here)
    result = CliRunner().invoke(app, [*called, *words])
    assert listed(here) == before, f"ovps {command} has written something"
    error = result.exception
    return isinstance(error, ConfigError) and "would be written among" in error.message


def listed(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for root, _, files in os.walk(folder, followlinks=True):
        for file in files:
            about = os.stat(os.path.join(root, file))
            found[os.path.join(root, file)] = (about.st_size, about.st_mtime_ns)
    return found


@pytest.mark.parametrize(("command", "option"), OUTPUTS)
def test_what_is_written_goes_nowhere_among_files_that_it_would_harm(here, command, option, monkeypatch):
    monkeypatch.chdir(here)
    for what, places in PLACES.items():
        for place in (*places, *(ONLY_FILES.get(what, ()) if (command, option) in FILES else ())):
            if place != what or what not in OWN.get(command, ()):
                assert refused(here, command, option, place), f"ovps {command} {option} {place}"


@pytest.mark.parametrize(("command", "option"), OUTPUTS)
def test_a_url_is_no_folder(here, command, option, monkeypatch):
    if command in STORES:
        return  # a store can be at one
    monkeypatch.chdir(here)
    app, called = app_of(command)
    words = shlex.split(OUTPUTS[command, option].replace("OUT", "s3://bucket/new.json"))
    result = CliRunner().invoke(app, [*called, *words])
    assert isinstance(result.exception, ConfigError)
    assert "URL" in result.exception.message
    assert not (here / "s3:").exists()


# what they read is not there; and an index that cannot be kept is a warning
LATER = {("data import", "--out"), ("experiment join", "--out"), ("cache import", "--out"), ("query", "--index")}


@pytest.mark.parametrize(("command", "option"), sorted(OUTPUTS.keys() - LATER))
def test_where_nothing_can_be_written_is_found_out_before_any_work(here, command, option, monkeypatch):
    monkeypatch.chdir(here)
    (here / "stray").write_text("a file")
    app, called = app_of(command)
    words = shlex.split(OUTPUTS[command, option].replace("OUT", f"stray/new{FILES.get((command, option), '')}"))
    result = CliRunner().invoke(app, [*called, *words])
    assert isinstance(result.exception, StorageError | CheckpointError), result.output
    assert "cannot write" in result.exception.message
    assert "stray" in str(result.exception.path)
    assert not re.search(r"^\w.*: [1-9][\d,]* of \d", result.stderr, re.M), "something was done"
    assert (here / "stray").read_text() == "a file"


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("vocab build --names words.txt --encoder demo --out words.txt", "--names and --out"),
        ("query --cache store --image words.txt --html ./words.txt", "--image and --html"),
        ("query --cache store car --html words.txt --vocab words.txt", "--vocab and --html"),
        ("query --cache store car --html new.json --list ./new.json", "--html and --list"),
    ],
)
def test_one_file_is_not_read_and_written(here, command, files, monkeypatch):
    monkeypatch.chdir(here)
    (here / "words.txt").write_text("car")
    result = CliRunner().invoke(cli.app, shlex.split(command))
    assert isinstance(result.exception, ConfigError)
    assert result.exception.message == f"{files} name one and the same file"
    assert (here / "words.txt").read_text() == "car"


@pytest.mark.parametrize(("command", "option"), sorted(FILES.keys()))
def test_a_file_is_not_written_over_one_of_another_kind(here, command, option, monkeypatch):
    monkeypatch.chdir(here)
    (here / "classes.txt").write_text("mine")
    app, called = app_of(command)
    result = CliRunner().invoke(app, [*called, *shlex.split(OUTPUTS[command, option].replace("OUT", "classes.txt"))])
    assert isinstance(result.exception, ConfigError)
    assert re.search(r"Name it .*\.(html|json|safetensors)", result.exception.remedy)
    assert (here / "classes.txt").read_text() == "mine"


@pytest.mark.parametrize(("option", "name"), [(("view", "--html"), "page.htm"), (("vocab build", "--out"), "v.st")])
def test_a_file_that_was_written_before_is_written_again_whatever_its_ending(here, option, name, monkeypatch):
    monkeypatch.chdir(here)
    (here / name).touch()
    app, called = app_of(option[0])
    for _ in range(3):
        result = CliRunner().invoke(app, [*called, *shlex.split(OUTPUTS[option].replace("OUT", name))])
        assert result.exit_code == 0, result.output
    assert (here / name).stat().st_size > 100


def test_the_same_again_into_its_own_output(here, monkeypatch):
    """And into a folder that holds a user's other things, and beside a run's own files."""
    monkeypatch.chdir(here)
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("mine")
    for command in (
        "view --cache store --html mine/v.html --frames 0",
        "export --cache store --npz --frames 0 --out mine",
        "vocab build --names car --encoder demo --out mine/v.safetensors",
        "vocab build --names car --encoder demo --out run/v.safetensors",
        "data check recording --out mine",
        "data check recording --out recording/looked-at",
        "data check drives",
        "predict --run run --cache store --out mine",
        "predict --run run --cache store --out run/predictions",
    ):
        for _ in range(2):
            result = CliRunner().invoke(cli.app, shlex.split(command), catch_exceptions=False)
            assert result.exit_code == 0, command
    assert (here / "mine" / "notes.txt").read_text() == "mine"
