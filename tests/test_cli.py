"""The command line as a shell sees it: help with examples, errors with a remedy, JSON for machines."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ovps import cli
from ovps.vocabulary import load_vocabulary

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
    "report",
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
        (("world", "build", "--scenes", "0"), 2, "config", "scene"),
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


def test_a_summary_lists_what_has_commas_one_a_line_and_says_how_much_more_there_is(capsys):
    cli.show({"missing": [f"pfc, b12n4, seed {n}" for n in range(11)], "splits": ["b12n4", "b11n5"], "none": []}, False)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["missing  pfc, b12n4, seed 0", "pfc, b12n4, seed 1"]
    assert lines[7:9] == ["pfc, b12n4, seed 7", "and 3 more, see --json"]
    assert lines[9].split(maxsplit=1) == ["splits", "b12n4, b11n5"]


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
    cli.show({"warnings": [f"w{n}" for n in range(11)]}, False)
    stdout, stderr = capsys.readouterr()
    assert stdout.strip() == ""
    assert stderr.splitlines() == [*(f"warning: w{n}" for n in range(8)), "warning: and 3 more, see --json"]
