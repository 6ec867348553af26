"""Frustums, points over images, crops, plans and picking, against the projection of the project and slow loops."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from ovps.cache.cameras import camera_of
from ovps.frame import Camera
from ovps.geometry.projection import project
from ovps.report.colours import DIM
from ovps.viewer.pictures import CROP_PX, crop, frustum, heading, jpeg, look, most_seen, pick, plan, png, with_points
from tests.helpers.synthetic_store import camera_row


def camera(rotation=(0.3, -0.2, 0.9), translation=(0.5, -0.3, 0.2)) -> Camera:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(rotation).as_matrix()
    pose[:3, 3] = translation
    intrinsics = np.array([[50.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
    return Camera("CAM", "x.jpg", 64, 48, intrinsics, pose, 0)


@given(st.integers(0, 10_000))
def test_a_frustum_sees_a_point_where_the_camera_does(seed):
    rng = np.random.default_rng(seed)
    cam = camera(rng.normal(size=3), rng.normal(size=3))
    place = frustum(cam)
    point = rng.normal(size=3) * 5
    w, x, y, z = place.wxyz
    there = Rotation.from_quat([x, y, z, w]).inv().apply(point - place.position)
    if there[2] < 0.1:
        return
    vertical = np.tan(place.fov / 2)
    u = (there[0] / there[2] / (vertical * place.aspect) + 1) / 2 * cam.width
    v = (there[1] / there[2] / vertical + 1) / 2 * cam.height
    np.testing.assert_allclose((u - 0.5, v - 0.5), project(point[None], cam).uv[0], atol=1e-6)


def test_nearer_points_are_drawn_over_farther_ones():
    cam = camera_of(camera_row("FRONT", 64, 48, seen=2))
    image = np.full((48, 64, 3), 200, np.uint8)
    xyz = np.array([[5.0, 0.0, 0.0], [20.0, 0.0, 0.0], [-5.0, 0.0, 0.0]], np.float32)
    seen = look(xyz, cam, image, None)
    assert seen.rows.tolist() == [1, 0]  # the one behind is not seen
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    picture = with_points(seen, colours)
    assert picture[24, 32].tolist() == [255, 0, 0]
    assert (with_points(seen, np.full((3, 3), DIM, np.uint8)) == 130).all()  # what is dim hides nothing
    assert picture[0, 0].tolist() == [130, 130, 130]  # darkened, for points to show
    assert (seen.image == 200).all()  # what is kept is not drawn on


def test_a_crop_holds_the_segment_and_comes_from_the_cameras_that_see_most():
    cam = camera_of(camera_row("FRONT", 64, 48, seen=2))
    other = camera_of(camera_row("BACK", 64, 48, seen=2))
    image = np.zeros((48, 64, 3), np.uint8)
    image[20:28, 28:36] = 255
    rng = np.random.default_rng(0)
    xyz = np.column_stack([np.full(30, 8.0), rng.uniform(-0.6, 0.6, 30), rng.uniform(-0.6, 0.6, 30)]).astype(np.float32)
    inside = np.ones(30, bool)
    front, back = look(xyz, cam, image, None), look(xyz[:5], other, image, None)
    picture = crop(front, inside)
    assert max(picture.shape) == CROP_PX
    assert picture.mean() > image.mean() * 2  # the white square fills more of it
    assert crop(front, np.zeros(30, bool)) is None
    assert [channel for channel, _ in most_seen([back, front], inside, count=1)] == ["FRONT"]
    assert most_seen([front], np.zeros(30, bool)) == []


def test_the_image_formats_can_be_read():
    image = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    assert np.asarray(Image.open(io.BytesIO(png(image)))).tolist() == image.tolist()
    assert Image.open(io.BytesIO(jpeg(image))).size == (64, 48)


def test_the_first_camera_tells_where_ahead_is():
    assert heading([]) == np.pi / 2
    assert heading([camera_of(camera_row("FRONT", 64, 48, seen=0))]) == 0  # it looks along x


def test_a_plan_has_x_to_the_right_and_y_up():
    xyz = np.array([[5, 0, 0], [0, 5, 0], [500, 0, 0]], np.float32)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    picture = plan(xyz, colours, np.zeros(2), half=10, pixels=100)
    (row, column), (up, middle) = (np.argwhere((picture == c).all(axis=2)).mean(axis=0) for c in colours[:2])
    assert column > 70 > 55 > row > 45
    assert up < 30 < 45 < middle < 55
    assert not (picture == colours[2]).all(axis=2).any()


@given(st.integers(0, 10_000))
def test_a_ray_through_a_lone_point_picks_it(seed):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-30, 30, (40, 3)).astype(np.float32)
    origin = np.array([0.0, 0.0, 60.0])
    chosen = int(rng.integers(40))
    direction = xyz[chosen] - origin
    found = pick(xyz, origin, 7 * direction)
    rays = (xyz - origin) / np.linalg.norm(xyz - origin, axis=1, keepdims=True)
    close = np.flatnonzero(rays @ direction / np.linalg.norm(direction) > np.cos(0.03))
    assert found in close
    if len(close) == 1:
        assert found == chosen


def test_what_is_in_front_is_picked_and_beside_everything_nothing():
    xyz = np.array([[0, 10, 0], [0, 30, 0.05], [0, -10, 0]], np.float32)
    assert pick(xyz, np.zeros(3), np.array([0, 1, 0])) == 0
    assert pick(xyz, np.zeros(3), np.array([1, 0, 0])) is None
    assert pick(xyz[:0], np.zeros(3), np.array([1, 0, 0])) is None


@pytest.mark.parametrize("direction", [(0, 1, 0), (1, 1, 1)])
def test_what_is_behind_the_eye_is_never_picked(direction):
    xyz = -np.array([direction], np.float32) * 5
    assert pick(xyz, np.zeros(3), np.array(direction, float)) is None
