"""Occlusion against exact rays, in scenes that a 32-beam LiDAR on a roof and a camera below it see differently."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from pydantic import ValidationError

from ovps.geometry.projection import project
from ovps.geometry.visibility import Occlusion, unoccluded
from tests.helpers.cameras import make_camera

CAMERA = make_camera(position=(0.3, 0.8, -0.35))  # as on nuScenes: below and before the LiDAR
GROUND = -1.84

# axis-aligned boxes (low, high), metres, LiDAR frame
WALL = ((-3.0, 9.0, GROUND), (3.0, 9.4, -0.6))
BOX_BEHIND = ((-1.5, 16.0, GROUND), (1.5, 18.0, 1.0))
FAR_HOUSE = ((-30.0, 45.0, GROUND), (30.0, 46.0, 8.0))


def _first_hits(origin, directions, boxes):
    """Distance to the nearest surface along each unit direction, inf where there is none: slabs and the ground."""
    with np.errstate(divide="ignore", invalid="ignore"):
        down = (GROUND - origin[2]) / directions[:, 2]
        nearest = np.where(down > 0, down, np.inf)
        for low, high in boxes:
            a, b = (np.array(low) - origin) / directions, (np.array(high) - origin) / directions
            enter, leave = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
            nearest = np.where((enter > 0) & (enter <= leave) & (enter < nearest), enter, nearest)
    return nearest


def _sweep(boxes):
    """What 32 beams from -30 to 10 degrees, a pulse every 0.33 degrees, hit ahead of the LiDAR within 60 m."""
    azimuth, elevation = np.meshgrid(np.deg2rad(np.arange(-45, 45, 0.33)), np.deg2rad(np.linspace(-30, 10, 32)))
    azimuth, elevation = azimuth.ravel(), elevation.ravel()
    directions = np.stack(
        [np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)], axis=1
    )
    distance = _first_hits(np.zeros(3), directions, boxes)
    return directions[distance < 60] * distance[distance < 60, None]


def _truly_visible(xyz, boxes):
    origin = np.array([0.3, 0.8, -0.35])
    distance = np.linalg.norm(xyz - origin, axis=1)
    return _first_hits(origin, (xyz - origin) / distance[:, None], boxes) > distance - 0.01


@pytest.mark.parametrize("boxes", [(WALL,), (WALL, BOX_BEHIND), (WALL, BOX_BEHIND, FAR_HOUSE)])
def test_agrees_with_exact_rays(boxes):
    xyz = _sweep(boxes)
    projection = project(xyz, CAMERA)
    seen, truth = unoccluded(projection, CAMERA), projection.inside & _truly_visible(xyz, boxes)
    truly_hidden = projection.inside & ~truth
    assert truly_hidden.sum() > 100  # the scene asks the question
    assert (truly_hidden & ~seen).sum() > 0.7 * truly_hidden.sum()  # found: 0.74 to 0.94
    assert (truth & ~seen).sum() < 0.01 * truth.sum()  # wrongly hidden: 0.003 to 0.004


def test_open_ground_hides_nothing():
    projection = project(_sweep(()), CAMERA)
    assert projection.inside.sum() > 2000
    np.testing.assert_array_equal(unoccluded(projection, CAMERA), projection.inside)


def test_does_not_depend_on_the_size_of_the_image():
    xyz = _sweep((WALL, BOX_BEHIND))
    small_camera = make_camera(position=(0.3, 0.8, -0.35), width=400, height=225, focal=1266.0 / 4)
    large, small = project(xyz, CAMERA), project(xyz, small_camera)
    both = large.inside & small.inside
    seen_large, seen_small = unoccluded(large, CAMERA), unoccluded(small, small_camera)
    assert (seen_large[both] == seen_small[both]).mean() > 0.999


def test_what_is_seen_is_inside_and_a_larger_tolerance_hides_less():
    projection = project(_sweep((WALL, BOX_BEHIND, FAR_HOUSE)), CAMERA)
    strict = unoccluded(projection, CAMERA, Occlusion(tolerance_m=0.1, tolerance_ratio=0.0))
    loose = unoccluded(projection, CAMERA, Occlusion(tolerance_m=3.0))
    assert not (strict & ~loose).any()
    assert not (loose & ~projection.inside).any()
    assert strict.sum() < loose.sum()


def test_a_camera_that_sees_no_point():
    projection = project(np.array([[0.0, -20.0, 0.0], [0.0, 0.5, 0.0]]), make_camera())
    assert not projection.inside.any()
    assert not unoccluded(projection, CAMERA).any()


def test_angles_finer_than_any_lidar_hide_nothing_and_take_no_memory():
    xyz = _sweep((WALL, BOX_BEHIND))
    projection = project(xyz, CAMERA)
    tracemalloc.start()
    visible = unoccluded(projection, CAMERA, Occlusion(vertical_deg=1e-9, horizontal_deg=1e-9))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (projection.inside & ~visible).mean() < 0.01
    assert peak < 2**30


@pytest.mark.parametrize("name", ["vertical_deg", "horizontal_deg", "tolerance_m", "tolerance_ratio"])
def test_thresholds_are_numbers(name):
    for value in (float("inf"), float("nan")):
        with pytest.raises(ValidationError):
            Occlusion(**{name: value})


def _at(azimuth, elevation, distance):
    """A point ahead, by degrees and metres."""
    a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
    return distance * np.array([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)])


@pytest.mark.parametrize("side", [-0.4, 0.4])
def test_what_is_nearer_a_step_to_either_side_hides(side):
    camera = make_camera()
    xyz = np.array([_at(0.1, 0.1, 30), _at(0.1 + side, 0.8, 10), _at(0.1 + side, -0.6, 10)])
    assert unoccluded(project(xyz, camera), camera).tolist() == [False, True, True]


@pytest.mark.parametrize(("nearer", "visible"), [(1.5, True), (2.5, False)])
def test_what_hides_a_far_point_is_nearer_by_a_share_of_the_distance_too(nearer, visible):
    """At 50 m: half a metre, and 3 % of the distance."""
    camera = make_camera()
    xyz = np.array([_at(0, 0.1, 50), _at(0, 0.8, 50 - nearer), _at(0, -0.6, 50 - nearer)])
    assert unoccluded(project(xyz, camera), camera)[0] == visible
