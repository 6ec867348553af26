"""The whole way in SemanticKITTI's layout: raw files, features, training, scores, and files for the benchmark."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from ovps.cache.reader import Store
from ovps.cli import app
from ovps.datasets.semantickitti import DATASET as semantickitti
from ovps.errors import DatasetError, ProvenanceError
from ovps.evaluation.results import GROUPS
from ovps.model.panoptic import MergeConfig
from pipelines.evaluate import evaluate
from pipelines.options import PrecomputeOptions, VocabularyOptions
from pipelines.precompute import precompute
from pipelines.predict import check, predict
from pipelines.train import TrainOptions, train
from pipelines.vocabulary import build
from tests.evaluation.test_semantickitti_evaluation import published
from tests.pipelines.untrained import LOOSE, TINY

STEPS = 4


def options(root, out, **others):
    return PrecomputeOptions(dataset="semantickitti", dataroot=root, encoder="demo", workers=0, out=out, **others)


@pytest.fixture(scope="module")
def made(kitti_world, tmp_path_factory):
    """Store, run and submission."""
    folder = tmp_path_factory.mktemp("semantickitti")
    summary = precompute(options(kitti_world, folder / "zarr"))
    assert (summary.frames, summary.images, summary.unlabelled, summary.warnings) == (4, 4, 0, ())
    settings = (*TINY, f"steps={STEPS}", "data.grid=cylinder:60x45x8")
    train(TrainOptions(cache=folder / "zarr", out=folder / "run", config="driveworld-kitti", overrides=settings))
    predicted = predict(folder / "run", folder / "zarr", folder / "submission", merge=LOOSE)
    assert (predicted.format, predicted.frames, predicted.problems) == ("submission", 2, [])
    return folder


def test_the_store_holds_one_camera_and_raw_labels(made, kitti_world):
    store = Store.open(made / "zarr")
    assert store.provenance.cameras == ("image_2",)
    assert store.provenance.occlusion["vertical_deg"] == semantickitti.occlusion.vertical_deg
    frame = store.read(next(ref for ref in store.frames if ref.subset == "val"))
    raw = semantickitti.frames(kitti_world, "v1.0", ("val",))[0]
    np.testing.assert_array_equal(frame.label, semantickitti.labels(raw))
    assert [camera.channel for camera in frame.cameras] == ["image_2"]
    assert 0.05 < (frame.views > 0).mean() < 0.3


def test_the_score_is_that_of_the_benchmark_on_the_files(made, kitti_world):
    """`ovps eval` against the published definition, on the true labels and the submission as they lie on disk."""
    result = evaluate(made / "run", made / "zarr", merge=LOOSE, out=made / "scores")
    scans = []
    for frame in semantickitti.frames(kitti_world, "v1.0", ("val",)):
        sequence, number = frame.token.split("_")
        file = made / "submission" / "sequences" / sequence / "predictions" / f"{number}.label"
        scans.append((semantickitti.labels(frame), np.fromfile(file, "<u4")))
    assert {c.id: c.pq for c in result.system.panoptic.classes} == pytest.approx(published(scans, 50), abs=1e-12)
    assert result.min_points == 50
    assert any(c.fp or c.tp for c in result.system.panoptic.classes)


def test_scores_of_points_with_and_without_clip_stand_apart(made):
    result = evaluate(made / "run", made / "zarr", merge=LOOSE, out=made / "apart")
    seen, unseen = result.parts
    assert (seen.name, unseen.name) == ("seen", "unseen")
    assert set(seen.panoptic.groups) == set(GROUPS)
    points = [sum(c.points for c in row.panoptic.classes) for row in (result.system, seen, unseen)]
    assert points[0] == points[1] + points[2]
    assert points[1] / points[0] == pytest.approx(result.seen_points)
    for row, part in ((seen, "seen"), (unseen, "unseen")):
        scores = [c for c in row.panoptic.classes if c.points]
        assert result.miou[part]["all"] == pytest.approx(np.mean([c.iou for c in scores]))
    shown = CliRunner().invoke(app, ["eval", "--run", str(made / "run"), "--cache", str(made / "zarr")])
    assert {"seen", "unseen"} <= set(shown.output.split())


def test_the_command_line_checks_a_submission(made, tmp_path):
    folder = shutil.copytree(made / "submission", tmp_path / "submission")
    command = ["predict", "--run", str(made / "run"), "--cache", str(made / "zarr"), "--out", str(folder), "--check"]
    good = CliRunner().invoke(app, [*command, "--json"])
    assert (good.exit_code, json.loads(good.output)["problems"]) == (0, [])
    (folder / "sequences" / "01" / "predictions" / "000001.label").unlink()
    bad = CliRunner().invoke(app, [*command, "--json"])
    told = ["01_000001: no file: every frame of val needs one"]
    assert (bad.exit_code, json.loads(bad.output)["problems"]) == (1, told)
    assert check(made / "zarr", folder) == told


@pytest.mark.parametrize("more", ["", "--vocab v", "--vocab v --unknown"])
def test_what_was_written_is_in_order(made, tmp_path, more):
    build(VocabularyOptions(names="car, road:stuff", cache=str(made / "zarr"), out=tmp_path / "v"))
    words = ["predict", "--cache", str(made / "zarr"), "--out", str(tmp_path / "out"), "--json"]
    words += [str(tmp_path / word) if word == "v" else word for word in more.split()]
    for last in ([], ["--check"]):
        done = CliRunner().invoke(app, [*words, *last])
        assert (done.exit_code, json.loads(done.stdout)["problems"]) == (0, [])
    assert bool(more) == (tmp_path / "out" / "labels").is_dir() != (tmp_path / "out" / "sequences").is_dir()


def test_the_test_sequences_have_no_labels_and_end_in_a_submission(made, kitti_world, tmp_path):
    """By the official splits: 11 to 21, of which two are there."""
    for name, sequence in (("11", "00"), ("21", "01")):
        shutil.copytree(kitti_world / "sequences" / sequence, tmp_path / "data" / "sequences" / name)
        shutil.rmtree(tmp_path / "data" / "sequences" / name / "labels")
    summary = precompute(options(tmp_path / "data", tmp_path / "zarr", subsets=("test",)))
    assert (summary.frames, summary.unlabelled) == (4, 4)
    at = ("--run", made / "run", "--cache", tmp_path / "zarr", "--out", tmp_path / "out")
    for more in ([], ["--check"]):
        done = CliRunner().invoke(app, ["predict", *map(str, at), "--subset", "test", *more, "--json"])
        assert (done.exit_code, json.loads(done.stdout)["problems"]) == (0, [])
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.label"))
    assert files == [f"sequences/{s}/predictions/{n}.label" for s in ("11", "21") for n in ("000000", "000001")]


def test_both_cameras_on_request(kitti_world, tmp_path):
    one = precompute(options(kitti_world, tmp_path / "one", subsets=("val",), limit=1))
    both = precompute(options(kitti_world, tmp_path / "two", subsets=("val",), limit=1, cameras=("image_2", "image_3")))
    assert (one.images, both.images) == (1, 2)
    with pytest.raises(ProvenanceError, match="cameras"):
        precompute(options(kitti_world, tmp_path / "one", subsets=("val",), cameras=("image_3",)))
    with pytest.raises(DatasetError, match=r"no images of camera image_9 in scene 01.*image_2, image_3"):
        precompute(options(kitti_world, tmp_path / "none", subsets=("val",), cameras=("image_9",)))


def test_without_images_the_remedy_names_the_camera(kitti_world, tmp_path):
    root = shutil.copytree(kitti_world, tmp_path / "kitti")
    for name in ("image_2", "image_3"):
        shutil.rmtree(root / "sequences" / "01" / name)
    with pytest.raises(DatasetError, match=r"no images of camera image_2 in scene 01") as error:
        precompute(options(root, tmp_path / "zarr", subsets=("val",)))
    assert error.value.remedy == "Put them there: the scene has images of no camera, and CLIP sees nothing without"


# real frames


def ovps(*arguments):
    """Run the command line; its JSON."""
    run = subprocess.run(
        [sys.executable, "-m", "ovps.cli", *map(str, arguments), "--json"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return json.loads(run.stdout)


def test_the_whole_way_on_a_real_labelled_frame(real_kitti, tmp_path):
    """Its labels are derived from boxes: what is scored here is code."""
    data = ("--dataset", "semantickitti", "--dataroot", real_kitti, "--split", "val", "--encoder", "demo")
    store = ovps("precompute", *data, "--out", tmp_path / "zarr", "--workers", 0)
    assert ovps("cache", "verify", tmp_path / "zarr") == []
    short = ("--set", "steps=4", "--set", 'data.subsets=["val"]', "--set", "threads=1")
    run = ("--cache", tmp_path / "zarr", "--out", tmp_path / "run", "--config", "driveworld-kitti")
    trained = ovps("train", *run, *short)
    loose = [word for name, value in LOOSE.model_dump().items() if name in _LOOSE for word in _set(name, value)]
    at = ("--run", tmp_path / "run", "--cache", tmp_path / "zarr")
    predicted = ovps("predict", *at, "--out", tmp_path / "submission", *loose)
    scores = ovps("eval", *at)
    labels = np.fromfile(tmp_path / "submission/sequences/08/predictions/000000.label", "<u4")
    assert (store["images"], trained["step"], len(labels)) == (1, 4, 17_238)
    assert predicted["problems"] == []
    print(f"\nKITTI: {len(labels):,} points, {scores['seen_points']:.1%} of the labelled ones with a CLIP feature")


_LOOSE = ("score", "overlap", "mask")


def _set(name, value):
    return ("--set", f"merge.{name}={value}")


def test_ten_real_frames_without_labels_to_prediction_files(real_kitti_raw, made, tmp_path):
    """With the run of the drive world, of the same demo CLIP."""
    summary = precompute(options(real_kitti_raw, tmp_path / "zarr", subsets=("train",), thumbnails=160))
    assert (summary.frames, summary.unlabelled, summary.quarantined) == (10, 10, ())
    predicted = predict(made / "run", tmp_path / "zarr", tmp_path / "out", subset="train", merge=MergeConfig(score=0.0))
    assert (predicted.frames, predicted.problems) == (10, [])
    assert len(list((tmp_path / "out" / "sequences" / "00" / "predictions").glob("*.label"))) == 10
    share = summary.sweeps.seen_share["image_2"]
    print(f"\nKITTI raw: 10 frames, {predicted.points:,} points, image_2 sees {share:.1%} of a sweep")
    assert 0.1 < share < 0.15


def test_real_scans_without_images_are_told(real_semantickitti, tmp_path):
    with pytest.raises(DatasetError, match="no images of camera image_2"):
        precompute(options(real_semantickitti, tmp_path / "zarr", subsets=("val",)))
