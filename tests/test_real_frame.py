"""The whole way on a real nuScenes key frame, by the commands a user types. `make real-check` prints the figures."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_io import load_bin_file

from tests.inference.test_submission import devkit_scores

POINTS = 34_688
VERSION = "v1.0-trainval"
TOKEN = "9d9bf11fb0e144c8b446d54a8a00184f"
STEPS = 4
GIB = 2**30


def ovps(*arguments):
    """Run the command line; its JSON."""
    run = subprocess.run(
        [sys.executable, "-m", "ovps.cli", *map(str, arguments), "--json"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return json.loads(run.stdout)


def the_whole_way(root, out, encoder, *weights):
    """precompute, verify, train, predict; the summaries."""
    cache, run = out / "zarr", out / "run"
    data = ("--dataset", "nuscenes", "--dataroot", root, "--split", "train", "--version", VERSION)
    store = ovps("precompute", *data, "--out", cache, "--encoder", encoder, *weights, "--workers", 1)
    assert ovps("cache", "verify", cache) == []
    # so short a training is sure of nothing: lower thresholds than the config's let segments through
    settings = (
        f"steps={STEPS}",
        "threads=1",
        "data.batch_size=1",
        "merge.score=0",
        "merge.mask=0.2",
        "merge.overlap=0",
    )
    short = (word for setting in settings for word in ("--set", setting))
    trained = ovps("train", "--cache", cache, "--out", run, *short)
    predicted = ovps("predict", "--run", run, "--cache", cache, "--subset", "train", "--out", out / "submission")
    return store, trained, predicted


def check_submission_of(root, out):
    """Read the file back as the devkit does, and let the devkit score it."""
    labels = load_bin_file(str(out / "submission" / "panoptic" / "train" / f"{TOKEN}_panoptic.npz"), type="panoptic")
    assert labels.dtype == np.uint16
    assert labels.shape == (POINTS,)
    classes, instances = np.divmod(labels[labels > 0], 1000)
    assert len(classes) > 0, "without thresholds there are segments"
    assert set(classes.tolist()) <= set(range(1, 17))
    assert (instances[classes <= 10] >= 1).all()
    assert (instances[classes > 10] == 0).all()

    nusc = NuScenes(VERSION, str(root), verbose=False)
    scores = devkit_scores(nusc, out / "submission", "train", [s["name"] for s in nusc.scene], out)
    assert 0 <= scores["all"]["PQ"] <= 1
    return scores["all"]


def report(store, trained, predicted, scores):
    print(
        f"\nimages {store['images']} at {store['images_per_second']:.3f}/s, worker peak "
        f"{store['peak_worker_bytes'] / GIB:.2f} GiB, random CLIP weights: {store['weights_random']}"
        f"\n{trained['step']} steps in {trained['seconds']:.0f} s, {trained['parameters']:,} parameters"
        f"\n{predicted['points']:,} points, {predicted['unlabelled']:,} of them unlabelled,"
        f" submission problems: {predicted['problems']}"
        f"\ndevkit against labels derived from boxes (says nothing about a model): PQ {scores['PQ']:.4f}"
    )


def test_the_whole_way_with_the_demo_clip(real_nuscenes, tmp_path):
    store, trained, predicted = the_whole_way(real_nuscenes, tmp_path, "demo")
    assert (store["images"], trained["step"], predicted["points"]) == (6, STEPS, POINTS)
    report(store, trained, predicted, check_submission_of(real_nuscenes, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_way_with_the_default_encoder_at_full_size(real_nuscenes, tmp_path):
    """1600 x 900 through convnext_large_d_320. The weights are random: this is about code, speed and memory."""
    encoder = ("convnext_large_d_320", "--weights", "random")
    store, trained, predicted = the_whole_way(real_nuscenes, tmp_path, *encoder)
    assert store["weights_random"] is True
    assert predicted["weights_random"] is True
    assert store["peak_worker_bytes"] < 8 * GIB
    report(store, trained, predicted, check_submission_of(real_nuscenes, tmp_path))
