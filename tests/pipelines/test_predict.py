"""Labels on disk: the submission format for the data set's own classes, plain arrays for any vocabulary."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from nuscenes.utils.data_io import load_bin_file
from typer.testing import CliRunner

import pipelines.predict
from ovps.cache.reader import Store
from ovps.cli import app
from ovps.errors import CheckpointError, ConfigError, StorageError, VocabularyError
from ovps.inference.prediction import PointLabels
from ovps.inference.submission import check_submission
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import Entry, Vocabulary, save_vocabulary, without_entries
from pipelines.predict import check, predict
from pipelines.train import TrainOptions, train
from tests.helpers.stores import contents
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.untrained import LOOSE, TINY, untrained


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("predict"))


def test_the_data_sets_own_classes_become_a_submission(made, tmp_path):
    summary = predict(*made, tmp_path, merge=LOOSE)
    assert (summary.format, summary.frames, summary.problems) == ("submission", 2, [])
    assert 0 < summary.unlabelled < summary.points == 1200
    none = predict(*made, tmp_path / "none", merge=LOOSE.model_copy(update={"score": 1.0}))
    assert (none.unlabelled, none.warnings[-1][:23]) == (1200, "no point has a class: t")
    assert len(none.warnings) == len(summary.warnings) + 1
    store = Store.open(made[1])
    points = {ref.token: 600 for ref in store.frames if ref.subset == "val"}
    assert check_submission(tmp_path, "val", points, load_taxonomy("nuscenes")) == []
    labels = [load_bin_file(str(p), type="panoptic") for p in (tmp_path / "panoptic" / "val").glob("*.npz")]
    assert sum(int((x == 0).sum()) for x in labels) == summary.unlabelled
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["weights_random"] is False
    assert (about["format"], about["unnamed_classes"], about["left_out"]) == ("submission", [], {})
    assert (summary.unnamed_classes, summary.left_out, summary.warnings) == ([], {}, [])


def test_frames_are_chosen_by_token_whatever_holds_the_tokens(made, tmp_path):
    tokens = [ref.token for ref in Store.open(made[1]).frames_of(["val"])]
    assert predict(*made, tmp_path / "some", only=(token for token in reversed(tokens))).frames == len(tokens) == 2
    with pytest.raises(ConfigError, match="subset val has no frame typo"):
        predict(*made, tmp_path / "none", only=["typo", tokens[0]])
    assert not (tmp_path / "none").exists()


def test_another_drive_of_the_same_names_does_not_take_the_place_of_the_first(made, tmp_path):
    run, cache = made
    predict(run, cache, tmp_path / "out", merge=LOOSE)
    before = contents(tmp_path / "out")
    other = write_synthetic_store(tmp_path / "other", frames=2, seed=7)
    token = Store.open(other).frames_of(["val"])[0].token
    with pytest.raises(ConfigError, match=f"other points, as of another drive, in frame {token}.*another --out"):
        predict(run, other, tmp_path / "out", merge=LOOSE)
    assert contents(tmp_path / "out") == before
    others = write_synthetic_store(tmp_path / "others", frames=2, subsets=("val",))
    with pytest.raises(ConfigError, match=r"holds other predictions: of another store, with frames such as synthetic-"):
        predict(run, others, tmp_path / "out", merge=LOOSE)
    assert contents(tmp_path / "out") == before
    predict(run, cache, tmp_path / "out", merge=LOOSE)
    assert contents(tmp_path / "out") == before
    about = json.loads((tmp_path / "out/about.json").read_text())
    del about["drives"]
    (tmp_path / "out/about.json").write_text(json.dumps(about))  # as an earlier version wrote it
    predict(run, cache, tmp_path / "out", merge=LOOSE)
    assert contents(tmp_path / "out") == before


def test_filling_labels_more_points(made, tmp_path):
    plain = predict(*made, tmp_path / "plain")
    filled = predict(*made, tmp_path / "filled", fill=True)
    assert 0 < filled.unlabelled < plain.unlabelled
    assert filled.problems == []
    assert f"{filled.unlabelled} points cannot be filled" in filled.warnings[-1]
    assert not any("filled" in warning for warning in plain.warnings)


def test_without_a_run_there_is_nothing_to_fill_with(made, tmp_path):
    with pytest.raises(ConfigError, match="no masks") as caught:
        predict(None, made[1], tmp_path, fill=True)
    assert caught.value.path is None


def test_the_command_line_changes_how_masks_are_named(made, tmp_path):
    run, cache = map(str, made)
    loose = ("merge.score=0", "merge.overlap=0", "merge.mask=0.02")
    pooled = (*loose, "classifier.classes=ensemble", "classifier.base_weight=1", "classifier.novel_weight=1")

    def labels(name, settings):
        arguments = ["predict", "--run", run, "--cache", cache, "--out", str(tmp_path / name), "--json"]
        result = CliRunner().invoke(app, [*arguments, *(f"--set={s}" for s in settings)])
        assert result.exit_code == 0, result.output
        files = sorted((tmp_path / name / "panoptic" / "val").glob("*.npz"))
        return np.concatenate([load_bin_file(str(p), type="panoptic") for p in files]) // 1000

    own, clip = labels("own", loose), labels("clip", pooled)
    assert (own != clip).any()
    about = json.loads((tmp_path / "clip" / "about.json").read_text())
    assert (about["classifier"]["classes"], about["merge"]["mask"]) == ("ensemble", 0.02)


def test_another_vocabulary_becomes_plain_arrays(made, tmp_path):
    own = Store.open(made[1]).vocabulary
    entries = (Entry("vehicle", "thing", ("car", "bus")), Entry("plant", "stuff", ("tree",)))
    rows = own.embeddings[[3, 2, 15]]
    vocabulary = Vocabulary(entries, rows, np.array([0, 0, 1]), own.encoder, own.weights_sha256)
    save_vocabulary(vocabulary, tmp_path / "v.safetensors")
    out = tmp_path / "out"
    summary = predict(*made, out, vocabulary=tmp_path / "v.safetensors", merge=LOOSE)
    assert (summary.format, summary.problems) == ("arrays", [])
    files = sorted((out / "labels" / "val").glob("*.npz"))
    assert len(files) == 2
    for file in files:
        with np.load(file) as arrays:
            entry, instance = arrays["entry"], arrays["instance"]
        assert (entry.dtype, instance.dtype, len(entry)) == (np.int32, np.int32, 600)
        assert set(entry.tolist()) <= {-1, 0, 1}
        assert ((instance > 0) == (entry == 0)).all()
    about = json.loads((out / "about.json").read_text())
    assert [(e["name"], e["class"]) for e in about["entries"]] == [("vehicle", None), ("plant", None)]
    assert about["unlabelled"] == -1
    assert summary.unnamed_classes == about["unnamed_classes"] == [c.name for c in load_taxonomy("nuscenes").classes]
    assert summary.warnings == []  # an open vocabulary need not name the data set's classes


def test_plain_arrays_hold_the_unknown_where_it_is_asked_for(made, tmp_path):
    run, cache = made
    own = Store.open(cache).vocabulary
    save_vocabulary(without_entries(own, ["car", "manmade"]), tmp_path / "v.safetensors")
    given = {"vocabulary": tmp_path / "v.safetensors", "merge": LOOSE}
    predict(run, cache, tmp_path / "plain", **given)
    predict(run, cache, tmp_path / "out", unknown=True, **given)
    for file in sorted((tmp_path / "out/labels/val").iterdir()):
        with np.load(file) as arrays, np.load(tmp_path / "plain/labels/val" / file.name) as plain:
            assert set(plain) == {"entry", "instance"}
            assert all(np.array_equal(arrays[name], plain[name]) for name in plain)
            score = arrays["unknown"]
        assert (score.dtype, len(score)) == (np.float16, 600)
        assert 0 <= score.min() < score.max() <= 1
    with pytest.raises(ConfigError, match="no scores of the unknown") as caught:
        predict(run, cache, tmp_path / "submission", unknown=True)
    assert "--vocab" in caught.value.remedy


def test_predictions_of_another_run_of_the_same_name_are_others(made, tmp_path):
    run, cache = made
    predict(run, cache, tmp_path / "out", merge=LOOSE)
    other = tmp_path / run.name
    train(TrainOptions(cache=cache, out=other, overrides=(*TINY, "seed=1")))
    with pytest.raises(ConfigError, match="holds other predictions: other training"):
        predict(other, cache, tmp_path / "out", merge=LOOSE)
    assert check(cache, tmp_path / "out", run=run) == []
    (problem,) = check(cache, tmp_path / "out", run=other)
    assert "other training" in problem
    about = json.loads((tmp_path / "out/about.json").read_text())
    del about["training_sha256"]  # of an earlier version
    (tmp_path / "out/about.json").write_text(json.dumps(about))
    assert check(cache, tmp_path / "out", run=other) == []


def test_a_vocabulary_of_another_clip_is_refused(made, tmp_path):
    own = Store.open(made[1]).vocabulary
    other = Vocabulary(own.entries, own.embeddings, own.class_index, own.encoder, "f" * 64)
    save_vocabulary(other, tmp_path / "v.safetensors")
    with pytest.raises(VocabularyError, match="another CLIP"):
        predict(*made, tmp_path / "out", vocabulary=tmp_path / "v.safetensors")
    assert not (tmp_path / "out").exists()


def test_classes_are_found_however_they_are_spelt(made, tmp_path):
    own = Store.open(made[1]).vocabulary
    names = ["Construction Vehicle", "traffic  cone", "unicorn"]
    entries = tuple(Entry(n, "thing", (n,)) for n in names)
    rows = own.embeddings[[own.names.index(n) for n in ("construction_vehicle", "traffic_cone", "car")]]
    vocabulary = Vocabulary(entries, rows, np.arange(3), own.encoder, own.weights_sha256)
    save_vocabulary(vocabulary, tmp_path / "v.safetensors")
    summary = predict(*made, tmp_path, vocabulary=tmp_path / "v.safetensors", merge=LOOSE)
    about = json.loads((tmp_path / "about.json").read_text())
    assert [e["name"] for e in about["entries"]] == names
    assert [e["class"] for e in about["entries"]] == ["construction_vehicle", "traffic_cone", None]
    assert len(summary.unnamed_classes) == 14


def test_a_taxonomy_without_a_submission_format_becomes_plain_arrays(made, tmp_path):
    run, cache = made
    own = shutil.copytree(run, tmp_path / "run")
    info = json.loads((own / "run.json").read_text())
    assert info["taxonomy"].pop("submission") == "nuscenes"
    (own / "run.json").write_text(json.dumps(info | {"taxonomy": info["taxonomy"] | {"name": "mine"}}))
    summary = predict(own, cache, tmp_path / "out", merge=LOOSE)
    assert summary.format == "arrays"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["about.json", "labels"]
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert [e["class"] for e in about["entries"]] == [c.name for c in load_taxonomy("nuscenes").classes]
    assert about["taxonomy"] == "mine"


@pytest.mark.parametrize(
    ("system", "settings", "fill", "external"),
    [
        ("ovps", (), False, True),
        ("minus_fusion", ("classifier.classes=unified",), False, True),
        ("minus_fusion", ("classifier.classes=unified",), True, True),
        ("pfc", ("model.mask_prior=0.6",), False, True),  # or no voxel is inside an untrained mask
        ("openscene", (), False, True),
        ("closed_set", (), False, False),
        ("closed_set", ("model.fusion=true",), False, True),
        ("closed_set", ("loss.terms=[object]",), False, True),
    ],
)
def test_what_the_labels_depend_on_is_what_is_declared(stores, tmp_path, system, settings, fill, external):
    """Two stores of the same points and other CLIP features: equal labels if and only if no camera is declared."""
    clear, blurred = stores
    overrides = (*TINY, "gradient_interval=0", *settings)
    train(TrainOptions(cache=clear, out=tmp_path / "run", system=system, overrides=overrides))
    files = []
    for store in (clear, blurred):
        out = tmp_path / store.name
        merge = None if fill else LOOSE  # which leaves nothing to fill
        assert predict(tmp_path / "run", store, out, fill=fill, merge=merge).problems == []
        files.append([load_bin_file(str(p), type="panoptic") for p in sorted(out.glob("panoptic/val/*.npz"))])
    meta = json.loads((out / "val" / "submission.json").read_text())["meta"]
    assert meta["use_camera"] == any((a != b).any() for a, b in zip(*files, strict=True))
    assert meta["use_external"] == external


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [write_synthetic_store(folder / name, frames=2, noise=noise) for name, noise in (("a", 0.3), ("b", 3.0))]


def test_a_crowded_frame_ends_nothing_and_is_told_of(made, tmp_path, monkeypatch):
    """Every point of the second of three frames is a car of its own, but for one car of ten points."""
    run, _ = made
    cache = write_synthetic_store(tmp_path / "zarr", frames=3, points=1500)
    whole = pipelines.predict.predictions

    def crowded(*asked):
        session = asked[0]
        for number, (frame, prediction) in enumerate(whole(*asked)):
            n = len(frame.xyz)
            instance = np.where(np.arange(n) >= n - 10, n, np.arange(n)) + 1
            cars = PointLabels(np.full(n, session.vocabulary.names.index("car")), instance)
            yield frame, prediction if number != 1 else replace(prediction, labels=cars)

    monkeypatch.setattr(pipelines.predict, "predictions", crowded)
    arguments = ["predict", "--run", str(run), "--cache", str(cache), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["frames"], summary["problems"]) == (3, [])
    tokens = [ref.token for ref in Store.open(cache).frames if ref.subset == "val"]
    assert summary["left_out"] == {tokens[1]: 1491 - 999}
    (warning,) = summary["warnings"]
    assert f"{tokens[1]}: 492" in warning
    assert warning in result.stderr.replace("\n", " ")
    assert json.loads((tmp_path / "out" / "about.json").read_text())["left_out"] == summary["left_out"]
    files = sorted((tmp_path / "out" / "panoptic" / "val").glob("*.npz"))
    assert len(files) == 3
    labels = load_bin_file(str(files[1]), type="panoptic")
    assert len(set(labels[labels > 0])) == 999
    assert (labels == 0).sum() == 492
    assert len(set(labels[-10:])) == 1
    assert labels[-1] > 0  # the largest stays, although its number is the highest


def test_about_says_which_clip_and_names_no_place_on_this_machine(tmp_path):
    random, chance = untrained(tmp_path, weights_random=True)
    summary = predict(random, chance, tmp_path / "out")
    assert (summary.encoder, summary.weights_random) == ("synthetic", True)
    assert summary.warnings == ["random CLIP weights: labels that come from them mean nothing"]
    text = (tmp_path / "out" / "about.json").read_text()
    about = json.loads(text)
    assert (about["encoder"], about["weights_sha256"], about["weights_random"]) == ("synthetic", "0" * 64, True)
    assert about["run"] == "run"
    assert str(tmp_path) not in text


@pytest.mark.parametrize("setting", ["merge.score=nan", "classifier.classes=foo"])
def test_a_value_of_the_command_line_is_not_blamed_on_the_run(made, tmp_path, setting):
    run, cache = map(str, made)
    arguments = ["predict", "--run", run, "--cache", cache, "--out", str(tmp_path / "out"), "--set", setting]
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, ConfigError)
    assert error.path is None
    assert error.remedy == f"Mend {setting}, or leave it out"


@pytest.mark.parametrize("left", [None, 100])
def test_a_run_without_its_vocabulary_says_what_to_do(made, tmp_path, left):
    run = shutil.copytree(made[0], tmp_path / "run")
    path = run / "vocabulary.safetensors"
    whole = path.read_bytes()
    path.unlink() if left is None else path.write_bytes(whole[:left])
    with pytest.raises(CheckpointError, match=r"vocabulary.*of the store .*and the same `ovps train` again") as caught:
        predict(run, made[1], tmp_path / "out")
    assert "--restart" not in caught.value.remedy
    train(TrainOptions(cache=made[1], out=run, overrides=TINY))
    assert path.read_bytes() == whole
    predict(run, made[1], tmp_path / "out")


def vocabulary_of(cache, names, path):
    own = Store.open(cache).vocabulary
    entries = tuple(Entry(n, "thing", (n,)) for n in names)
    rows = own.embeddings[[own.names.index(n) for n in names]]
    save_vocabulary(Vocabulary(entries, rows, np.arange(len(names)), own.encoder, own.weights_sha256), path)
    return path


def test_things_and_stuff_that_are_mixed_up_are_told(made, tmp_path):
    words = vocabulary_of(made[1], ["car", "driveable_surface"], tmp_path / "v.safetensors")
    for run in (made[0], None):
        warnings = predict(run, made[1], tmp_path / str(run is None), vocabulary=words, merge=LOOSE).warnings
        assert "things and stuff are mixed up, nuscenes has driveable_surface:stuff: write them so" in warnings


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({"vocabulary": ["car", "bus"]}, {"vocabulary": ["bus", "car"], "subset": "train"}, "other entries"),
        ({"vocabulary": ["car", "bus"]}, {"vocabulary": ["bus", "car"]}, "other entries"),
        ({"vocabulary": ["car"]}, {}, "format arrays there, submission now"),
        ({}, {"vocabulary": ["car"]}, "format submission there, arrays now"),
        ({}, {"subset": "train"}, "subset val there, train now"),
        ({}, {"merge": LOOSE}, "other merge"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_holds_one_set_of_predictions(made, tmp_path, monkeypatch, first, second, named, finished):
    """What the labels mean stands in about.json, once: others beside or over them would be taken for the same."""

    def again(settings):
        names = settings.get("vocabulary")
        file = vocabulary_of(made[1], names, tmp_path / f"{'-'.join(names)}.safetensors") if names else None
        return predict(*made, tmp_path / "out", **(settings | {"vocabulary": file}))

    def stopped(*args):
        yield next(iter(whole(*args)))
        raise KeyboardInterrupt

    whole = pipelines.predict.predictions
    with monkeypatch.context() as patch:
        if not finished:
            patch.setattr(pipelines.predict, "predictions", stopped)
        with nullcontext() if finished else pytest.raises(KeyboardInterrupt):
            again(first)
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match=named) as caught:
        again(second)
    assert "delete the folder" in str(caught.value)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    again(first)  # the same goes on, or is written over
    assert not (tmp_path / "out" / "unfinished.json").exists()
    shutil.rmtree(tmp_path / "out")
    assert again(second).frames == 2


def test_an_about_json_of_something_else_stays(made, tmp_path):
    (tmp_path / "about.json").write_text("mine")
    with pytest.raises(ConfigError, match="not what `ovps predict` writes"):
        predict(*made, tmp_path)
    assert (tmp_path / "about.json").read_text() == "mine"


def test_predictions_are_not_written_into_what_they_are_made_of(made, tmp_path, mini_nuscenes):
    run, cache = made
    for place in (mini_nuscenes, mini_nuscenes / "panoptic", cache, cache / "new", run, run / "checkpoints" / "x"):
        with pytest.raises(ConfigError, match="among the files of the"):
            predict(run, cache, place)
    assert not (run / "checkpoints" / "x").exists()
    assert not (cache / "new").exists()
    assert predict(run, cache, run / "predictions").frames == 2


def test_a_folder_that_cannot_be_written_is_named(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        predict(*made, tmp_path / "file" / "out")
    assert str(tmp_path / "file") in caught.value.path
