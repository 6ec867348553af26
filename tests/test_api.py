"""What `import ovps` offers: the example of docs/python.md runs as it stands, and says what the commands say."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ovps
import ovps.api
import ovps.vocabulary
from ovps.batch.frames import FrameDataset
from ovps.errors import CacheError, ConfigError, FrameError, VocabularyError
from ovps.inference.session import open_session, predictions
from ovps.vocabulary import load_vocabulary, parse_vocabulary, save_vocabulary
from pipelines.evaluate import evaluate
from tests.helpers.markdown import code_blocks
from tests.helpers.synthetic_store import vocabulary, write_synthetic_store
from tests.training.small import small_run

LOOSE = ("merge.score=0.001", "merge.mask=0.01", "merge.overlap=0.01")  # what hardly learned anything says something


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Store and run under the names of the page."""
    folder = tmp_path_factory.mktemp("api")
    store = write_synthetic_store(folder / "zarr/driveworld", frames=2)
    small_run(store, folder / "runs/driveworld", "steps=2", *LOOSE)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return ovps.load_run(folder / "runs/driveworld", device="cpu")


def test_the_example_runs_as_it_stands(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    example, _ = code_blocks("docs/python.md", "python")
    exec(compile(example, "docs/python.md", "exec"), {})
    said = capsys.readouterr().out
    assert "synthetic-0001-001: 600 points" in said
    assert "points, " in said.splitlines()[1]
    assert said.splitlines()[-1].startswith("PQ 0.")


def test_the_example_for_other_trainers_runs_as_it_stands(folder, monkeypatch):
    monkeypatch.chdir(folder)
    _, example = code_blocks("docs/python.md", "python")
    left: dict = {}
    exec(compile(example, "docs/python.md", "exec"), left)
    assert left["batch"].tokens
    assert 0 < left["loss"].item() < 2


def test_a_segmented_frame_and_a_score_are_those_of_the_commands(folder, run):
    store = ovps.open_store(folder / "zarr/driveworld")
    session = open_session(run.path, store.path, device="cpu")
    refs = [ref for ref in store.frames if ref.subset == "val"]
    for ref, (frame, expected) in zip(refs, predictions(session, refs), strict=True):
        found = ovps.segment(run, store.read(ref))
        assert (found.entry >= 0).any(), frame.token
        np.testing.assert_array_equal(found.entry, expected.labels.entry)
        np.testing.assert_array_equal(found.instance, expected.labels.instance)
    modes = [module.training for module in run.network.train().modules()]  # as between two epochs of one's own
    scores = ovps.score(run, store)
    assert [module.training for module in run.network.modules()] == modes
    run.network.eval()
    assert scores == evaluate(run.path, store.path, device="cpu").system.panoptic
    assert scores.groups["all"].miou > 0


@pytest.mark.parametrize("change", ["dtype", "device"])
def test_defaults_that_the_caller_has_set_change_nothing(folder, run, request, change):
    store = ovps.open_store(folder / "zarr/driveworld")
    frame = store.read(store.frames[0])
    usual = ovps.segment(run, frame)
    if change == "dtype":
        request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
        torch.set_default_dtype(torch.float64)  # as who does geometry has
    else:
        request.addfinalizer(lambda: torch.set_default_device(None))
        torch.set_default_device("meta")
    for one in (run, ovps.load_run(folder / "runs/driveworld", device="cpu")):
        assert (ovps.segment(one, frame).entry == usual.entry).all()


def test_what_the_split_ignores_is_neither_answered_nor_scored(folder, tmp_path):
    store = ovps.open_store(folder / "zarr/driveworld")
    split = {
        "name": "own",
        "taxonomy": "nuscenes",
        "novel": ["bus", "trailer"],
        "ignored": ["barrier"],
    }  # the first one
    (tmp_path / "own.yaml").write_text(json.dumps(split))
    small_run(store.path, tmp_path / "run", "steps=2", *LOOSE, split=str(tmp_path / "own.yaml"))
    run = ovps.load_run(tmp_path / "run", device="cpu")
    assert ovps.score(run, store) == evaluate(run.path, store.path, device="cpu").system.panoptic
    session = open_session(run.path, store.path, device="cpu")
    ref = next(ref for ref in store.frames if ref.subset == "val")
    ((frame, expected),) = predictions(session, [ref])
    found = ovps.segment(run, frame).entry
    np.testing.assert_array_equal(_named(found, run.vocabulary), _named(expected.labels.entry, session.vocabulary))
    assert set(_named(found, run.vocabulary)).isdisjoint(run.split.ignored)
    np.testing.assert_array_equal(ovps.segment(run, frame, session.vocabulary).entry, expected.labels.entry)


def _named(entry, of):
    return np.array([*of.names, "nothing"])[entry]


def test_a_vocabulary_is_an_object_or_a_file_of_the_same_clip(folder, run, tmp_path):
    frame = (store := ovps.open_store(folder / "zarr/driveworld")).read(store.frames[0])
    save_vocabulary(run.vocabulary, tmp_path / "v.safetensors")
    expected = ovps.segment(run, frame).entry
    for same in (run.vocabulary, tmp_path / "v.safetensors", str(tmp_path / "v.safetensors")):
        np.testing.assert_array_equal(ovps.segment(run, frame, same).entry, expected)
    with pytest.raises(VocabularyError, match="no such"):
        ovps.segment(run, frame, tmp_path / "w.safetensors")
    with pytest.raises(VocabularyError, match="another CLIP"):
        ovps.segment(run, frame, vocabulary(clip_dim=20))


def test_a_score_on_what_was_learned_is_told_as_that(folder, run, capsys):
    store = ovps.open_store(folder / "zarr/driveworld")
    ovps.score(run, store)
    assert "warning" not in capsys.readouterr().err
    ovps.score(run, store, subset="train")
    assert re.search(r"^warning: \d+ of \d+ frames are of scenes that the run was trained on", capsys.readouterr().err)


def test_what_is_no_argument_is_told_by_what_is(folder, run):
    store = ovps.open_store(folder / "zarr/driveworld")
    frame = store.read(store.frames[0])
    for call, told in (
        (lambda: ovps.open_store(None), "no store can be at None. Give a folder, or a URL"),
        (
            lambda: ovps.open_store(""),
            "no store can be at '', as of a variable that is not set. Give a folder, or a URL",
        ),
        (lambda: ovps.open_store(run), "no store can be at Run. Give a folder, or a URL"),
        (lambda: ovps.load_run(None), "`path` is None. Give the folder of a run"),
        (lambda: store.read(frame.token), "`ref` is str. Give one of `frames` of the store"),
        (lambda: store.cameras(0), "`ref` is 0. Give one of `frames` of the store"),
        (lambda: store.objects(replace(store.frames[0], partition="x")), "a frame of another store"),
        (lambda: ovps.segment(run.path, frame), "`run` is PosixPath. Give what `ovps.load_run` gives"),
        (lambda: ovps.segment(run, store.frames[0]), "`frame` is FrameRef. Give what `store.read` gives"),
        (lambda: ovps.segment(run, frame, ["car", "bus"]), "`vocabulary` is list. Give a file that `ovps vocab build`"),
        (lambda: ovps.score(str(run.path), store), "`run` is str. Give what `ovps.load_run` gives"),
        (lambda: ovps.score(run, store.path), "`store` is str. Give what `ovps.open_store` gives"),
        (lambda: ovps.score(run, store, vocabulary=["car"]), "`vocabulary` is list. Give a file"),
        (lambda: ovps.score(run, store, subset=["val"]), "`subset` is list. Give the name of one split"),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(told)}"):
            call()


def test_words_for_unlabelled_frames_are_those_that_there_are(folder, run):
    with pytest.raises(ConfigError, match="unlabelled frames are 'refuse'"):
        ovps.score(run, ovps.open_store(folder / "zarr/driveworld"), unlabelled_frames="refuse")


@pytest.mark.parametrize(("trained", "seen"), [(0, True), (2, False)])
def test_a_frame_with_other_earlier_sweeps_is_refused(folder, run, trained, seen):
    frame = (store := ovps.open_store(folder / "zarr/driveworld")).read(store.frames[0])
    earlier = {"earlier_xyz": frame.xyz[:5], "earlier_intensity": frame.intensity[:5]} if seen else {}
    known = replace(run, info=run.info.model_copy(update={"sweeps": trained}))
    with pytest.raises(CacheError, match=f"run .* was trained with {trained}.*--sweeps {trained}"):
        ovps.segment(known, replace(frame, **earlier))
    if not seen:
        with pytest.raises(CacheError, match="the cache has 0 earlier sweeps"):
            ovps.score(known, store)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: {"intensity": np.full_like(f.intensity, np.nan)}, "NaN or infinity"),
        (lambda f: {"intensity": f.intensity * 255 + 2}, "intensities are .*expected 0 to 1"),
        (lambda f: {"xyz": np.where(np.arange(len(f.xyz))[:, None] == 3, np.nan, f.xyz)}, "NaN or infinity"),
        (lambda f: {"xyz": f.xyz * 1000}, "farther than 1000 m"),
    ],
)
def test_points_of_a_caller_that_are_none_of_a_sweep_are_refused(folder, run, change, says):
    frame = (store := ovps.open_store(folder / "zarr/driveworld")).read(store.frames[0])
    with pytest.raises(FrameError, match=f"{says}.*metres.*0 to 1") as caught:
        ovps.segment(run, replace(frame, **change(frame)))
    assert caught.value.frame == frame.token


def test_features_of_a_caller_may_be_of_any_float_and_are_numbers(folder, run):
    frame = (store := ovps.open_store(folder / "zarr/driveworld")).read(store.frames[0])
    expected = ovps.segment(run, frame)
    for dtype in (np.float64, np.float16, ">f4"):
        found = ovps.segment(run, replace(frame, clip=frame.clip.astype(dtype)))
        assert np.array_equal(found.entry, expected.entry) or dtype is np.float16
    with pytest.raises(FrameError, match=r"features of \d+ of \d+ voxels hold NaN.*Give zeros, and False in `valid`"):
        ovps.segment(run, replace(frame, clip=np.where(frame.valid[:, None], frame.clip, np.nan)))
    with pytest.raises(FrameError, match=r"`valid` is uint8.*Give it as bool"):
        ovps.segment(run, replace(frame, valid=frame.valid.astype(np.uint8)))


def test_a_frame_or_store_of_another_clip_is_refused(run, tmp_path):
    other = ovps.open_store(write_synthetic_store(tmp_path / "other", frames=1, clip_dim=20))
    with pytest.raises(CacheError, match="20 channels"):
        ovps.segment(run, other.read(other.frames[0]))
    with pytest.raises(CacheError, match="another CLIP"):
        ovps.score(run, other)


def test_import_is_quick_and_names_are_found():
    script = (
        "import sys, ovps\n"
        "assert not {'torch', 'zarr', 'numpy'} & set(sys.modules), 'imported early'\n"
        "assert {'open_store', 'load_run', 'segment', 'score'} <= set(dir(ovps))\n"
        "assert not hasattr(ovps, 'nothing')\n"
        "from ovps import taxonomy, segment\n"
        "assert segment.__doc__ and 'torch' in sys.modules and 'open_clip' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("kind", [str, Path])
def test_what_the_page_names_takes_a_path_as_text_or_as_path(kind, folder, tmp_path):
    store = ovps.open_store(kind(folder / "zarr/driveworld"))
    run = ovps.load_run(kind(folder / "runs/driveworld"), device="cpu")
    file = kind(tmp_path / "mine.safetensors")
    save_vocabulary(run.vocabulary, file)
    assert load_vocabulary(file).names == run.vocabulary.names
    assert parse_vocabulary(Path(file).read_bytes(), file).names == run.vocabulary.names
    with pytest.raises(VocabularyError, match=r"no such vocabulary \(file .*missing"):
        load_vocabulary(kind(tmp_path / "missing"))
    frame = store.read(next(ref for ref in store.frames if ref.subset == "val"))
    assert np.array_equal(ovps.segment(run, frame, file).entry, ovps.segment(run, frame).entry)
    assert ovps.score(run, store, vocabulary=file) == ovps.score(run, store)
    assert len(FrameDataset(kind(folder / "zarr/driveworld"), subset="val")) > 0


def test_no_function_of_these_modules_takes_a_path_alone():
    for module in (ovps.api, ovps.vocabulary):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                taken = [p.annotation for p in inspect.signature(function).parameters.values()]
                assert "Path" not in taken, name
