"""What a store keeps of cameras projects as the data set's cameras do, thumbnails included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovps.cache.cameras import camera_of, decode_thumbnail, encode_thumbnail, resized, row_of_camera
from ovps.geometry.cells import CellGrid
from ovps.geometry.projection import project
from tests.helpers.cameras import make_camera

GRID = CellGrid(4, 6, 16.0)


def test_a_camera_comes_back_bit_for_bit():
    camera = make_camera()
    root = Path(camera.image_path).absolute().parent.parent
    row = row_of_camera(camera, 7, GRID, root)
    assert not Path(row.image_path).is_absolute()
    back = camera_of(row, root)
    assert Path(back.image_path) == Path(camera.image_path).absolute()
    for name in ("channel", "width", "height", "timestamp_us"):
        assert getattr(back, name) == getattr(camera, name)
    for name in ("intrinsics", "camera_from_lidar"):
        assert getattr(back, name).tobytes() == getattr(camera, name).tobytes()


@pytest.mark.parametrize("scale", [0.5, 0.3, 2.0])
def test_a_resized_camera_sees_points_at_the_same_place_of_the_image(scale):
    camera = make_camera()
    small = resized(camera, round(camera.width * scale), round(camera.height * scale))
    rng = np.random.default_rng(0)
    points = rng.uniform(-20, 20, (500, 3))
    a, b = project(points, camera), project(points, small)
    ahead = a.depth > 1
    assert ahead.any()
    # pixel (u, v) is the centre of a pixel: shares of the image begin half a pixel before
    share = (a.uv[ahead] + 0.5) / (camera.width, camera.height)
    np.testing.assert_allclose((b.uv[ahead] + 0.5) / (small.width, small.height), share, rtol=0, atol=1e-9)


def test_a_thumbnail_is_the_image_made_small():
    image = np.zeros((90, 160, 3), np.uint8)
    image[:, 80:] = (200, 100, 50)
    small = decode_thumbnail(encode_thumbnail(image, 40))
    assert small.shape == (22, 40, 3)
    np.testing.assert_allclose(small[:, 4:16], 0, atol=12)
    np.testing.assert_allclose(small[:, 24:36], np.broadcast_to((200, 100, 50), (22, 12, 3)), atol=12)
    assert decode_thumbnail(encode_thumbnail(image, 500)).shape == image.shape, "never enlarged"
