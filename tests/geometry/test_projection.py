"""Projection against the devkit, on a real frame and on synthetic ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.frame import Frame
from ovps.geometry.projection import project
from tests.helpers.cameras import make_camera
from tests.helpers.mini_nuscenes import VERSION

BORDER_TOLERANCE_PX = 0.05  # the devkit computes in float32 in global coordinates: 0.033 px is its own error


def _assert_equals_devkit(root: Path, version: str, frame: Frame) -> None:
    from nuscenes.nuscenes import NuScenes

    devkit = NuScenes(version=version, dataroot=str(root), verbose=False)
    sample = devkit.get("sample", devkit.get("sample_data", frame.token)["sample_token"])
    xyz = nuscenes.points(frame).xyz
    for camera in frame.cameras:
        points, depth, _ = devkit.explorer.map_pointcloud_to_image(frame.token, sample["data"][camera.channel])
        ours = project(xyz, camera)
        size = np.array([camera.width, camera.height])
        distance_to_border = np.minimum(np.abs(ours.uv - 1), np.abs(ours.uv - (size - 1))).min(axis=1)
        at_border = (distance_to_border < BORDER_TOLERANCE_PX) | (np.abs(ours.depth - 1.0) < 1e-4)
        # the devkit drops the rest without saying which: pair its points with ours, in order
        kept = np.flatnonzero(ours.inside | at_border)
        taken = _pair(ours.uv[kept], points[:2].T)
        missed = np.setdiff1d(np.arange(len(kept)), taken)
        assert at_border[kept[missed]].all()
        np.testing.assert_allclose(ours.uv[kept[taken]], points[:2].T, rtol=0, atol=BORDER_TOLERANCE_PX)
        np.testing.assert_allclose(ours.depth[kept[taken]], depth, rtol=0, atol=1e-3)


def _pair(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """For each of theirs the row of ours it is, both in the order of the sweep."""
    rows, start = [], 0
    for uv in theirs:
        near = np.flatnonzero(np.abs(ours[start:] - uv).max(axis=1) <= BORDER_TOLERANCE_PX)
        assert len(near), f"the devkit keeps {uv}, which is not ours"
        start += int(near[0]) + 1
        rows.append(start - 1)
    return np.array(rows, np.int64)


@pytest.mark.parametrize("subset", ["train", "val"])
def test_equals_devkit_on_mini_frames(mini_nuscenes, subset):
    for frame in nuscenes.frames(mini_nuscenes, VERSION, (subset,)):
        _assert_equals_devkit(mini_nuscenes, VERSION, frame)


@pytest.mark.parametrize("version", ["v1.0-trainval", "v1.0-mini"])
def test_equals_devkit_on_a_real_frame(real_nuscenes, version):
    subset = "train" if version == "v1.0-trainval" else "mini_train"
    (frame,) = nuscenes.frames(real_nuscenes, version, (subset,))
    assert len(frame.cameras) == 6
    _assert_equals_devkit(real_nuscenes, version, frame)


def test_known_pixels():
    camera = make_camera(width=100, height=80, focal=50.0)
    xyz = np.array(
        [[0, 10, 0], [2, 10, 0], [0, 10, 2], [0, -10, 0], [0, 1, 0], [0, 1.001, 0], [9.8, 10, 0], [9.79, 10, 0]]
    )
    projection = project(xyz, camera)
    np.testing.assert_allclose(projection.uv[:3], [[50, 40], [60, 40], [50, 30]])
    np.testing.assert_allclose(projection.depth[:4], [10, 10, 10, -10])
    assert np.isnan(projection.uv[3]).all()
    # behind; not deeper than 1 m; 1 px from the border is outside
    assert projection.inside.tolist() == [True, True, True, False, False, True, False, True]


def test_turned_camera():
    left = make_camera(yaw_deg=90.0)
    assert project(np.array([[-10.0, 0.0, 0.0], [10.0, 0.0, 0.0]]), left).inside.tolist() == [True, False]


def test_no_points_and_wrong_shapes():
    assert project(np.zeros((0, 3), np.float32), make_camera()).uv.shape == (0, 2)
    with pytest.raises(ValueError, match="expected"):
        project(np.zeros((4, 4)), make_camera())
