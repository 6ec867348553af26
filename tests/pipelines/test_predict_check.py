"""`ovps predict --check`: whatever `ovps predict` wrote is in order, and each fault is told; SemanticKITTI's own files
are in `test_semantickitti`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ovps.cache.reader import Store
from ovps.cli import app
from ovps.inference.arrays import save_arrays
from ovps.inference.plain_labels import check_labels, labels_path
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import Entry, save_vocabulary, without_entries
from pipelines.predict import check, predict
from tests.helpers.synthetic_store import vocabulary, write_synthetic_store
from tests.pipelines.untrained import untrained


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A run, its store, a store whose taxonomy names no format, two vocabularies, and predictions of one."""
    folder = tmp_path_factory.mktemp("check")
    untrained(folder)
    plain = load_taxonomy("nuscenes").model_copy(update={"submission": None, "name": "mine"})
    write_synthetic_store(folder / "plain", frames=2, taxonomy=plain)
    save_vocabulary(without_entries(vocabulary(), ["bus"]), folder / "v")
    save_vocabulary(without_entries(vocabulary(), ["car"]), folder / "w")
    predict(None, folder / "zarr", folder / "arrays", vocabulary=folder / "v", unknown=True)
    return folder


def command(here, *words):
    done = CliRunner().invoke(app, ["predict", *(str(here / w) if (here / w).exists() else w for w in words), "--json"])
    return done.exit_code, json.loads(done.stdout)["problems"]


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("submission", "--cache zarr"),
        ("submission", "--cache zarr --run run"),
        ("submission", "--cache zarr --run run --fill --subset train"),
        ("submission", "--cache zarr --run run --set merge.mask=0.02"),
        ("arrays", "--cache zarr --vocab v"),
        ("arrays", "--cache zarr --vocab v --unknown"),
        ("arrays", "--cache zarr --run run --vocab v --fill --unknown"),
        ("arrays", "--cache plain"),
        ("arrays", "--cache plain --unknown --subset train"),
        ("arrays", "--cache plain --vocab v"),
    ],
)
def test_what_was_written_is_in_order_with_the_same_options_and_with_few(here, tmp_path, format, words):
    written = [*words.split(), "--out", str(tmp_path / "out")]
    assert command(here, *written) == (0, [])
    assert json.loads((tmp_path / "out" / "about.json").read_text())["format"] == format
    assert command(here, *written, "--check") == (0, [])
    few = ["--cache", written[1], "--out", str(tmp_path / "out"), *(("--subset", "train") if "train" in words else ())]
    assert command(here, *few, "--check") == (0, [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--vocab w", "about.json: other vocabulary"),
        ("--subset train", "about.json: subset val there, train now"),
        ("--run run", "about.json: run clip-alone there, run now"),
        ("--vocab v --fill", "about.json: filled False there, True now"),
        ("--set merge.mask=0.02", "about.json: other merge"),
    ],
)
def test_other_predictions_than_are_asked_for_are_no_valid_ones(here, words, told):
    code, problems = command(here, "--cache", "zarr", "--out", "arrays", "--check", *words.split())
    assert code == 1
    assert [problem[: len(told)] for problem in problems] == [told]
    assert "check with what was predicted with" in problems[0]


def test_predictions_of_a_version_that_had_not_all_settings_are_checked_by_those_it_had(here, tmp_path):
    out = tmp_path / "out"
    settings = ("--set", "merge.mask=0.02")
    assert command(here, "--cache", "zarr", "--run", "run", "--out", str(out), *settings) == (0, [])
    about = json.loads((out / "about.json").read_text())
    del about["merge"]["split_length"]
    (out / "about.json").write_text(json.dumps(about))
    assert command(here, "--cache", "zarr", "--run", "run", "--out", str(out), *settings, "--check") == (0, [])
    code, problems = command(here, "--cache", "zarr", "--out", str(out), "--set", "merge.mask=0.03", "--check")
    assert (code, problems[0][:23]) == (1, "about.json: other merge")


@pytest.mark.parametrize("words", ["", "--vocab v"])
def test_predictions_of_another_store_are_told_as_that_and_none_is_to_be_deleted(here, tmp_path, words):
    """`--cache` was forgotten, and ./zarr is another one: of other frames, or of another drive of the same names."""
    write_synthetic_store(tmp_path / "frames", frames=2, subsets=("val",))
    write_synthetic_store(tmp_path / "drive", frames=2, seed=7)
    out = ["--out", str(tmp_path / "out"), *words.split()]
    assert command(here, "--cache", "zarr", *out) == (0, [])
    (problem,) = command(here, "--cache", str(tmp_path / "frames"), *out, "--check")[1]
    assert "none of 2 files is of a frame of val" in problem
    assert "check with the store that was predicted from" in problem
    (problem,) = command(here, "--cache", str(tmp_path / "drive"), *out, "--check")[1]
    assert "other points, as of another drive, in frame synthetic-0001-000: check with what was" in problem
    (tmp_path / "out/about.json").unlink()
    if not words:  # as of another program
        (problem,) = command(here, "--cache", str(tmp_path / "frames"), *out, "--check")[1]
        assert "none of 2 files is of a frame of val" in problem


def test_a_submission_is_no_arrays_of_a_vocabulary(here, tmp_path):
    predict(None, here / "zarr", tmp_path / "out")
    problems = check(here / "zarr", tmp_path / "out", vocabulary=here / "v")
    assert problems[0].startswith("about.json: format submission there, arrays now")
    (tmp_path / "out" / "about.json").unlink()  # as of another program
    assert check(here / "zarr", tmp_path / "out") == []
    (problem,) = check(here / "zarr", tmp_path / "out", vocabulary=here / "v")
    assert "about.json: no such file" in problem


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "about.json").unlink(), "about.json: no such file"),
        (lambda folder: (folder / "about.json").write_text("[]"), "about.json: not what `ovps predict` writes"),
        (lambda folder: (folder / "about.json").write_text('{"format": "x"}'), "about.json: not what"),
        (lambda folder: (folder / "about.json").rename(folder / "unfinished.json"), "unfinished.json: they are not"),
        (lambda folder: shutil.rmtree(folder / "labels"), "labels/val: no such folder"),
    ],
)
def test_a_folder_that_does_not_say_what_it_holds(here, tmp_path, spoil, told):
    folder = shutil.copytree(here / "arrays", tmp_path / "arrays")
    spoil(folder)
    (problem,) = check(here / "zarr", folder)
    assert problem.startswith(told)
    assert ": " in problem.removeprefix(told)  # what to do


ENTRIES = (Entry("car", "thing", ("car",)), Entry("road", "stuff", ("road",)))
GOOD = {
    "entry": np.array([0, 0, 1, -1], np.int32),
    "instance": np.array([1, 2, 0, 0], np.int32),
    "unknown": np.array([0, 0.5, 1, 1], np.float16),
}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"entry": np.array([0, 0, 2, -2], np.int32)}, "2 points of no entry"),
        ({"entry": GOOD["entry"].astype(np.int64)}, "int64 (4,): write int32 (4,), one entry a point"),
        ({"instance": GOOD["instance"][:3]}, "int32 (3,): write int32 (4,)"),
        ({"instance": np.array([1, 0, 0, 0], np.int32)}, "1 points of things without an instance"),
        ({"instance": np.array([1, 2, 3, 4], np.int32)}, "2 points of stuff, or of no entry, with an instance"),
        ({"unknown": np.array([0, 2, np.nan, 1], np.float16)}, "2 points whose `unknown`"),
        ({"unknown": None}, "cannot be read"),
        ({"instance": None}, "cannot be read"),
        ({"entry": np.zeros(10**6, np.int64)}, "unpacks to 8,000,128 bytes"),
    ],
)
def test_each_fault_of_an_array_is_told(tmp_path, changed, told):
    points = {"good": 4, "bad": 4}
    for token, arrays in (("good", GOOD), ("bad", GOOD | changed)):
        save_arrays(labels_path(tmp_path, "val", token), **{n: a for n, a in arrays.items() if a is not None})
    (problem,) = check_labels(tmp_path, "val", points, ENTRIES)
    assert problem.startswith(f"bad: {told}")
    save_arrays(labels_path(tmp_path, "val", "bad"), **GOOD)
    assert check_labels(tmp_path, "val", points, ENTRIES, unknown=True) == []


def test_frames_too_few_and_too_many_and_files_of_no_frame(tmp_path):
    for token in ("a", "b"):
        save_arrays(labels_path(tmp_path, "val", token), **{n: GOOD[n] for n in ("entry", "instance")})
    (tmp_path / "labels" / "val" / "notes.txt").write_text("mine")
    (tmp_path / "labels" / "val" / "c.npz").write_bytes(b"PK torn")
    found = check_labels(tmp_path, "val", {"b": 4, "c": 4, "d": 4}, ENTRIES)
    assert [problem.split(": ")[:2] for problem in found] == [
        ["notes.txt", "not called TOKEN.npz"],
        ["d", "no file"],
        ["a", "not a frame of val"],
        ["c", "cannot be read"],
    ]
    assert len(check_labels(tmp_path, "val", {"a": 4, "b": 4}, ENTRIES, unknown=True)) == 4  # and both lack the scores


def test_predict_reads_arrays_back_as_it_does_a_submission(here, tmp_path, monkeypatch):
    import pipelines.predict as module

    def spoilt(folder, subset, token, labels, unknown=None):
        return written(folder, subset, token, replace(labels, instance=labels.instance * 0), unknown)

    written = module.write_labels
    monkeypatch.setattr(module, "write_labels", spoilt)
    summary = predict(None, here / "zarr", tmp_path, vocabulary=here / "v")
    tokens = [ref.token for ref in Store.open(here / "zarr").frames if ref.subset == "val"]
    assert [p.split(":")[0] for p in summary.problems] == tokens
    assert "things without an instance" in summary.problems[0]
