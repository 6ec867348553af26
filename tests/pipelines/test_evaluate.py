"""From a cache and a run to metrics.json, with an untrained network."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from ovps.cache.reader import Store
from ovps.cli import app
from ovps.errors import CacheError, CheckpointError, ConfigError, StorageError, VocabularyError
from ovps.evaluation.console import print_result
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import GROUPS, frame_pq, settings_of
from ovps.evaluation.unknown import UnknownTally
from ovps.inference import session as inference
from ovps.inference.session import inference_settings, open_session, predictions
from ovps.taxonomy import load_split, load_taxonomy
from ovps.training.run import load_run
from ovps.vocabulary import Vocabulary, digest, save_vocabulary, without_entries
from pipelines.evaluate import evaluate, load_frame_scores, load_result, save_result
from pipelines.report import report
from pipelines.train import TrainOptions, train
from pipelines.tune import tune
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.untrained import LOOSE, TINY, untrained
from tests.training.relabel import relabelled_store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def result(made):
    return evaluate(*made, merge=LOOSE)


def test_scores_are_written_and_read_back(made, result):
    run, cache = made
    assert load_result(run / "eval") == result
    assert result.frames == 2
    assert result.cache == Store.open(cache).provenance
    assert tuple(result.system.panoptic.groups) == GROUPS
    assert [row.name for row in result.rows] == [
        *("system", "unsplit", "proposals", "filled", "seen", "unseen"),
        *("random_class", "clip_argmax", "true_masks"),
    ]
    by_name = {row.name: row.panoptic.groups for row in result.rows}
    assert by_name["true_masks"]["all"].pq_present > 0.5 > by_name["system"]["all"].pq_present
    assert by_name["clip_argmax"]["all"].miou_present > by_name["system"]["all"].miou_present
    assert set(result.mask_recall) == {
        f"{a}{b}" for a in ("queries", "merged", "proposals") for b in ("", "/seen", "/unseen")
    }

    table = pq.read_table(run / "eval" / "classes.parquet").to_pylist()
    assert len(table) == 9 * 16
    assert [c["name"] for c in table if c["row"] == "system" and c["novel"]] == [
        *("bus", "motorcycle", "pedestrian", "vegetation"),
    ]


def test_points_of_an_ignored_class_do_not_count_and_nothing_is_called_so(made, tmp_path):
    """As if nobody had labelled them, and as if the vocabulary had no such entry."""
    run, cache = made
    ignoring = evaluate(run, cache, split="pla_b12n3", out=tmp_path / "ignoring", merge=LOOSE)
    assert ignoring.ignored == ["other_flat"]
    assert len(ignoring.system.panoptic.classes) == len(ignoring.vocabulary) == 15
    flat = load_taxonomy("nuscenes").by_name["other_flat"].id
    relabelled_store(cache, tmp_path / "zarr", lambda raw, semantic, rng: np.where(semantic == flat, 0, raw))
    vocabulary = without_entries(Store.open(cache).vocabulary, ["other_flat"])
    save_vocabulary(vocabulary, tmp_path / "v.safetensors")
    (tmp_path / "same.yaml").write_text(
        "{name: same, taxonomy: nuscenes, novel: [motorcycle, pedestrian, traffic_cone]}"
    )
    unlabelled = evaluate(
        run,
        tmp_path / "zarr",
        vocabulary=tmp_path / "v.safetensors",
        split=str(tmp_path / "same.yaml"),
        out=tmp_path / "unlabelled",
        merge=LOOSE,
    )
    for one, other in zip(ignoring.rows, unlabelled.rows, strict=True):
        known = {c.id: c for c in other.panoptic.classes}
        assert [known[c.id] for c in one.panoptic.classes] == one.panoptic.classes
        assert known[flat].points == 0
    masks, others = (result.references[-1] for result in (ignoring, unlabelled))
    assert masks.score("base", "pq") > others.score("base", "pq") > 0  # means over 12 classes, and over 13


def test_scores_by_another_split_say_what_training_knew(made, tmp_path):
    """The run was trained by b12n4: with labels of trailer and cone, without those of bus and pedestrian."""
    run, cache = made
    (tmp_path / "user.yaml").write_text("{name: user, taxonomy: nuscenes, novel: [trailer, traffic_cone, bus]}")
    scored = evaluate(run, cache, split=str(tmp_path / "user.yaml"), out=tmp_path / "eval", merge=LOOSE)
    assert set(scored.novel_taught) == {"trailer", "traffic_cone"}
    assert set(scored.base_hidden) == {"motorcycle", "pedestrian", "vegetation"}
    told = " ".join(scored.warnings)
    assert "trailer, novel in split user; the run was trained by split b12n4" in told.replace("traffic_cone, ", "")
    assert "base in split user; the run was trained by split b12n4" in told
    text = io.StringIO()
    print_result(scored, Console(file=text, width=150))
    assert "novel ones were never labelled" not in text.getvalue()
    assert "classes; novel by split user" in text.getvalue()
    assert "thing, novel, labelled in training" in text.getvalue()
    page = report(run, cache, evaluation=tmp_path / "eval", out=tmp_path / "r.html", count=1).read_text()
    head = " ".join(page.partition("<h2>")[0].split())
    assert "Never labelled in training" not in head
    assert "Novel by split user, not by that of the training" in head
    assert "never saw a label of" not in head
    own = evaluate(run, cache, out=tmp_path / "own", merge=LOOSE)
    assert (own.novel_taught, own.base_hidden) == ([], [])
    assert not any("the run was trained by" in warning for warning in own.warnings)


def test_frames_that_the_run_has_learned_from_are_told_of(made, tmp_path):
    run, cache = made
    frames = Store.open(cache).frames
    assert load_run(run).info.scenes == tuple(dict.fromkeys(f.scene for f in frames if f.subset == "train"))
    moved = next(f.scene for f in frames if f.subset == "val")
    shutil.copytree(run, tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(info | {"scenes": [moved]}))
    (warning,) = evaluate(tmp_path / "run", cache, merge=LOOSE).warnings
    assert warning.endswith(f"frames are of scenes that the run was trained on: {moved}")
    (tmp_path / "run" / "run.json").write_text(json.dumps({k: v for k, v in info.items() if k != "scenes"}))
    assert evaluate(tmp_path / "run", cache, merge=LOOSE).warnings == []  # of an earlier version, which says nothing


def test_labels_of_another_taxonomy_are_not_scored(made, tmp_path):
    other = write_synthetic_store(tmp_path / "zarr", frames=2, taxonomy=load_taxonomy("semantickitti"))
    with pytest.raises(ConfigError, match=r"of taxonomy semantickitti, .* classes of nuscenes.*`ovps predict`"):
        evaluate(made[0], other, out=tmp_path / "eval")
    assert not (tmp_path / "eval").exists()


@pytest.mark.parametrize("gone", ["all", "novel"])
def test_labels_of_which_no_point_has_a_class_are_told(made, tmp_path, gone):
    run, cache = made
    ids = [*range(17)] if gone == "all" else load_split("b12n4").novel_ids(load_taxonomy("nuscenes"))
    relabelled_store(cache, tmp_path / "zarr", lambda raw, semantic, rng: np.where(np.isin(semantic, ids), 0, raw))
    (warning,) = evaluate(run, tmp_path / "zarr", out=tmp_path / "eval", merge=LOOSE).warnings
    says = {
        "all": "no point of 2 frames is labelled as one of 16 classes, and scores of 0 say nothing: look whether",
        "novel": "no point of 2 frames is labelled as a novel class (bus, motorcycle, pedestrian, vegetation), and",
    }
    assert warning.startswith(says[gone])
    told = tune(run, tmp_path / "zarr").warnings
    assert [w.partition(",")[0] for w in told] == (
        ["no point of 2 frames is labelled as one of 12 classes"] if gone == "all" else []
    )


def test_an_unfinished_run_says_so(made, tmp_path):
    run = tmp_path / "run"
    train(TrainOptions(cache=made[1], out=run, overrides=(*TINY[1:], "steps=3"), stop_after=2))
    assert "the run is at step 2 of 3" in evaluate(run, made[1]).warnings
    assert not any("at step" in warning for warning in evaluate(*made, out=tmp_path / "eval").warnings)


def test_novel_as_unknown_is_scored_with_the_base_classes_alone(made, tmp_path):
    run, cache = made
    plain = evaluate(run, cache, out=tmp_path / "plain", merge=LOOSE)
    result = evaluate(run, cache, out=tmp_path / "eval", merge=LOOSE, unknown=True)
    assert result.system == plain.system
    assert plain.unknown == {}
    assert load_result(tmp_path / "eval") == result

    own = Store.open(cache).vocabulary
    vocabulary = without_entries(own, load_split("b12n4").novel)
    assert len(vocabulary.names) == 12
    save_vocabulary(vocabulary, tmp_path / "base.safetensors")
    session = open_session(run, cache, vocabulary=tmp_path / "base.safetensors", merge=LOOSE)
    frames = [ref for ref in session.store.frames if ref.subset == "val"]
    tally = UnknownTally(session.novel, session.taxonomy.min_points)
    clip = UnknownTally(session.novel, session.taxonomy.min_points)
    for frame, prediction in predictions(session, frames, unknown=True):
        semantic, instance = session.taxonomy.true_segments(frame.label)
        tally.add(prediction.unknown, semantic, instance)
        feature = frame.clip / np.maximum(np.linalg.norm(frame.clip, axis=1, keepdims=True), 1e-12)
        far = (1 - (feature @ vocabulary.embeddings.T).max(axis=1)) / 2
        seen = frame.views > 0
        clip.add(far[frame.point_voxel][seen], semantic[seen], instance[seen])
    assert result.unknown["system"] == tally.result()
    for what, score in clip.result().items():
        assert result.unknown["clip/seen"][what].auroc == pytest.approx(score.auroc, abs=2e-3)
    assert result.unknown["system/seen"]["points"].base < result.unknown["system"]["points"].base
    assert result.unknown["clip/seen"]["segments"].auroc > 0.9  # the synthetic store's features are near their texts
    buffer = io.StringIO()
    print_result(result, Console(file=buffer, width=200))
    assert "AUROC" in buffer.getvalue()
    with pytest.raises(ConfigError, match="no novel class"):
        evaluate(run, cache, out=tmp_path / "all", split="all", unknown=True)


def test_frames_are_scored_one_by_one(made, result):
    run, cache = made
    scores = load_frame_scores(run / "eval")
    assert [s.token for s in scores] == [ref.token for ref in Store.open(cache).frames if ref.subset == "val"]
    # on its own a frame has the mean over the classes that it has a segment of
    one = evaluate(run, cache, out=run / "eval-loose", merge=LOOSE)
    assert one.system == result.system
    assert all(0 <= s.novel <= 1 and 0 <= s.base <= 1 for s in scores)
    counts = PanopticCounts.empty()
    assert frame_pq(counts, (3, 4)) is None
    counts.tp[3], counts.iou[3], counts.fn[4], counts.fp[5] = 1, 0.8, 1, 1  # found; missed; nowhere in the truth
    assert frame_pq(counts, (3, 4, 5, 6)) == pytest.approx(0.4)


def test_inference_settings_may_change_and_learned_ones_may_not(made):
    run, _ = made
    whole_sections = ["merge={score: 0.11}", "classifier={classes: ensemble}"]
    merge, classifier = inference_settings(run, ["merge.score=0.11", "classifier.classes=ensemble"])
    assert inference_settings(run, whole_sections) == (merge, classifier)
    assert (merge.score, classifier.classes) == (0.11, "ensemble")
    assert merge.overlap == load_run(run).config.merge.overlap
    with pytest.raises(ConfigError, match=r"model\.width=8 changes what is learned"):
        inference_settings(run, ["model.width=8"])
    with pytest.raises(ConfigError, match=r"merge\.scor"):
        inference_settings(run, ["merge.scor=1"])


def test_an_evaluation_says_what_it_is_of(made, result):
    run, cache = made
    assert result.checkpoint_sha256 == hashlib.sha256((run / "checkpoints/last.pt").read_bytes()).hexdigest()
    assert result.vocabulary_sha256 == digest(Store.open(cache).vocabulary)
    assert settings_of(result, run)[0] == LOOSE
    old = result.model_dump(mode="json", exclude={"checkpoint_sha256", "vocabulary_sha256", "parameters", "content"})
    assert type(result).model_validate(old).parameters is None


def test_filling_leaves_fewer_points_unlabelled_and_changes_no_label(made):
    session = open_session(*made)  # the run's own thresholds: hardly a query survives them
    frames = [ref for ref in session.store.frames if ref.subset == "val"]
    for _, prediction in predictions(session, frames, ("filled", "unsplit")):
        plain, filled = prediction.labels, prediction.variants["filled"]
        labelled = plain.entry >= 0
        np.testing.assert_array_equal(plain.entry[labelled], filled.entry[labelled])
        np.testing.assert_array_equal(plain.instance[labelled], filled.instance[labelled])
        assert (filled.entry >= 0).sum() > labelled.sum()
        np.testing.assert_array_equal(prediction.variants["unsplit"].entry, plain.entry)


def test_the_order_of_a_vocabulary_and_twin_synonyms_change_nothing(made, result, tmp_path):
    run, cache = made
    own = Store.open(cache).vocabulary
    order = np.random.default_rng(0).permutation(len(own.entries))
    vocabulary = Vocabulary(
        tuple(own.entries[i] for i in order),
        np.repeat(own.embeddings[order], 2, axis=0),
        np.repeat(np.arange(len(order)), 2),
        own.encoder,
        own.weights_sha256,
    )
    save_vocabulary(vocabulary, tmp_path / "v.safetensors")
    again = evaluate(run, cache, vocabulary=tmp_path / "v.safetensors", out=tmp_path / "eval", merge=LOOSE)
    assert again.system == result.system
    assert again.mask_recall == result.mask_recall
    assert load_result(run / "eval") == result


def test_class_names_may_be_written_with_spaces_and_capitals(made, result, tmp_path):
    run, cache = made
    own = Store.open(cache).vocabulary
    assert result.warnings == []
    renamed = tuple(replace(e, name=e.name.replace("_", " ").title()) for e in own.entries)
    save_vocabulary(replace(own, entries=renamed), tmp_path / "v.safetensors")
    again = evaluate(run, cache, vocabulary=tmp_path / "v.safetensors", out=tmp_path / "eval", merge=LOOSE)
    assert (again.system, again.warnings) == (result.system, [])


def test_classes_that_nothing_is_named_after_are_told_of(made, tmp_path):
    run, cache = made
    own = Store.open(cache).vocabulary
    renamed = tuple(replace(e, name={"bus": "coach"}.get(e.name, e.name)) for e in own.entries)
    save_vocabulary(replace(own, entries=renamed), tmp_path / "v.safetensors")
    arguments = ["eval", "--run", str(run), "--cache", str(cache), "--vocab", str(tmp_path / "v.safetensors")]
    shown = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "eval"), "--json"])
    assert shown.exit_code == 0, shown.output
    unnamed, distractor = json.loads(shown.stdout)["warnings"]
    assert "named after bus:" in unnamed
    assert distractor.startswith("coach:")
    assert all(f"warning: {w}" in shown.stderr for w in (unnamed, distractor))
    assert load_result(tmp_path / "eval").warnings == [unnamed, distractor]


def test_errors(made, tmp_path):
    run, cache = made
    with pytest.raises(CheckpointError, match="no run here"):
        evaluate(tmp_path, cache)
    with pytest.raises(CacheError, match="no cache"):
        evaluate(run, tmp_path)
    with pytest.raises(ConfigError, match="no frames of test"):
        evaluate(run, cache, subset="test")
    with pytest.raises(ConfigError, match="not evaluated yet"):
        load_result(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ConfigError, match="not an evaluation"):
        load_result(tmp_path)

    own = Store.open(cache).vocabulary
    other = Vocabulary(own.entries, own.embeddings, own.class_index, "RN50", own.weights_sha256)
    save_vocabulary(other, tmp_path / "other.safetensors")
    with pytest.raises(VocabularyError, match="another CLIP"):
        evaluate(run, cache, vocabulary=tmp_path / "other.safetensors")


def test_frames_without_labels_are_told_before_the_first_one(made, tmp_path, monkeypatch):
    """The first frame of val has labels, the second has none."""
    run, _ = made
    store = write_synthetic_store(tmp_path / "store", frames=1, subsets=("val",), partition_frames=1)
    other = write_synthetic_store(tmp_path / "other", frames=2, subsets=("val",), partition_frames=1, labelled=False)
    (folder,) = (other / "partitions").glob("synthetic-0000.000001-*.zarr")
    shutil.copytree(folder, store / "partitions" / folder.name)
    shutil.copy(other / "manifest/synthetic-0000.000001.parquet", store / "manifest")

    def no_frame(*arguments):
        raise AssertionError("a frame was predicted")

    monkeypatch.setattr(inference, "predict_frame", no_frame)
    with pytest.raises(ConfigError, match=r"1 of 2 frames of val have no labels .*frame synthetic-0000-001"):
        evaluate(run, store)
    with pytest.raises(AssertionError, match="a frame was predicted"):  # the one that has labels
        evaluate(run, store, unlabelled_frames="skip")
    monkeypatch.undo()
    result = evaluate(run, store, unlabelled_frames="skip", out=tmp_path / "eval", merge=LOOSE)
    assert result.frames == 1
    assert "1 of 2 frames of val have no labels and are not scored" in result.warnings
    assert (
        "1 of 2 frames of val have no labels and are not scored" in tune(run, store, unlabelled_frames="skip").warnings
    )
    bare = write_synthetic_store(tmp_path / "bare", frames=1, subsets=("val",), labelled=False)
    with pytest.raises(ConfigError, match="1 of 1 frames of val have no labels"):
        evaluate(run, bare, unlabelled_frames="skip")


def split_of_novel(path, novel) -> str:
    path.write_text(yaml.safe_dump({"name": path.stem, "taxonomy": "nuscenes", "novel": list(novel)}))
    return str(path)


def test_what_a_split_leaves_nothing_for_is_told_before_the_first_frame(made, tmp_path, monkeypatch):
    names = [c.name for c in load_taxonomy("nuscenes").classes]
    none, each = split_of_novel(tmp_path / "none.yaml", ()), split_of_novel(tmp_path / "each.yaml", names)

    def no_frame(*arguments):
        raise AssertionError("a frame was read")

    monkeypatch.setattr(Store, "read", no_frame)
    with pytest.raises(ConfigError, match="split none has no novel class to be unknown"):
        evaluate(*made, split=none, unknown=True)
    with pytest.raises(ConfigError, match="split each leaves no base class"):
        evaluate(*made, split=each, unknown=True)
    with pytest.raises(ConfigError, match="split each has no base class"):
        tune(*made, split=each)


def test_the_terminal_says_when_weights_are_random(result, tmp_path):
    def shown(value):
        console = Console(file=io.StringIO(), width=160)
        print_result(value, console)
        return console.file.getvalue()

    assert "Random CLIP weights" not in shown(result)
    assert "clip_argmax" in shown(result)
    random = result.model_copy(update={"weights_random": True})
    assert "Random CLIP weights" in shown(random)
    save_result(random, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["weights_random"] is True


def better(text: str) -> str:
    record = json.loads(text)
    record["system"]["panoptic"]["groups"]["all"]["pq"] += 0.1
    return json.dumps(record)


PARQUETS = ("frames.parquet", "classes.parquet")
CHANGES = [("metrics.json", "changed"), *((name, how) for name in PARQUETS for how in ("changed", "lost"))]


@pytest.mark.parametrize(("name", "how"), CHANGES)
def test_scores_that_were_changed_are_never_taken_for_measured_ones(made, result, tmp_path, name, how):
    folder = tmp_path / "eval"
    shutil.copytree(made[0] / "eval", folder)
    assert load_result(folder) == result
    if how == "lost":
        (folder / name).unlink()
    elif name == "metrics.json":
        (folder / name).write_text(better((folder / name).read_text()))
    else:
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(ConfigError, match=f"{name} changed after the evaluation") as caught:
        load_result(folder)
    assert "ovps eval" in caught.value.remedy
    with pytest.raises(ConfigError, match="changed after"):
        report(made[0], made[1], evaluation=folder)
    evaluate(*made, merge=LOOSE, out=folder)  # the remedy
    assert load_result(folder).system == result.system


def test_a_full_disk_takes_neither_the_scores_of_before_nor_the_table(made, tmp_path):
    run, cache = made
    arguments = ["eval", "--run", str(run), "--cache", str(cache), "--out", str(tmp_path / "eval")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    before = load_result(tmp_path / "eval")
    room = (tmp_path / "eval" / "metrics.json").stat().st_size - 1000
    assert room > max((tmp_path / "eval" / name).stat().st_size for name in PARQUETS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        loose = ["--set", "merge.score=0", "--set", "merge.overlap=0", "--set", "merge.mask=0.02"]
        shown = CliRunner().invoke(app, [*arguments, *loose])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(shown.exception, StorageError)
    assert shown.exception.path.endswith("metrics.json")
    assert "beside it" in shown.stderr
    assert load_result(tmp_path / "eval") == before
    assert not list((tmp_path / "eval").glob(".tmp*"))
    assert len(load_frame_scores(tmp_path / "eval")) == 2


def test_scores_of_before_digests_are_still_read(made, result, tmp_path):
    record = json.loads((made[0] / "eval" / "metrics.json").read_text())
    del record["written"]
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    assert load_result(tmp_path) == result
