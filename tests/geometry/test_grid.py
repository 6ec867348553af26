"""Voxel grids against obvious loops, and their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovps.errors import ConfigError
from ovps.geometry.grid import Grid, mean_matrix, voxelise

GRIDS = ["cylinder", "cylinder:24x18x8", "cartesian:0.1", "cartesian:3.7:x=-10..10,y=-20..5,z=-5..3"]
clouds = st.integers(1, 40).flatmap(
    lambda n: arrays(np.float32, (n, 3), elements=st.floats(-120, 120, width=32, allow_nan=False))
)


def _slow_cell(point, grid):
    """One point at a time, in words: coordinates, how many whole cells above the low end, clamped."""
    x, y, z = (float(c) for c in point)
    values = (math.hypot(x, y), math.atan2(y, x), z) if grid.kind == "cylinder" else (x, y, z)
    cell = []
    for value, low, high, count in zip(values, grid.low, grid.high, grid.shape, strict=True):
        k = math.floor((value - low) / ((high - low) / count))
        cell.append(min(max(k, 0), count - 1))
    return tuple(cell)


def _slow_voxelise(xyz, grid):
    cells = [_slow_cell(p, grid) for p in xyz]
    coords = sorted(set(cells))
    return coords, [coords.index(c) for c in cells]


@pytest.mark.parametrize("name", GRIDS)
@given(xyz=clouds)
@settings(max_examples=40, deadline=None)
def test_voxelise_equals_the_obvious_loop(name, xyz):
    grid = Grid.parse(name)
    coords, point_voxel = voxelise(xyz, grid)
    slow_coords, slow_voxel = _slow_voxelise(xyz, grid)
    assert coords.dtype == np.int32
    assert point_voxel.dtype == np.int64
    assert [tuple(c) for c in coords.tolist()] == slow_coords
    assert point_voxel.tolist() == slow_voxel


@pytest.mark.parametrize("name", GRIDS)
@given(xyz=clouds)
@settings(max_examples=40, deadline=None)
def test_every_point_has_a_voxel_inside_the_grid(name, xyz):
    grid = Grid.parse(name)
    coords, point_voxel = voxelise(xyz, grid)
    assert (coords >= 0).all()
    assert (coords < grid.shape).all()
    np.testing.assert_array_equal(coords[point_voxel], grid.index(xyz))
    assert set(point_voxel.tolist()) == set(range(len(coords)))
    flat = np.ravel_multi_index(tuple(coords.T.astype(np.int64)), grid.shape)
    assert (np.diff(flat) > 0).all()  # sorted and unique


@pytest.mark.parametrize("name", GRIDS)
@given(xyz=clouds)
@settings(max_examples=40, deadline=None)
def test_points_beyond_the_range_are_those_outside_every_cell(name, xyz):
    grid = Grid.parse(name)
    for point, beyond in zip(xyz, grid.beyond(xyz), strict=True):
        x, y, z = (float(c) for c in point)
        values = {0: math.hypot(x, y), 2: z} if grid.kind == "cylinder" else {0: x, 1: y, 2: z}
        assert beyond == any(not grid.low[i] <= value <= grid.high[i] for i, value in values.items())


def test_the_seam_and_the_rim_are_in_range():
    grid = Grid.parse("cylinder")
    assert not grid.beyond(np.array([[-10, 0.0, 0], [-10, -0.0, 0], [50, 0, 3], [0, 0, -5]])).any()
    assert grid.beyond(np.array([[50.1, 0, 0], [0, 0, 3.1], [0, 0, -5.1]])).all()


def test_default_cylinder_is_p3formers():
    grid = Grid.parse("cylinder")
    assert grid.shape == (480, 360, 32)
    assert (grid.low[0], grid.high[0], grid.low[2], grid.high[2]) == (0.0, 50.0, -5.0, 3.0)
    # clamped at rho, z and the seam of phi
    xyz = np.array([[0, 0, 0], [70, 0, 9], [0, 49.99, -9], [-10, 0, 0], [-10, -1e-9, 0]])
    assert grid.index(xyz).tolist() == [[0, 180, 20], [479, 180, 31], [479, 270, 0], [96, 359, 20], [96, 0, 20]]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("cylinder", "cylinder:480x360x32:rho=0..50,z=-5..3"),
        (" cylinder:240x180x32 ", "cylinder:240x180x32:rho=0..50,z=-5..3"),
        ("cylinder:480x360x32:z=-4..2", "cylinder:480x360x32:rho=0..50,z=-4..2"),
        ("cartesian:0.1", "cartesian:0.1:x=-50..50,y=-50..50,z=-5..3"),
        ("cartesian:0.050", "cartesian:0.05:x=-50..50,y=-50..50,z=-5..3"),
        ("cartesian:0.2:x=0..51.2,y=-25.6..25.6,z=-2..4.4", "cartesian:0.2:x=0..51.2,y=-25.6..25.6,z=-2..4.4"),
        ("cartesian:0.15", "cartesian:0.15:x=-50..50.05,y=-50..50.05,z=-5..3.1"),  # grows to whole cells
    ],
)
def test_text_round_trip(text, canonical):
    grid = Grid.parse(text)
    assert str(grid) == canonical
    assert Grid.parse(canonical) == grid
    assert str(Grid.parse(str(grid))) == canonical


@given(
    size=st.integers(1, 5_000_000).map(lambda n: n / 1e6),
    low=st.integers(-100_000_000, 0).map(lambda n: n / 1e6),
    extent=st.integers(10_000, 100_000_000).map(lambda n: n / 1e6),
)
@settings(max_examples=200, deadline=None)
def test_any_cartesian_round_trip(size, low, extent):
    text = f"cartesian:{size:.6f}:x={low:.6f}..{low + extent:.6f}"
    try:
        grid = Grid.parse(text)
    except ConfigError:
        return  # more cells than an index holds
    assert Grid.parse(str(grid)) == grid


@pytest.mark.parametrize(
    "text",
    [
        *("", "cube", "cartesian", "cartesian:0", "cartesian:-1", "cartesian:nan", "cartesian:inf", "cartesian:1e-9"),
        *("cylinder:4x4", "cylinder:1x2x0", "cylinder:4x4x4x4", "cylinder:axbxc", "cartesian:0.1:x", "cartesian:a"),
        *("cylinder:4x4x4:rho=5..2", "cylinder:4x4x4:phi=0..2", "cylinder:4x4x4:rho=-1..2", "cartesian:1:x=0..nan"),
    ],
)
def test_not_a_grid(text):
    with pytest.raises(ConfigError, match=r"not a voxel grid.*cartesian:0\.1"):
        Grid.parse(text)


def test_constructor_refuses_senseless_grids():
    with pytest.raises(ValueError, match="cubes"):
        Grid(kind="cartesian", shape=(10, 10, 10), low=(0, 0, 0), high=(1, 1, 2))
    with pytest.raises(ValueError, match="phi"):
        Grid(kind="cylinder", shape=(10, 10, 10), low=(0, 0, 0), high=(1, 1, 2))


def test_index_refuses_nan_and_wrong_shapes():
    grid = Grid.parse("cylinder")
    with pytest.raises(ValueError, match="NaN"):
        grid.index(np.array([[0.0, np.nan, 0.0]]))
    with pytest.raises(ValueError, match="expected"):
        grid.index(np.zeros((3, 2)))
    coords, point_voxel = voxelise(np.zeros((0, 3), np.float32), grid)
    assert coords.shape == (0, 3)
    assert point_voxel.shape == (0,)


@given(data=st.data(), points=st.integers(0, 30), voxels=st.integers(1, 8), width=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_mean_matrix_equals_the_obvious_loop(data, points, voxels, width):
    values = data.draw(arrays(np.float64, (points, width), elements=st.floats(-100, 100)))
    point_voxel = data.draw(arrays(np.int64, points, elements=st.integers(0, voxels - 1)))
    means = mean_matrix(point_voxel, voxels) @ values
    assert means.shape == (voxels, width)
    for v in range(voxels):
        members = [values[p] for p in range(points) if point_voxel[p] == v]
        expected = sum(members) / len(members) if members else np.zeros(width)
        np.testing.assert_allclose(means[v], expected, rtol=1e-5, atol=1e-5)


def test_mean_matrix_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="expected 0 to 1"):
        mean_matrix(np.array([0, 2]), 2)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        mean_matrix(np.array([0, -1]), 2)
