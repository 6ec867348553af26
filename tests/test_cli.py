"""The command line as a shell sees it: help with examples, errors with a remedy, JSON for machines."""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import sys
from dataclasses import dataclass

import pytest
from rich.console import Console

from ovps import cli
from ovps.commands.shown import show
from ovps.doctor import Check, Report
from ovps.errors import CacheError, StorageError
from ovps.vocabulary import load_vocabulary
from pipelines.experiment.stages import announce
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.untrained import untrained

COMMANDS = [
    "doctor",
    "world build",
    "precompute",
    "cache info",
    "cache verify",
    "vocab build",
    "train",
    "eval",
    "predict",
    "segment",
    "data check",
    "data import",
    "report",
    "view",
    "query",
    "export",
    "experiment run",
]


@pytest.fixture
def ovps(monkeypatch, capsys):
    """Run the entry point with these arguments; exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ovps", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(ovps, command):
    code, stdout, _ = ovps(*command.split(), "--help")
    assert code == 0
    examples = stdout.partition("Examples")[2]
    assert f"ovps {command}" in examples.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "remedy"),
    [
        (("cache", "info", "nowhere"), 4, "cache", "ovps precompute"),
        (("precompute", "--dataroot", "nowhere", "--encoder", "demo"), 3, "dataset", "nowhere"),
        (("precompute", "--dataset", "kitty"), 2, "config", "nuscenes"),
        (("train", "--cache", "nowhere"), 4, "cache", "ovps precompute"),
        (("train", "--set", "optimizer.lr=1"), 2, "config", "optimiser.lr"),
        (("train", "--system", "pfcc"), 2, "config", "closed_set, "),
        (("experiment", "run", "nothing"), 2, "config", "ablation, driveworld"),
        (("experiment", "run", "driveworld", "--splits", "b99"), 2, "config", "b12n4"),
        (("eval", "--run", "nowhere"), 6, "checkpoint", "ovps train"),
        (("vocab", "build", "--names", "car:bus", "--out", "v.safetensors"), 7, "vocabulary", "name[:thing|stuff]"),
        (("vocab", "build", "--names", "car, Car", "--out", "v.safetensors"), 7, "vocabulary", "Leave one out"),
        (("vocab", "build", "--names", "classes.txt", "--out", "v.safetensors"), 7, "vocabulary", "Mend the path"),
        (("vocab", "build", "--names", "/", "--out", "v.safetensors"), 7, "vocabulary", "--images NAME=FOLDER"),
        (("world", "build", "--scenes", "0"), 2, "config", "scene"),
        (("world", "build", "--workers", "99999"), 2, "config", "Give at most "),
        (("world", "build", "--workers", "-1"), 2, "config", "Give at least 1"),
        (("precompute", "--encoder", "demo", "--workers", "99999", "--dataroot", "."), 2, "config", "Give at most "),
        (("precompute", "--encoder", "demo", "--workers", "-1", "--dataroot", "."), 2, "config", "--workers"),
        (("experiment", "run", "driveworld", "--jobs", "99999"), 2, "config", "Give at most "),
        (("view", "--cache", "nowhere"), 4, "cache", "ovps precompute"),
        (("query", "--cache", "nowhere", "bus"), 4, "cache", "ovps precompute"),
        (("query",), 2, "config", "ovps query --cache"),
        (("export", "--cache", "nowhere", "--out", "o"), 2, "config", "--ply"),
        (("export", "--cache", "nowhere", "--out", "o", "--ply"), 4, "cache", "ovps precompute"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_has_its_kind_exit_code_and_remedy(ovps, arguments, code, kind, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, stdout, stderr = ovps(*arguments, "--json")
    assert found == code, stderr
    assert json.loads(stdout)["error"] == kind
    assert remedy in stderr
    assert list(tmp_path.iterdir()) == []


def test_the_default_encoder_without_weights_or_network_says_how_to_get_them(mini_nuscenes, tmp_path):
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "ovps.cli",
            "precompute",
            "--dataroot",
            str(mini_nuscenes),
            "--out",
            str(tmp_path / "z"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")},
    )
    assert run.returncode == 5, run.stderr
    assert "convnext_large_d_320" in run.stderr
    assert "--weights" in run.stderr
    assert not (tmp_path / "z").exists()


def test_a_summary_on_a_terminal_lists_what_has_commas_one_a_line_and_says_how_much_more_there_is(capsys, monkeypatch):
    monkeypatch.setattr("ovps.commands.shown.out", Console(force_terminal=True, color_system=None, width=80))
    show({"missing": [f"pfc, b12n4, seed {n}" for n in range(11)], "splits": ["b12n4", "b11n5"], "none": []}, False)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["missing  pfc, b12n4, seed 0", "pfc, b12n4, seed 1"]
    assert lines[7:9] == ["pfc, b12n4, seed 7", "and 3 more, see --json"]
    assert lines[9].split(maxsplit=1) == ["splits", "b12n4, b11n5"]


def test_a_summary_on_a_terminal_folds_long_names_and_cuts_none(capsys, monkeypatch):
    monkeypatch.setattr("ovps.commands.shown.out", Console(force_terminal=True, color_system=None, width=80))
    file = "/data/" + "/".join(f"a-long-folder-{n}" for n in range(12)) + "/n015.bin"
    show({"quarantined": [{"token": "f1", "reason": file}]}, False)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert file in "".join(line.strip() for line in shown.splitlines())


def test_square_brackets_of_paths_and_remedies_are_shown(ovps, capsys, monkeypatch, tmp_path):
    remedy = 'pip install "ovps[ros]"'
    checks = [Check(name="rosbags", status="warning", found="no [red]", remedy=remedy)]
    monkeypatch.setattr("ovps.doctor.examine", lambda cache: Report(checks=checks))
    shown = ovps("doctor")[1]
    assert remedy in shown
    assert "no [red]" in shown
    monkeypatch.setattr("pipelines.report.report", lambda **options: tmp_path / "st[old]" / "r.html")
    assert "st[old]/r.html" in ovps("report", "--run", "r")[1]
    store = write_synthetic_store(tmp_path / "st[old]" / "zarr", frames=1)
    (store / "vocabulary.safetensors").unlink()
    assert f"{store}/vocabulary.safetensors: missing file" in ovps("cache", "verify", str(store))[1]
    announce("ovps train --set data.subsets=[train]")
    assert "data.subsets=[train]" in capsys.readouterr().err


@dataclass
class Shown:
    frames: int
    quarantined: list[dict[str, str]]
    by_topic: dict[str, int]
    missing: list[str]


def test_a_summary_in_a_log_has_whole_names_one_a_line(capsys):
    file = "/data/" + "/".join(f"a-long-folder-{n}" for n in range(12)) + "/n015.bin"
    quarantined = [{"token": f"f{n}", "kind": "frame", "reason": f"cut off (file {file})"} for n in range(20)]
    show(Shown(1200, quarantined, {"LIDAR_TOP": 7}, []), False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "frames: 1,200"
    assert lines[20] == f"quarantined: token f19, kind frame, reason cut off (file {file})"
    assert lines[21:] == ["by topic / LIDAR_TOP: 7", "missing: none"]


# What people type by mistake: each ends with a message and an exit code, never with a traceback


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a file and a folder where the other is expected, YAML of every wrong kind, a store and a run."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "folder").mkdir()
    (folder / "file").write_text("x")
    (folder / "cut.yaml").write_text("{a: [1")
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    (folder / "list.yaml").write_text("- 1\n")
    (folder / "number.yaml").write_text("3\n")
    (folder / "empty.yaml").write_text("")
    write_mini_nuscenes(folder / "world", scenes=1, frames=1, points=100)
    untrained(folder)
    return folder


WRONG_YAML = ("''", "folder", "file", "cut.yaml", "binary.yaml", "list.yaml", "number.yaml")
PRECOMPUTE = "precompute --dataroot world --encoder demo --weights random --grid cylinder:60x45x8 --workers 0 --out z"
TRAIN = "train --cache zarr --set steps=1"
RUNS = ("''", "file", "folder")
EXPERIMENT = ("seeds ''", "seeds x", "seeds -1", "systems ''", "jobs 0")
TYPED = [
    *(f"world build --out {where} --scenes 1 --frames 1" for where in ("file", "file/x")),
    *(f"world build {option}" for option in ("--workers -1", "--workers 0", "--val-fraction nan", "--seed -1")),
    *(f"{PRECOMPUTE} --split {split}" for split in ("''", ",", "nope")),
    f"{PRECOMPUTE} --cameras ''",
    *(f"export --cache zarr --npz --out x --frames {frames}" for frames in ("''", ",")),
    *(f"{PRECOMPUTE} --dataset {name}" for name in ("''", "../x", "files")),
    *(f"{PRECOMPUTE} --out {where}" for where in ("file", "file/x")),
    *(f"{PRECOMPUTE} --grid {grid}" for grid in ("''", "cylinder:0x0x0", "cartesian:nan", "cartesian:-1")),
    *(f"{PRECOMPUTE} {option}" for option in ("--workers -1", "--version ''", "--dataroot file", "--encoder ''")),
    *(f"{PRECOMPUTE} --weights {weights}" for weights in ("''", "folder", "file")),
    *(f"cache {command} {where}" for command in ("info", "verify") for where in ("''", "file", "folder", "nowhere")),
    *(f"vocab build --names {names} --out v" for names in ("''", ",")),
    *(f"vocab build --names car --out {where}" for where in ("folder", "file/v")),
    *(f"train --cache {where}" for where in ("''", "file", "folder")),
    *(f"{TRAIN} --{option} {value}" for option in ("config", "system", "split") for value in WRONG_YAML),
    *(f"{TRAIN} --out {where}" for where in ("file", "file/x")),
    *(f"{TRAIN} --set {setting}" for setting in ("''", "=", "=1", "steps", "steps=", "steps=-1", "steps=[1")),
    *(f"train --cache zarr --set {setting}" for setting in ("epochs=inf", "epochs=nan")),
    *(
        f"{TRAIN} --set {setting}"
        for setting in ("epochs=3", "optimiser.lr=inf", "model=3", "augmentation.translate=60")
    ),
    *(f"{TRAIN} --set {setting}" for setting in ("seed=99999999999999999999", "threads=0", "threads=100000")),
    *(f"{TRAIN} --set data.{setting}" for setting in ("subsets=", "subsets=[]", "workers=-1", "grid=x")),
    *(f"{TRAIN} --set model.{s}" for s in ("queries=0", "heads=5", "layers=0", "encoder.channels=[0]")),
    *(f"{command} --run {run} --cache zarr" for command in ("eval", "tune", "report") for run in RUNS),
    *(f"eval --run run --cache zarr --{option}" for option in ("subset ''", "split ''", "split folder", "set ''")),
    *(f"eval --run run --cache zarr --vocab {file}" for file in ("''", "folder", "file", "nowhere")),
    *(f"eval --run run --cache zarr --set merge.{setting}" for setting in ("score=nan", "score=", "x=1")),
    *(f"tune --run run --cache zarr --{option}" for option in ("subset ''", "split ''")),
    *(f"predict --run run --cache zarr --out {where}" for where in ("file", "file/x")),
    *(f"predict --run run --cache zarr --out p --{option}" for option in ("subset ''", "vocab folder", "set ''")),
    *(f"report --run run --cache zarr {option}" for option in ("--evaluation file", "--dataroot nowhere")),
    *(f"experiment run {name}" for name in WRONG_YAML),
    *(
        f"experiment run driveworld --{option}"
        for option in ("seeds ''", "seeds x", "seeds -1", "systems ''", "jobs 0")
    ),
    *(f"experiment join {where} --out j" for where in ("folder", "file", "nowhere")),
    *(f"experiment table {where}" for where in ("''", "folder", "file")),
]


@pytest.mark.parametrize("line", TYPED)
def test_no_command_line_ends_in_a_traceback(ovps, places, monkeypatch, line):
    monkeypatch.chdir(places)
    code, _, stderr = ovps(*shlex.split(line))  # anything else than SystemExit fails here
    assert code in range(2, 10), stderr
    assert "error" in stderr.lower()


def test_vocab_build_writes_what_predict_reads(ovps, tmp_path):
    path = tmp_path / "v.safetensors"
    code, stdout, stderr = ovps(
        "vocab",
        "build",
        "--names",
        "fire truck, road:stuff=road|street",
        "--encoder",
        "demo",
        "--out",
        str(path),
        "--json",
    )
    assert code == 0, stderr
    assert json.loads(stdout)["embeddings"] == 3
    assert load_vocabulary(path).names == ("fire truck", "road")


def test_vocab_build_says_what_clip_does_not_see(ovps, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text(f'"car, red"=van\r\nbus=Van\r\n{"long " * 40}\r\n', encoding="utf-16")
    arguments = (
        "vocab",
        "build",
        "--names",
        str(names),
        "--encoder",
        "demo",
        "--weights",
        "random",
        "--out",
        str(tmp_path / "v"),
    )
    code, stdout, stderr = ovps(*arguments, "--json")
    assert code == 0, stderr
    summary = json.loads(stdout)
    cut, equal, random = summary["warnings"]
    assert cut.startswith("long long")
    assert "car, red (as 'van') and bus (as 'Van')" in equal
    assert "random CLIP weights" in random
    assert stderr.splitlines() == [f"warning: {w}" for w in summary["warnings"]]
    assert summary["weights_random"] is True
    code, stdout, again = ovps(*arguments)
    assert (code, again) == (0, stderr)
    assert "warning" not in stdout


def test_of_many_warnings_the_first_are_printed(capsys):
    show({"warnings": [f"w{n}" for n in range(11)]}, False)
    stdout, stderr = capsys.readouterr()
    assert stdout.strip() == ""
    assert stderr.splitlines() == [*(f"warning: w{n}" for n in range(8)), "warning: and 3 more, see --json"]


CLOSED = (">&-", "2>&-", ">&- 2>&-", "| head -0", "2>&1 | head -0")


@pytest.mark.parametrize(
    ("where", "code"), [*((where, 0) for where in CLOSED), ("> /dev/full", StorageError.exit_code), ("2> /dev/full", 0)]
)
def test_an_output_that_is_closed_or_full_is_no_traceback(store, where, code, tmp_path):
    command = f"{shlex.quote(sys.executable)} -m ovps cache info {shlex.quote(str(store))} --json"
    script = f"({command}; echo $? > {shlex.quote(str(tmp_path / 'code'))}) {where}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert int((tmp_path / "code").read_text()) == code, done.stderr
    assert ("Traceback" in done.stderr, "Exception" in done.stderr) == (False, False)


def test_a_limit_of_file_sizes_that_meets_the_output_is_named(store, tmp_path):
    command = [sys.executable, "-m", "ovps", "cache", "info", str(store)]
    with (tmp_path / "out.txt").open("w") as out:
        done = subprocess.run(
            command,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        )
    assert done.returncode == StorageError.exit_code, done.stderr
    assert "no room for the output. Raise the limit on file sizes (ulimit -f)" in done.stderr


@pytest.mark.parametrize("where", CLOSED)
def test_an_error_keeps_its_exit_code_where_nobody_reads(where, tmp_path):
    command = f"{shlex.quote(sys.executable)} -m ovps cache info {shlex.quote(str(tmp_path))}"
    script = f"({command}; echo $? > {shlex.quote(str(tmp_path / 'code'))}) {where}"
    subprocess.run(["bash", "-c", script], capture_output=True, check=False)
    assert int((tmp_path / "code").read_text()) == CacheError.exit_code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("eval", "Missing option '--run'"),
        ("predict --run r --bogus", "No such option: --bogus"),
        ("world build --scenes abc", "Invalid value for '--scenes'"),
        ("nothing", "No such command 'nothing'"),
        ("cache nothing", "No such command 'nothing'"),
    ],
)
def test_a_wrong_command_line_is_json_for_machines(ovps, arguments, said):
    code, stdout, stderr = ovps(*arguments.split(), "--json")
    error = json.loads(stdout)
    assert code == 2
    assert error["error"] == "config"
    assert said in error["message"]
    assert shlex.split(error["remedy"])[0] == "See"
    assert ovps(*shlex.split(error["remedy"])[2:])[0] == 0, "the remedy is a command"
    assert said.split("'")[0] in stderr
    assert ovps(*arguments.split())[1] == ""
