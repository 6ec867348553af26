"""Lifting against obvious loops, its properties, and the known figures of a real frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.geometry.cells import CellGrid
from ovps.geometry.grid import Grid, voxelise
from ovps.geometry.lifting import LiftedPoints, bilinear, lift_points, lift_voxels
from ovps.geometry.projection import project
from ovps.geometry.visibility import Occlusion, unoccluded
from tests.helpers.cameras import make_camera
from tests.helpers.mini_nuscenes import VERSION

RIG = [
    make_camera(position=(0.3 * i, 0.5, -0.3), yaw_deg=40.0 * i, width=160, height=90, focal=110.0) for i in range(3)
]
GRIDS = [CellGrid(5, 10, 16.0), CellGrid(2, 5, 32.0), CellGrid(1, 1, 90.0)]
clouds = st.integers(1, 30).flatmap(
    lambda n: arrays(np.float32, (n, 3), elements=st.floats(-15, 15, width=32, allow_nan=False))
)


def _maps(seed, channels=4):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(g.rows, g.cols, channels)) for g in GRIDS]


def _flat(maps):
    return np.concatenate([m.reshape(-1, m.shape[-1]) for m in maps])


def _slow_sample(feature_map, stride, u, v):
    """Bilinear at (u, v), clamped to the centres of the outermost cells."""
    rows, cols, _ = feature_map.shape
    x = min(max((u + 0.5) / stride - 0.5, 0.0), cols - 1)
    y = min(max((v + 0.5) / stride - 0.5, 0.0), rows - 1)
    total = 0.0
    for i in range(rows):
        for j in range(cols):
            total = total + max(0.0, 1 - abs(x - j)) * max(0.0, 1 - abs(y - i)) * feature_map[i, j]
    return total


def _slow_lift(xyz, maps):
    """Feature and number of views of each point, one point and camera at a time."""
    features, views = [], []
    for point in xyz:
        samples = []
        for camera, feature_map, grid in zip(RIG, maps, GRIDS, strict=True):
            x, y, z = camera.camera_from_lidar[:3, :3] @ point.astype(np.float64) + camera.camera_from_lidar[:3, 3]
            if z <= 1.0:
                continue
            u = camera.intrinsics[0, 0] * x / z + camera.intrinsics[0, 2]
            v = camera.intrinsics[1, 1] * y / z + camera.intrinsics[1, 2]
            if 1 < u < camera.width - 1 and 1 < v < camera.height - 1:
                samples.append(_slow_sample(feature_map, grid.stride, u, v))
        views.append(len(samples))
        features.append(sum(samples) / len(samples) if samples else np.zeros(maps[0].shape[2]))
    return np.array(features), np.array(views)


@given(xyz=clouds, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_points_equal_the_obvious_loop(xyz, seed):
    maps = _maps(seed)
    lifted = lift_points(xyz, RIG, GRIDS)
    features, views = _slow_lift(xyz, maps)
    np.testing.assert_array_equal(lifted.views, views)
    np.testing.assert_allclose(lifted.weights @ _flat(maps), features, atol=1e-5)
    assert lifted.seen == tuple(project(xyz, camera).inside.sum() for camera in RIG)
    assert sum(lifted.seen) == views.sum()


@given(xyz=clouds, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_voxels_equal_the_obvious_loop(xyz, seed):
    maps = _maps(seed)
    lifted = lift_points(xyz, RIG, GRIDS)
    coords, point_voxel = voxelise(xyz, Grid.parse("cartesian:5"))
    voxel_weights = lift_voxels(lifted, point_voxel, len(coords))
    features, views = _slow_lift(xyz, maps)
    for v in range(len(coords)):
        seen = [features[p] for p in range(len(xyz)) if point_voxel[p] == v and views[p]]
        expected = sum(seen) / len(seen) if seen else np.zeros(4)
        np.testing.assert_allclose((voxel_weights @ _flat(maps))[v], expected, atol=1e-5)
        assert (voxel_weights.indptr[v + 1] > voxel_weights.indptr[v]) == bool(seen)


@given(xyz=clouds, occluded=st.booleans())
@settings(max_examples=60, deadline=None)
def test_rows_sum_to_one_exactly_where_something_is_seen(xyz, occluded):
    lifted = lift_points(xyz, RIG, GRIDS, Occlusion() if occluded else None)
    assert lifted.weights.dtype == np.float32
    assert lifted.weights.shape == (len(xyz), sum(len(g) for g in GRIDS))
    assert lifted.weights.has_canonical_format
    assert (lifted.weights.data > 0).all()
    np.testing.assert_allclose(lifted.weights.sum(axis=1), lifted.views > 0, atol=1e-6)
    coords, point_voxel = voxelise(xyz, Grid.parse("cylinder:10x8x2"))
    voxels = lift_voxels(lifted, point_voxel, len(coords))
    assert voxels.dtype == np.float32
    seen = np.zeros(len(coords), bool)
    seen[point_voxel[lifted.views > 0]] = True
    np.testing.assert_allclose(voxels.sum(axis=1), seen, atol=1e-6)
    np.testing.assert_array_equal(np.diff(voxels.indptr) > 0, seen)
    constant = np.full((voxels.shape[1], 1), 3.5, np.float32)
    np.testing.assert_allclose((voxels @ constant)[:, 0], np.where(seen, 3.5, 0.0), rtol=1e-6)


def test_a_ramp_gives_back_the_projected_coordinate():
    rng = np.random.default_rng(0)
    camera, grid = make_camera(), CellGrid(28, 50, 32.0)
    xyz = rng.uniform((-20, 2, -8), (20, 40, 8), (2000, 3))
    lifted = lift_points(xyz, [camera], [grid])
    seen = lifted.views > 0
    assert seen.sum() > 500
    found = (lifted.weights @ grid.centres().reshape(-1, 2))[seen]
    # the ramp ends at the outermost centres: half a cell within the border, and the 4 rows of 900 without a cell
    expected = np.clip(project(xyz, camera).uv[seen], 15.5, [1583.5, 879.5])
    np.testing.assert_allclose(found, expected, atol=2e-3)  # float32 weights times 1600 px


def test_bilinear_at_a_centre_and_between():
    grid = CellGrid(3, 4, 32.0)
    cells, shares = bilinear(np.array([[47.5, 79.5], [31.5, 15.5], [-5.0, 500.0]]), grid)
    dense = np.zeros((3, 12))
    np.add.at(dense, (np.arange(3)[:, None], cells), shares)
    assert dense[0].tolist() == np.eye(12)[2 * 4 + 1].tolist()
    assert dense[1, :2].tolist() == [0.5, 0.5]
    assert dense[2].tolist() == np.eye(12)[2 * 4].tolist()


def test_occlusion_counts_only_cameras_that_see_the_point(mini_nuscenes):
    frame = nuscenes.frames(mini_nuscenes, VERSION, ("train",))[0]
    xyz = nuscenes.points(frame).xyz
    grids = [CellGrid(4, 8, 16.0)] * 6
    projections = [(project(xyz, camera), camera) for camera in frame.cameras]
    without, settings_ = lift_points(xyz, frame.cameras, grids), Occlusion(vertical_deg=8, horizontal_deg=8)
    with_occlusion = lift_points(xyz, frame.cameras, grids, settings_)
    np.testing.assert_array_equal(without.views, sum(p.inside.astype(int) for p, _ in projections))
    expected = sum(unoccluded(p, c, settings_).astype(int) for p, c in projections)
    np.testing.assert_array_equal(with_occlusion.views, expected)
    assert with_occlusion.views.sum() < without.views.sum()


def test_equal_input_gives_equal_bytes_and_the_order_of_points_changes_nothing():
    xyz = np.random.default_rng(3).uniform(-15, 15, (300, 3)).astype(np.float32)
    order = np.random.default_rng(4).permutation(300)
    first, again, shuffled = (lift_points(x, RIG, GRIDS, Occlusion()) for x in (xyz, xyz.copy(), xyz[order]))
    assert first.weights.data.tobytes() == again.weights.data.tobytes()
    assert first.weights.indices.tobytes() == again.weights.indices.tobytes()
    np.testing.assert_array_equal(first.views[order], shuffled.views)
    np.testing.assert_allclose(first.weights[order].toarray(), shuffled.weights.toarray(), atol=1e-6)


def test_no_points_no_cameras_and_what_does_not_fit():
    empty = lift_points(np.zeros((0, 3)), RIG, GRIDS)
    assert empty.weights.shape == (0, 61)
    blind = lift_points(np.array([[0.0, 0.0, 50.0]]), RIG, GRIDS)
    assert blind.views.tolist() == [0]
    assert lift_voxels(blind, np.zeros(1, np.int64), 1).nnz == 0
    with pytest.raises(ValueError, match="3 cameras and 1"):
        lift_points(np.zeros((4, 3)), RIG, GRIDS[:1])
    with pytest.raises(ValueError, match="disagree"):
        lift_voxels(LiftedPoints(blind.weights, blind.views, blind.seen), np.zeros(2, np.int64), 1)


def test_figures_of_a_real_frame(real_nuscenes):
    (frame,) = nuscenes.frames(real_nuscenes, "v1.0-trainval", ("train",))
    xyz = nuscenes.points(frame).xyz
    lifted = lift_points(xyz, frame.cameras, [CellGrid(28, 50, 32.0)] * 6)
    assert len(xyz) == 34_688
    assert np.bincount(lifted.views).tolist() == [34_688 - 20_180, 20_180 - 1_923, 1_923]
    grid = Grid.parse("cylinder")
    coords, point_voxel = voxelise(xyz, grid)
    voxels = lift_voxels(lifted, point_voxel, len(coords))
    assert (np.diff(voxels.indptr) > 0).sum() == 11_539
    assert len(np.unique(voxels.indices)) == 6_299
    rho = np.hypot(xyz[:, 0], xyz[:, 1])
    beyond = (rho > 50) | (xyz[:, 2] < -5) | (xyz[:, 2] > 3)
    assert round(beyond.mean(), 3) == 0.076
    # occlusion takes a few points, not a surface
    visible = lift_points(xyz, frame.cameras, [CellGrid(28, 50, 32.0)] * 6, Occlusion())
    assert 0.02 < 1 - visible.views.sum() / lifted.views.sum() < 0.08


def test_a_blank_camera_sees_nothing_and_changes_nothing_for_the_others():
    xyz = np.random.default_rng(5).uniform(-10, 10, (400, 3)).astype(np.float32)
    found, maps = lift_points(xyz, RIG, GRIDS, blank=[1]), _maps(5)
    others = lift_points(xyz, [RIG[0], RIG[2]], [GRIDS[0], GRIDS[2]])
    assert found.seen == (others.seen[0], 0, others.seen[1])
    assert np.array_equal(found.views, others.views)
    assert np.allclose(found.weights @ _flat(maps), others.weights @ _flat([maps[0], maps[2]]))
