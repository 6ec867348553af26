"""What an error advises can be done: an option that a text names is one of the commands that it comes from."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from ovps.cache.remedies import repairing
from ovps.cache.where import storage_of
from ovps.datasets import reading
from ovps.errors import FrameError
from pipelines.experiment.trainings import Training
from tests.helpers.commands import options

ROOT = Path(__file__).parents[1]
CLIP = ("precompute", "vocab build", "segment", "view", "query")
LOOK = ("view", "query", "export")

# Commands that the texts of a file, or of the files in a folder, can come from. A file that names an option and is not
# here fails: texts of what several commands call speak of the thing, not of an option. An experiment prints the command
# of each stage before it begins, and the options are those of that command.
COMMANDS = {
    "driveworld/build.py": ("world build",),
    "ovps/batch/": ("train",),
    "ovps/cache/sweeps.py": ("precompute", "segment", "cache import"),
    "ovps/clip/loading.py": CLIP,
    "ovps/interrupt.py": ("train",),  # takes --restart out
    "ovps/training/cache_content.py": ("train",),
    "ovps/training/config.py": ("train", "eval", "predict", *LOOK),
    "ovps/training/distributed.py": ("train",),
    "ovps/viewer/offline.py": ("view",),
    "ovps/viewer/server.py": ("view",),
    "ovps/viewer/words.py": ("query", "view"),
    "ovps/vocabulary.py": CLIP,
    "pipelines/about.py": ("predict",),
    "pipelines/bag/": ("data import",),
    "pipelines/evaluate.py": ("eval",),
    "pipelines/examples.py": ("vocab build",),
    "pipelines/experiment/cell.py": ("eval",),
    "pipelines/experiment/trainings.py": ("train",),
    "pipelines/experiment/projection.py": ("experiment run",),
    "pipelines/experiment/queue.py": ("experiment run",),
    "pipelines/experiment/runner.py": ("experiment run",),
    "pipelines/export.py": ("export",),
    "pipelines/labels.py": ("cache labels",),
    "pipelines/look.py": LOOK,
    "pipelines/precompute/": ("precompute",),
    "pipelines/precompute/executor.py": ("precompute", "segment"),
    "pipelines/precompute/compute_frame.py": ("precompute", "segment"),
    "pipelines/predict.py": ("predict",),
    "pipelines/query/": ("query",),
    "pipelines/segment/": ("segment",),
    "pipelines/report.py": ("report",),
    "pipelines/stores/brought.py": ("cache import",),
    "pipelines/stores/convert.py": ("cache convert",),
    "pipelines/stores/derived.py": ("cache convert", "cache subset", "cache merge"),
    "pipelines/stores/plain.py": ("cache export",),
    "pipelines/stores/point_features.py": ("cache import",),
    "pipelines/stores/repair.py": ("cache repair",),
    "pipelines/train.py": ("train",),
    "pipelines/tune.py": ("eval", "predict"),
    "pipelines/view.py": ("view",),
    "pipelines/vocabulary.py": ("vocab build", "view", "query", "segment"),
}
# of pipelines/vocabulary.py, which looks for words and pictures that only its own command takes
OWN = {
    "pipelines/vocabulary.py": {
        "--images": ("vocab build",),
        "--examples": ("vocab build",),
        "--names": ("vocab build", "segment"),
    }
}
OWN["ovps/clip/activation.py"] = {"--encoder": ("precompute", "vocab build", "cache import", "segment")}
OWN["pipelines/precompute/options.py"] = {"--dataroot": ("precompute", "cache labels")}
OWN["ovps/inference/session.py"] = {"--unlabelled-frames": ("eval", "tune")}
OWN["pipelines/tune.py"] = {"--split": ("tune",)}
OWN["pipelines/precompute/stage.py"] = {
    "--on-error": ("precompute", "segment", "cache import", "cache labels", "cache repair")
}
NOT_OURS = {
    "--nproc-per-node",
    "--shm-size",
    "--pids-limit",
    "--format",
}  # of torchrun, docker and others; --format is of aws, too
EVERYWHERE = {"--json", "--help"}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_COMMAND = re.compile(r"\bovps ((?:world|data|cache|vocab|experiment) )?([a-z]+)\b([^`;)]*)")


def texts(file: Path) -> list[str]:
    """Strings of a file with an option in them; what is put into one is {}. Docstrings and program text are none."""
    tree = ast.parse(file.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inside | docs):
            found.append(node.value)
    return [text for text in found if _OPTION.search(text) and " " in text.strip()]


FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("ovps", "pipelines", "driveworld")
    for path in (ROOT / folder).rglob("*.py")
    if path.name not in ("cli.py", "options.py", "__main__.py") or path.parent.name == "precompute"
)


@pytest.mark.parametrize("file", [file for file in FILES if texts(ROOT / file)])
def test_options_that_a_text_names_are_those_of_its_commands(file):
    known = {command: EVERYWHERE | named.keys() for command, named in options().items()}
    place = max((place for place in COMMANDS if file.startswith(place)), key=len, default="")
    for text in texts(ROOT / file):
        rest = text
        for found in _COMMAND.finditer(text):
            command = (found[1] or "") + found[2]
            if command in known:
                unknown = set(_OPTION.findall(found[3])) - known[command] - NOT_OURS
                assert not unknown, f"{file}: {text!r}"
                rest = rest.replace(found[0], "")
        for option in set(_OPTION.findall(rest)) - NOT_OURS - EVERYWHERE:
            commands = OWN.get(file, {}).get(option) or COMMANDS.get(place, ())
            assert commands, f"{file} names {option}, and nobody knows of which command: {text!r}"
            lacking = [command for command in commands if option not in known[command]]
            assert not lacking, f"{file}: {', '.join(lacking)} has no {option}: {text!r}"


# Commands in messages, as a shell takes them

_BUILT = re.compile(
    r"(?:\bovps (?:(?:world|data|cache|vocab|experiment) )?[a-z]+|\bpython -m|\bdask worker|\bchmod|\brm)\b[^`;]*?\{"
)
HARMLESS = {  # what is put into a command here has no space in it
    "ovps/datasets/folder/oddities.py",
    "ovps/training/run.py",  # a number
    "pipelines/data_check.py",  # a grid
    "pipelines/experiment/provenance.py",  # names of modules
    "pipelines/stores/convert.py",  # the name of a codec
}


def commands_put_together(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            built = _BUILT.search(text)
            found += [text] if built and not re.match(r"ovps (reads|needs|vocabulary|does)\b", built[0]) else []
    return found


def test_a_path_is_put_into_a_command_by_what_quotes_it():
    assert {
        file: found for file in FILES if file not in HARMLESS and (found := commands_put_together(ROOT / file))
    } == {}


def test_the_command_that_repairs_a_store_can_be_given_as_it_is_written(tmp_path):
    storage = storage_of(tmp_path / "my work" / "the store")
    program, *words = shlex.split(repairing(storage))
    assert (program, words[:2]) == ("ovps", ["cache", "repair"])
    assert words[2:] == [str(tmp_path / "my work" / "the store"), "--dataroot", "FOLDER-OF-THE-DATA-SET"]
    assert "--dataroot" in options()["cache repair"]


def test_the_command_that_makes_a_file_readable_can_be_given_as_it_is_written(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refused)
    path = str(tmp_path / "it's mine" / "0.bin")
    with pytest.raises(FrameError) as error:
        reading.read_bytes("point file", path, "token", "again")
    assert shlex.split(error.value.remedy.partition(": ")[2]) == ["chmod", "u+r", path]


def test_the_command_of_a_training_can_be_given_as_it_is_written(tmp_path):
    training = Training(
        key="0" * 64,
        run=tmp_path / "my runs" / "one",
        cache=str(tmp_path / "my work"),
        config="base",
        system="ovps",
        split="b12n4",
        overrides=("seed=0", "data.grid='a b'"),
        seed=0,
        evaluations=(),
    )
    words = shlex.split(training.command)
    assert words[words.index("--cache") + 1] == training.cache
    assert words[words.index("--out") + 1] == str(training.run)
