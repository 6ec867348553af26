"""Points that are turned or mirrored against the images are told from those that fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ovps.geometry.alignment import TURNS, Alignment, gradient_ranks, left_or_right_edges
from tests.helpers.cameras import make_camera

GIVEN = "x, y"


def posts(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Azimuths, distances and widths of posts all around, metres and radians."""
    return [(azimuth, rng.uniform(5, 25), rng.uniform(0.6, 2.0)) for azimuth in rng.uniform(-np.pi, np.pi, 40)]


def sweep(standing: list[tuple[float, float, float]]) -> np.ndarray:
    """First hits (N, 3) of level rays of 24 heights in every direction: on a post, or on a wall at 40 m."""
    azimuth = np.arange(-np.pi, np.pi, np.deg2rad(0.4))
    reach = np.full(len(azimuth), 40.0)
    for centre, far, wide in standing:
        off = np.angle(np.exp(1j * (azimuth - centre)))
        reach = np.where(np.abs(off) < wide / far / 2, np.minimum(reach, far), reach)
    rise = np.deg2rad(np.arange(-12, 12, 1.0))
    direction = np.stack(
        [
            np.cos(rise)[:, None] * np.cos(azimuth),
            np.cos(rise)[:, None] * np.sin(azimuth),
            np.repeat(np.sin(rise)[:, None], len(azimuth), axis=1),
        ],
        axis=2,
    )
    return (direction * reach[:, None]).reshape(-1, 3)


def picture(standing: list[tuple[float, float, float]], camera, rng: np.random.Generator) -> np.ndarray:
    """Image of the posts, bright or dark by chance on a grey wall, from where the LiDAR stands."""
    columns = (np.arange(camera.width) - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]
    forward = np.linalg.inv(camera.camera_from_lidar[:3, :3]) @ np.stack([columns, 0 * columns, 1 + 0 * columns])
    azimuth, shade, reach = (
        np.arctan2(forward[1], forward[0]),
        np.full(camera.width, 128.0),
        np.full(camera.width, 40.0),
    )
    for centre, far, wide in standing:
        hit = (np.abs(np.angle(np.exp(1j * (azimuth - centre)))) < wide / far / 2) & (far < reach)
        shade, reach = np.where(hit, rng.choice([20.0, 240.0]), shade), np.where(hit, far, reach)
    grey = np.repeat(shade[None], camera.height, axis=0) + rng.normal(0, 3, (camera.height, camera.width))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def aligned(wrong: np.ndarray, *, blank: bool = False) -> Alignment:
    """Three frames of two cameras whose points are wrong by a transform (4, 4)."""
    rng, found = np.random.default_rng(0), Alignment()
    for _ in range(3):
        standing = posts(rng)
        xyz = sweep(standing) @ wrong[:3, :3].T
        for yaw in (0.0, 70.0):
            camera = replace(make_camera(yaw_deg=yaw), channel=f"at {yaw:g}")
            image = picture(standing, camera, rng)
            found.add(xyz, camera, np.full_like(image, 90) if blank else image)
    return found


def test_what_fits_is_left_alone():
    fits = aligned(np.eye(4))
    assert max(fits.scores(), key=fits.scores().get) == GIVEN
    assert fits.mistakes() == []


@pytest.mark.parametrize("name", [name for name in TURNS if name != GIVEN])
def test_points_that_are_turned_or_mirrored_are_named_with_what_puts_them_right(name):
    (said,) = aligned(np.linalg.inv(TURNS[name])).mistakes()
    assert f"would fit with {name} in place of x, y" in said
    assert ("mirrored" in said) == (np.linalg.det(TURNS[name]) < 0)


def test_images_without_edges_accuse_nobody():
    assert aligned(TURNS["-x, -y"], blank=True).mistakes() == []
    assert Alignment().mistakes() == []


def test_edges_are_where_something_nearer_ends_to_the_left_or_right():
    standing = [(0.0, 10.0, 2.0)]
    xyz = sweep(standing)
    edge = left_or_right_edges(xyz)
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0])
    assert edge.sum() > 20
    assert (np.abs(np.abs(azimuth[edge]) - 0.1) < 0.03).all()  # half of 2 m at 10 m
    assert (np.linalg.norm(xyz[edge], axis=1) < 11).all()


def test_ranks_of_gradients_are_high_at_an_upright_edge():
    image = np.zeros((90, 640, 3), np.uint8)
    image[:, 320:] = 200
    ranks = gradient_ranks(image)
    assert ranks[:, 316:324].min() > 0.95
    assert 0.4 < ranks.mean() < 0.6


@pytest.mark.parametrize("ahead", [0, 90, 180])
def test_columns_of_directions_are_equally_wide(ahead):
    """0.3 degrees to either side are two columns, straight ahead as anywhere: what is nearer ends there."""
    angle = np.deg2rad(ahead + np.array([-0.3, 0.3]))
    xyz = np.array([[10.0], [40.0]]) * np.stack([np.cos(angle), np.sin(angle), np.zeros(2)], axis=1)
    assert left_or_right_edges(xyz).tolist() == [True, False]
