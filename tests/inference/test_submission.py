"""Submission files: written, read back by the devkit, scored by the devkit, and broken on purpose."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes.eval.panoptic.evaluate import NuScenesPanopticEval
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_io import load_bin_file

from driveworld import build_world
from ovps.errors import ConfigError, StorageError
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import panoptic_result
from ovps.inference.submission import check_submission, encode, label_path, leave_out, write_labels, write_meta
from ovps.taxonomy import load_taxonomy
from pipelines.evaluate import evaluate
from pipelines.precompute import PrecomputeOptions, precompute
from pipelines.predict import predict
from pipelines.train import TrainOptions, train
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.pipelines.untrained import LOOSE, TINY

TAXONOMY = load_taxonomy("nuscenes")


def imperfect(rng, semantic, instance):
    """A prediction that is mostly right: some points unlabelled, some of another class, some instances split."""
    n = len(semantic)
    wrong = np.where(rng.random(n) < 0.1, rng.integers(0, 17, n), semantic)
    split = np.where(rng.random(n) < 0.1, 1, 0)
    return wrong, instance * 2 + split


def devkit_scores(nusc, folder, subset, scenes, out):
    """The devkit's evaluation with its list of scenes replaced by those present."""
    with patch("nuscenes.eval.lidarseg.utils.create_splits_scenes", lambda verbose=False: {subset: scenes}):
        evaluator = NuScenesPanopticEval(nusc, str(folder), subset, "segmentation", TAXONOMY.min_points, str(out))
        return evaluator.evaluate_segmentation()


def check_against_devkit(root: Path, version: str, tmp_path: Path) -> None:
    """Write a submission for every frame of a dataroot; the devkit must read it and score it as we do."""
    nusc = NuScenes(version, str(root), verbose=False)
    rng = np.random.default_rng(0)
    counts, points = PanopticCounts.empty(), {}
    for sample in nusc.sample:
        token = sample["data"]["LIDAR_TOP"]
        raw = load_bin_file(str(root / nusc.get("panoptic", token)["filename"]), type="panoptic").astype(np.uint32)
        semantic, instance = TAXONOMY.decode(raw)
        predicted = encode(*imperfect(rng, semantic, instance), TAXONOMY)
        path = write_labels(tmp_path / "sub", "val", token, predicted)
        np.testing.assert_array_equal(load_bin_file(str(path), type="panoptic"), predicted)
        counts.add(semantic, instance, predicted // 1000, predicted, min_points=TAXONOMY.min_points)
        points[token] = len(raw)
    write_meta(tmp_path / "sub", "val", use_camera=True, use_external=True)
    assert check_submission(tmp_path / "sub", "val", points, TAXONOMY) == []

    theirs = devkit_scores(nusc, tmp_path / "sub", "val", [s["name"] for s in nusc.scene], tmp_path)
    ours = panoptic_result(counts, TAXONOMY, ())
    group = ours.groups["all"]
    mine = {"PQ": group.pq, "SQ": group.sq, "RQ": group.rq, "mIoU": group.miou, "PQ_dagger": group.pq_dagger}
    assert mine == pytest.approx(theirs["all"], abs=1e-9)
    assert group.pq > 0
    for score in ours.classes:
        expected = theirs[score.name]
        assert {"PQ": score.pq, "SQ": score.sq, "RQ": score.rq, "IoU": score.iou} == pytest.approx(expected, abs=1e-9)


def test_the_devkit_scores_our_files_as_we_do(tmp_path):
    root = write_mini_nuscenes(tmp_path / "data", points=1200)
    check_against_devkit(root, "v1.0-trainval", tmp_path)


def test_the_devkit_scores_our_files_of_the_drive_world_as_we_do(tmp_path):
    build_world(tmp_path / "data", scenes=1, frames=1, seed=3, image_size=(64, 36), azimuth_steps=360, workers=1)
    check_against_devkit(tmp_path / "data", "v1.0-trainval", tmp_path)


def test_the_devkit_scores_our_files_of_a_real_frame_as_we_do(real_nuscenes, tmp_path):
    check_against_devkit(real_nuscenes, "v1.0-mini", tmp_path)


@given(
    st.lists(st.tuples(st.integers(0, 16), st.integers(0, 2**32 - 1).map(lambda i: i % 5 * 800_000_000)), max_size=60)
)
def test_encode_keeps_segments_apart_and_counts_from_one(pairs):
    semantic, instance = np.array(pairs, np.int64).reshape(-1, 2).T
    labels = encode(semantic, instance, TAXONOMY)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels // 1000, semantic)
    things = [(int(c), int(i)) for c, i in pairs if c in TAXONOMY.thing_ids]
    coded = [int(label) for label in labels if label // 1000 in TAXONOMY.thing_ids]
    assert len(set(zip(things, coded, strict=True))) == len(set(things)) == len(set(coded))
    for c in {c for c, _ in things}:
        numbers = sorted({label % 1000 for label in coded if label // 1000 == c})
        assert numbers == list(range(1, len(numbers) + 1))
    assert all(label % 1000 == 0 for label in labels if label // 1000 in (0, *TAXONOMY.stuff_ids))


def test_too_many_instances_is_an_error():
    with pytest.raises(ConfigError, match="999 instances"):
        encode(np.full(1000, 4), np.arange(1000), TAXONOMY, frame="abc")


@given(st.lists(st.tuples(st.sampled_from([0, 4, 7, 11]), st.integers(0, 8)), max_size=80), st.integers(2, 6))
def test_what_does_not_fit_is_the_smallest_and_nothing_else(pairs, room):
    semantic, instance = np.array(pairs, np.int64).reshape(-1, 2).T
    with patch("ovps.inference.submission.DIVISOR", room):
        kept, count = leave_out(semantic, instance, TAXONOMY)
    sizes = {c: Counter(i for k, i in pairs if k == c) for c in (4, 7)}
    assert count == sum(max(len(s) - (room - 1), 0) for s in sizes.values())
    assert (kept[semantic == 11] == 11).all()
    for c, size in sizes.items():
        stays = {int(i) for i in instance[kept == c]}
        assert {int(i) for i in instance[(semantic == c) & (kept == 0)]} == size.keys() - stays  # whole instances
        assert len(stays) == min(len(size), room - 1)
        assert all(size[i] >= size[o] for i in stays for o in size.keys() - stays)


def test_every_fault_is_found(tmp_path):
    good = np.array([4001, 11000, 0], np.uint16)
    broken = {
        "count": good[:2],
        "dtype": good.astype(np.int32),
        "class": np.array([17000, 4001, 11000], np.uint16),
        "thing": np.array([4000, 4001, 11000], np.uint16),
        "stuff": np.array([11001, 4001, 11000], np.uint16),
        "void": np.array([5, 4001, 11000], np.uint16),  # class 0 has no instances
        "extra": good,
        "good": good,
    }
    for token, labels in broken.items():
        write_labels(tmp_path, "val", token, labels)
    label_path(tmp_path, "val", "torn").write_bytes(label_path(tmp_path, "val", "good").read_bytes()[:40])
    points = {token: 3 for token in [*broken, "torn", "missing"] if token != "extra"}

    problems = check_submission(tmp_path, "val", points, TAXONOMY)
    assert Counter(p.split(":")[0] for p in problems) == Counter(
        ["submission.json", "count", "dtype", "class", "thing", "stuff", "void", "extra", "torn", "missing"]
    )
    write_meta(tmp_path, "val", use_camera=False, use_external=True)
    for token in (*broken, "torn"):
        if token != "good":
            label_path(tmp_path, "val", token).unlink()
    assert check_submission(tmp_path, "val", {"good": 3}, TAXONOMY) == []
    assert check_submission(tmp_path, "val", {"good": 3}, TAXONOMY, allow_unlabelled=False) == [
        "good: 1 points of no class of the challenge (are they general classes? `raw_to_id` of the taxonomy maps them)"
    ]
    meta = tmp_path / "val" / "submission.json"
    meta.write_text(json.dumps({"meta": {"task": "tracking", "use_camera": 1}}))
    assert len(check_submission(tmp_path, "val", {"good": 3}, TAXONOMY)) == 6


def test_a_full_disk_leaves_no_half_written_file(tmp_path):
    with (
        patch("ovps.files.os.replace", side_effect=OSError(28, "No space left on device")),
        pytest.raises(StorageError, match="No space"),
    ):
        write_labels(tmp_path, "val", "abc", np.zeros(3, np.uint16))
    assert not list((tmp_path / "panoptic" / "val").iterdir())


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submitted")
    write_labels(folder, "val", "abc", np.repeat(np.array([4001, 11000, 0], np.uint16), 50))
    write_meta(folder, "val", use_camera=True, use_external=True)
    return folder


@settings(max_examples=150)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_a_fault_or_changes_nothing(submitted, place, change):
    path = label_path(submitted, "val", "abc")
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[place % len(whole)] ^= change
    try:
        path.write_bytes(changed)
        problems = check_submission(submitted, "val", {"abc": 150}, TAXONOMY)
        assert problems or (np.load(path)["data"] == np.repeat(np.array([4001, 11000, 0]), 50)).all()
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("content", ["[]", '{"meta": []}', "null", "{", "[" * 100_000, '{"meta": {"task": []}}'])
def test_any_submission_json_is_judged(submitted, content, tmp_path):
    folder = Path(shutil.copytree(submitted, tmp_path / "sub"))
    (folder / "val" / "submission.json").write_text(content)
    problems = check_submission(folder, "val", {"abc": 150}, TAXONOMY)
    assert problems
    assert all(problem.startswith("submission.json: ") for problem in problems)


def test_what_lies_elsewhere_unpacks_to_a_giant_or_is_called_otherwise(submitted, tmp_path):
    folder = Path(shutil.copytree(submitted, tmp_path / "sub"))
    (folder / "panoptic" / "val" / "._abc.npz").touch()
    with zipfile.ZipFile(label_path(folder, "val", "abc"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", bytes(20_000_000))
    problems = check_submission(folder, "val", {"abc": 150}, TAXONOMY)
    assert [problem.split(":")[0] for problem in problems] == ["._abc.npz", "abc"]
    assert "unpacks to 20,000,000 bytes" in problems[1]
    shutil.move(folder / "panoptic" / "val", folder / "val" / "panoptic")
    (problem,) = check_submission(folder, "val", {"abc": 150}, TAXONOMY)
    assert problem.startswith("panoptic/val: no such folder")


def test_the_devkit_scores_a_run_on_the_drive_world_as_we_do(tmp_path):
    """From precompute to the files of a trained network, and `ovps eval` of the same."""
    root = tmp_path / "data"
    build_world(root, scenes=2, frames=1, seed=3, image_size=(160, 90), azimuth_steps=360, val_fraction=0.5, workers=1)
    cache, run = tmp_path / "zarr", tmp_path / "run"
    precompute(PrecomputeOptions(dataroot=root, out=cache, encoder="demo", grid="cylinder:60x45x8", workers=0))
    train(TrainOptions(cache=cache, out=run, overrides=(*TINY, "steps=15", "optimiser.lr=5e-3")))
    assert predict(run, cache, tmp_path / "sub", merge=LOOSE).problems == []
    ours = evaluate(run, cache, merge=LOOSE)

    nusc = NuScenes("v1.0-trainval", str(root), verbose=False)
    scenes = json.loads((root / "v1.0-trainval" / "splits.json").read_text())["val"]
    theirs = devkit_scores(nusc, tmp_path / "sub", "val", scenes, tmp_path)
    group = ours.system.panoptic.groups["all"]
    mine = {"PQ": group.pq, "SQ": group.sq, "RQ": group.rq, "mIoU": group.miou, "PQ_dagger": group.pq_dagger}
    assert mine == pytest.approx(theirs["all"], abs=1e-6)
    assert group.miou > 0
    for score in ours.system.panoptic.classes:
        expected = theirs[score.name]
        assert {"PQ": score.pq, "SQ": score.sq, "RQ": score.rq, "IoU": score.iou} == pytest.approx(expected, abs=1e-6)
