"""nuScenes from tables to submission with earlier sweeps as input; and the same for a version without labels."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.datasets.nuscenes_tables import official_splits
from ovps.errors import CacheError, ConfigError, ProvenanceError
from ovps.inference.submission import check_submission
from ovps.taxonomy import load_taxonomy
from pipelines.evaluate import evaluate
from pipelines.precompute import PrecomputeOptions, precompute
from pipelines.precompute.options import resolved
from pipelines.predict import predict
from pipelines.train import TrainOptions, train
from tests.helpers.earlier_sweeps import VERSION, add_earlier_sweeps
from tests.helpers.mini_nuscenes import as_official, write_mini_nuscenes
from tests.pipelines.untrained import LOOSE, TINY

USUAL = {"encoder": "demo", "grid": "cylinder:60x45x8", "workers": 0}


def options(root: Path, out: Path, **changes) -> PrecomputeOptions:
    return PrecomputeOptions(dataroot=root, out=out, **USUAL | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Dataroot, store without and store with earlier sweeps, and a run on the latter."""
    folder = tmp_path_factory.mktemp("sweeps")
    root = add_earlier_sweeps(write_mini_nuscenes(folder / "data", scenes=2, frames=1))
    plain, joined = folder / "plain", folder / "joined"
    precompute(options(root, plain))
    precompute(options(root, joined, sweeps=2))
    train(TrainOptions(cache=joined, out=folder / "run", overrides=TINY))
    return root, plain, joined, folder / "run"


def test_the_store_has_them_beside_the_frame_and_nothing_else_changes(made):
    root, *stores, _ = made
    plain, joined = map(Store.open, stores)
    assert (plain.provenance.sweeps, joined.provenance.sweeps) == (0, 2)
    assert verify_store(joined.path) == []
    frames = {frame.token: frame for frame in nuscenes.frames(root, VERSION, ("train", "val"), sweeps=2)}
    for ref in joined.frames:
        without, frame = plain.read(ref), joined.read(next(r for r in joined.frames if r.token == ref.token))
        earlier = nuscenes.earlier_points(frames[ref.token])
        np.testing.assert_array_equal(frame.earlier_xyz, earlier.xyz)
        np.testing.assert_array_equal(frame.earlier_intensity, earlier.intensity)
        assert without.earlier_xyz is None
        for field in fields(frame):
            if not field.name.startswith("earlier"):
                np.testing.assert_array_equal(getattr(frame, field.name), getattr(without, field.name))


def test_a_pose_that_was_mended_joins_earlier_sweeps_anew(made, tmp_path):
    root = Path(shutil.copytree(made[0], tmp_path / "data"))
    store = Path(shutil.copytree(made[2], tmp_path / "zarr"))
    tables = [json.loads((root / VERSION / f"{name}.json").read_text()) for name in ("sample_data", "ego_pose")]
    keys = [row for row in tables[0] if row["is_key_frame"]]
    of_first = {row["ego_pose_token"] for row in keys if row["sample_token"] == keys[0]["sample_token"]}
    for pose in tables[1]:
        pose["translation"][0] += 2 * (pose["token"] in of_first)
    (root / VERSION / "ego_pose.json").write_text(json.dumps(tables[1]))
    summary = precompute(options(root, store, sweeps=2))
    assert (summary.frames, summary.recalibrated) == (1, 1)
    precompute(options(root, tmp_path / "fresh", sweeps=2))
    there, fresh = Store.open(store), Store.open(tmp_path / "fresh")
    for ref in fresh.frames:
        (same,) = (one for one in there.frames if one.token == ref.token)
        np.testing.assert_array_equal(there.read(same).earlier_xyz, fresh.read(ref).earlier_xyz)
    assert precompute(options(root, store, sweeps=2)).frames == 0


def test_earlier_sweeps_that_are_not_there_are_told(tmp_path):
    bare = write_mini_nuscenes(tmp_path / "bare", scenes=2, frames=3)
    for asked, few, none in ((1, 2, 2), (2, 4, 2)):  # key frames are each other's earlier sweeps
        (warning,) = precompute(options(bare, tmp_path / f"zarr{asked}", sweeps=asked)).warnings
        assert warning.startswith(f"{few} of 6 frames have fewer than the {asked} earlier sweep")
        assert f", {none} of them none" in warning
    assert precompute(options(bare, tmp_path / "zarr", sweeps=0)).warnings == ()


def test_predictions_and_scores_are_of_the_frames_own_points(made, tmp_path):
    _, plain, joined, run = made
    summary = predict(run, joined, tmp_path, merge=LOOSE)
    assert (summary.points, summary.problems) == (400, [])
    assert predict(None, joined, tmp_path / "clip alone").problems == []
    assert evaluate(run, joined, merge=LOOSE).frames == 1
    with pytest.raises(CacheError, match=r"the cache has 0 earlier sweeps, run .* was trained with 2") as caught:
        predict(run, plain, tmp_path / "other")
    assert "--sweeps 2" in caught.value.remedy


def test_stores_with_and_without_do_not_mix(made):
    root, plain, *_ = made
    with pytest.raises(ProvenanceError, match="sweeps 0 there, 1 now"):
        precompute(options(root, plain, sweeps=1))


def test_a_data_set_without_earlier_sweeps_says_so(monkeypatch):
    monkeypatch.setattr(type(nuscenes), "has_earlier_sweeps", False)
    with pytest.raises(ConfigError, match="data set nuscenes has no earlier sweeps"):
        resolved(PrecomputeOptions(sweeps=1))


@pytest.mark.parametrize(
    ("version", "subsets"),
    [("v1.0-mini", ("mini_train", "mini_val")), ("v1.0-test", ("test",)), (VERSION, ("train", "val"))],
)
def test_a_version_brings_its_own_splits(version, subsets, tmp_path):
    assert resolved(PrecomputeOptions(dataroot=tmp_path, version=version)).subsets == subsets
    assert resolved(PrecomputeOptions(dataroot=tmp_path, version=version, subsets=("train",))).subsets == ("train",)


def test_the_test_set_has_no_labels_and_ends_in_a_submission(made, tmp_path):
    """As v1.0-test comes: no panoptic labels, no boxes, and the category.json of the metadata."""
    run = made[3]
    root = write_mini_nuscenes(tmp_path / "data", scenes=1, frames=2, labelled=False)
    add_earlier_sweeps(root)
    folder = as_official(root, "v1.0-test", official_splits()["test"][:1])
    for table in ("sample_annotation", "instance"):
        (folder / f"{table}.json").write_text("[]")

    summary = precompute(options(root, tmp_path / "zarr", version="v1.0-test", sweeps=2))
    assert (summary.frames, summary.unlabelled) == (2, 2)
    done = predict(run, tmp_path / "zarr", tmp_path / "out", subset="test", merge=LOOSE)
    assert (done.format, done.frames, done.points, done.problems) == ("submission", 2, 800, [])
    points = {frame.token: 400 for frame in nuscenes.frames(root, "v1.0-test", ("test",))}
    assert check_submission(tmp_path / "out", "test", points, load_taxonomy("nuscenes")) == []
    with pytest.raises(ConfigError, match="2 of 2 frames of test have no labels"):
        evaluate(run, tmp_path / "zarr", subset="test")
