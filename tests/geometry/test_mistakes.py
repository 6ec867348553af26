"""Mistakes that are made on purpose are named; a right calibration is left alone."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ovps.geometry import mistakes
from ovps.geometry.mistakes import lies_elsewhere, likely_mistake
from tests.helpers.cameras import make_camera

BODY_FROM_CAMERA = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def street() -> np.ndarray:
    """Ground and walls all around a LiDAR, (N, 3)."""
    rng = np.random.default_rng(0)
    angle, far = rng.uniform(-np.pi, np.pi, 4000), rng.uniform(3, 40, 4000)
    z = np.where(rng.random(4000) < 0.6, -1.8, rng.uniform(-1.8, 3, 4000))
    return np.stack([far * np.cos(angle), far * np.sin(angle), z], axis=1)


def as_xyzw(matrix: np.ndarray) -> np.ndarray:
    """The matrix that a reader of w, x, y, z makes of a quaternion that was written x, y, z, w."""
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    wrong = matrix.copy()
    wrong[:3, :3] = Rotation.from_quat([y, z, w, x]).as_matrix()  # read as w=x, x=y, y=z, z=w
    return wrong


MADE = {
    "inverse": (np.linalg.inv, mistakes.INVERSE),
    "axes": (lambda m: BODY_FROM_CAMERA @ m, mistakes.AXES),
    "both": (lambda m: np.linalg.inv(BODY_FROM_CAMERA @ m), mistakes.BOTH),
    "quaternion": (as_xyzw, mistakes.QUATERNION),
}


@pytest.mark.parametrize("yaw", [-60.0, -20.0, 0.0, 25.0, 60.0])
@pytest.mark.parametrize("name", MADE)
def test_a_mistake_that_was_made_is_named(name, yaw):
    make, says = MADE[name]
    right = make_camera(position=(0.3, 0.8, -0.4), yaw_deg=yaw)
    assert likely_mistake(street(), right) is None
    wrong = replace(right, camera_from_lidar=make(right.camera_from_lidar))
    found = likely_mistake(street(), wrong)
    assert found is not None
    assert says in found


def test_a_translation_in_millimetres_is_named():
    right = make_camera(position=(0.3, 0.8, -0.4))
    wrong = right.camera_from_lidar.copy()
    wrong[:3, 3] = -right.camera_from_lidar[:3, :3] @ np.array([30.0, 50.0, -40.0])
    assert mistakes.MILLIMETRES in str(likely_mistake(street(), replace(right, camera_from_lidar=wrong)))


@pytest.mark.parametrize("yaw", range(0, 360, 45))
def test_no_camera_of_a_ring_is_suspected(yaw):
    assert likely_mistake(street(), make_camera(position=(1.0, 0.5, -0.5), yaw_deg=float(yaw))) is None


def test_a_camera_that_looks_where_no_points_are_is_told_without_a_guess():
    ahead = street()[street()[:, 1] > 2]
    found = likely_mistake(ahead, make_camera(yaw_deg=180.0))
    assert "sees next to nothing" in str(found)
    assert mistakes.BEHIND in str(found)


@pytest.mark.parametrize("field_of_view", [360, 120, 30, 10])
def test_the_points_of_a_lidar_lie_around_it_or_before_it(field_of_view):
    xyz = street()
    ahead = np.abs(np.rad2deg(np.arctan2(xyz[:, 1], xyz[:, 0]))) <= field_of_view / 2
    assert lies_elsewhere(xyz[ahead]) is None
    assert lies_elsewhere(np.full((3, 3), np.nan)) is None


@pytest.mark.parametrize("place", [(120, -50), (-90, 20), (448_000, 5_411_000)])
def test_points_in_the_frame_of_a_map_lie_elsewhere(place):
    xyz = street() + np.array([*place, 110])
    xyz[::50] = np.inf
    for found in (lies_elsewhere(xyz), lies_elsewhere(xyz.astype(np.float32))):
        assert "the frame of a map" in found
        named = re.search(r"of \((-?\d+), (-?\d+)\)", found).groups()
        np.testing.assert_allclose(np.array(named, float), place, atol=2)
