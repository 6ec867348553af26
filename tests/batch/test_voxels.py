import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ovps.batch.augment import draw_transform, generator, transform_points
from ovps.batch.settings import AugmentationConfig
from ovps.batch.voxels import INPUT_DIM, METRES, collate, frame_batch
from ovps.geometry.grid import Grid
from ovps.model.clusters import ClusterConfig

CACHE_GRID = Grid.parse("cylinder:60x45x8")


@pytest.fixture
def moved():
    return draw_transform(generator(0, 3, 5), AugmentationConfig())


def test_unmoved_on_the_cache_grid_is_what_the_cache_has(frame):
    batch = frame_batch(frame, CACHE_GRID, np.eye(4))
    assert np.array_equal(batch.coords[:, 1:], frame.coords)
    assert np.array_equal(batch.point_voxel, frame.point_voxel)
    assert np.array_equal(batch.clip_valid, frame.valid)
    assert np.array_equal(batch.clip, frame.clip)


@pytest.mark.parametrize("grid", ["cylinder:60x45x8", "cylinder:20x15x4", "cartesian:1.5"])
def test_moved_points_against_a_slow_reference(frame, moved, grid):
    grid = Grid.parse(grid)
    batch = frame_batch(frame, grid, moved)
    xyz = transform_points(frame.xyz, moved)
    cells = [tuple(c) for c in grid.index(xyz).tolist()]
    assert [tuple(c) for c in batch.coords[:, 1:].tolist()] == sorted(set(cells))
    for row, cell in enumerate(sorted(set(cells))):
        points = [n for n, c in enumerate(cells) if c == cell]
        assert (batch.point_voxel[points] == row).all()
        seen = [n for n in points if frame.views[n] > 0]
        assert bool(batch.clip_valid[row]) == bool(seen)
        expected = np.mean([frame.clip[frame.point_voxel[n]] for n in seen], axis=0) if seen else 0.0
        assert np.allclose(batch.clip[row], expected, atol=1e-6)
        assert np.allclose(batch.position[row], xyz[points].mean(axis=0), atol=1e-5)
        assert np.allclose(
            batch.features[row], slow_features(xyz[points], frame.intensity[points], cell, grid), atol=1e-4
        )


def slow_features(xyz, intensity, cell, grid):
    n = len(xyz)
    rho = [math.hypot(x, y) for x, y, _ in xyz]
    mean = [sum(float(p[i]) for p in xyz) / n for i in range(3)]
    spread = math.sqrt(max(sum(float(i) ** 2 for i in intensity) / n - (sum(map(float, intensity)) / n) ** 2, 0))
    place = (math.hypot(*mean[:2]), math.atan2(mean[1], mean[0]), mean[2]) if grid.kind == "cylinder" else mean
    inside = [(place[i] - grid.low[i]) / grid.cell[i] - cell[i] - 0.5 for i in range(3)]
    return [
        *(METRES * m for m in mean),
        METRES * sum(rho) / n,
        sum(x / r for (x, _, _), r in zip(xyz, rho, strict=True)) / n,
        sum(y / r for (_, y, _), r in zip(xyz, rho, strict=True)) / n,
        sum(map(float, intensity)) / n,
        spread,
        float(max(xyz[:, 2]) - min(xyz[:, 2])),
        math.log1p(n),
        *(min(max(i, -1), 1) for i in inside),
    ]


def test_points_beyond_the_range_stay(frame):
    far = np.eye(4)
    far[0, 3] = 500.0
    batch = frame_batch(frame, CACHE_GRID, far)
    assert len(batch.point_voxel) == len(frame.xyz)
    assert batch.features.isfinite().all()
    assert batch.features.shape[1] == INPUT_DIM


def test_collate_keeps_each_frame_as_it_was(frame, moved):
    parts = [frame_batch(frame, CACHE_GRID, how, ClusterConfig()) for how in (None, moved, None)]
    batch = collate([collate(parts[:2]), parts[2]])
    assert batch.frames == 3
    for number, part in enumerate(parts):
        voxels, points = batch.voxels_of(number), batch.points_of(number)
        assert (batch.coords[voxels, 0] == number).all()
        assert torch.equal(batch.coords[voxels, 1:], part.coords[:, 1:])
        assert torch.equal(batch.point_voxel[points] - voxels.start, part.point_voxel)
        for name in ("features", "position", "clip", "clip_valid", "cluster"):
            assert torch.equal(getattr(batch, name)[voxels], getattr(part, name))


@pytest.mark.parametrize("grid", ["cylinder:60x45x8", "cartesian:1.5"])
def test_earlier_points_tell_more_about_the_voxels_there_are_and_make_none(frame, moved, grid):
    """Against the obvious: features of each voxel, of its own points and the earlier ones in the same cell."""
    grid, rng = Grid.parse(grid), np.random.default_rng(3)
    earlier = (frame.xyz[rng.integers(0, len(frame.xyz), 300)] + rng.normal(0, 2, (300, 3))).astype(np.float32)
    intensity = rng.random(300, np.float32)
    plain = frame_batch(frame, grid, moved)
    batch = frame_batch(replace(frame, earlier_xyz=earlier, earlier_intensity=intensity), grid, moved)
    for name in ("coords", "clip", "clip_valid", "point_voxel", "point_offsets", "voxel_offsets"):
        assert torch.equal(getattr(batch, name), getattr(plain, name)), name
    own, more = transform_points(frame.xyz, moved), transform_points(earlier, moved)
    cells, cells_of_more = (list(map(tuple, grid.index(xyz).tolist())) for xyz in (own, more))
    met = set(cells) & set(cells_of_more)
    assert 0 < len(met) < len(set(cells_of_more))
    for row, cell in enumerate(sorted(set(cells))):
        mine = [n for n, c in enumerate(cells) if c == cell]
        theirs = [n for n, c in enumerate(cells_of_more) if c == cell]
        xyz = np.concatenate([own[mine], more[theirs]])
        values = np.concatenate([frame.intensity[mine], intensity[theirs]])
        assert np.allclose(batch.features[row], slow_features(xyz, values, cell, grid), atol=1e-4)


def test_no_earlier_points_are_as_none_at_all(frame):
    none = replace(frame, earlier_xyz=np.zeros((0, 3), np.float32), earlier_intensity=np.zeros(0, np.float32))
    plain, same = (frame_batch(one, CACHE_GRID, clusters=ClusterConfig()) for one in (frame, none))
    for name, value in vars(plain).items():
        assert torch.equal(value, getattr(same, name)), name
