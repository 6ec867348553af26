import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovps.model.clusters import ClusterConfig, clusters, height_above_ground
from ovps.model.panoptic import Panoptic
from ovps.model.unclaimed import add_proposals
from tests.model import tiny

CLASSES = tiny.classes(torch.eye(3), range(3), [True, False, True])  # car, tree (stuff), pedestrian


def block(x: float, y: float, size: int = 3, z: float = 1.0) -> np.ndarray:
    """size x size voxels 0.2 m apart, at height z above a ground voxel."""
    xs, ys = np.meshgrid(x + 0.2 * np.arange(size), y + 0.2 * np.arange(size))
    return np.column_stack([xs.ravel(), ys.ravel(), np.full(size * size, z)])


def street(*blocks: np.ndarray) -> np.ndarray:
    """Ground every 0.5 m over 12 x 12 m, then the blocks."""
    xs, ys = np.meshgrid(np.arange(-6, 6, 0.5), np.arange(-6, 6, 0.5))
    return np.concatenate([np.column_stack([xs.ravel(), ys.ravel(), np.zeros(xs.size)]), *blocks])


def unclaimed(voxels: int) -> Panoptic:
    nobody = torch.full((voxels,), -1)
    return Panoptic(nobody, torch.zeros(voxels, dtype=torch.int64), nobody)


def test_height_is_above_the_lowest_of_the_column():
    position, column = np.random.default_rng(0).uniform(-5, 5, (200, 3)), 1.5
    slow = [
        z - min(c for a, b, c in position if (a // column, b // column) == (x // column, y // column))
        for x, y, z in position
    ]
    np.testing.assert_allclose(height_above_ground(position, column), slow)


def test_what_stands_on_the_ground_becomes_clusters_and_the_ground_does_not():
    position = street(block(1, 1), block(3, 3), block(-4, -4, size=1))
    found = clusters(position, np.ones(len(position), bool), ClusterConfig())
    ground, first, second, tiny = found[:576], found[576:585], found[585:594], found[594:]
    assert set(ground) == {-1}
    assert len(set(first)) == len(set(second)) == 1
    assert {first[0], second[0]} == {0, 1}
    assert set(tiny) == {-1}  # fewer than `smallest` voxels
    assert ClusterConfig().smallest > 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_clusters_keep_to_free_voxels_and_are_numbered_without_gaps(seed):
    rng = np.random.default_rng(seed)
    position = rng.uniform(-4, 4, (150, 3))
    free = rng.random(150) < 0.6
    found = clusters(position, free, ClusterConfig())
    assert (found[~free] == -1).all()
    assert (found[height_above_ground(position, ClusterConfig().column) <= ClusterConfig().clearance] == -1).all()
    assert sorted(set(found) - {-1}) == list(range(found.max() + 1))
    assert all((found == k).sum() >= ClusterConfig().smallest for k in range(found.max() + 1))


def test_clusters_are_named_by_their_mean_clip_feature():
    position = torch.from_numpy(street(block(1, 1), block(3, 3), block(-3, 2), block(-3, -3)))
    clip = torch.zeros(len(position), 3)
    clip[576:580, 0], clip[580:585, 2] = 1.0, 0.7  # cars in the minority, but sure: 4 x 1 against 5 x 0.7
    clip[585:594, 1] = 1.0
    clip[594:603, 2] = 1.0
    valid = torch.arange(len(position)) < 603  # no camera sees the last block
    merged = unclaimed(len(position))
    got = add_proposals(merged, clip, valid, CLASSES, position, ClusterConfig())
    assert got.voxel_class[:576].tolist() == [-1] * 576
    assert [set(got.voxel_class[a : a + 9].tolist()) for a in (576, 585, 594, 603)] == [{0}, {1}, {2}, {-1}]
    instances = [set(got.voxel_instance[a : a + 9].tolist()) for a in (576, 585, 594, 603)]
    assert instances[1] == instances[3] == {0}  # stuff, and nothing
    assert len(instances[0] | instances[2]) == 2
    assert 0 not in instances[0] | instances[2]


def test_what_segments_claim_stays_theirs():
    position = torch.from_numpy(street(block(1, 1), block(3, 3)))
    clip = torch.zeros(len(position), 3)
    clip[576:, 2] = 1.0
    merged = unclaimed(len(position))
    merged.voxel_class[576:585], merged.voxel_instance[576:585] = 0, 7
    valid = torch.ones(len(position), dtype=torch.bool)
    got = add_proposals(merged, clip, valid, CLASSES, position, ClusterConfig())
    assert set(got.voxel_class[576:585].tolist()) == {0}
    assert set(got.voxel_instance[576:585].tolist()) == {7}
    assert set(got.voxel_class[585:].tolist()) == {2}
    assert set(got.voxel_instance[585:].tolist()).isdisjoint({0, 7})


def test_nothing_free_changes_nothing():
    position = torch.from_numpy(street(block(1, 1)))
    merged = unclaimed(len(position))
    merged.voxel_class[:] = 1
    valid = torch.ones(len(position), dtype=torch.bool)
    got = add_proposals(merged, torch.ones(len(position), 3), valid, CLASSES, position, ClusterConfig())
    assert got is merged


def test_further_segments_get_numbers_that_nobody_has():
    position = torch.from_numpy(street(block(1, 1), block(3, 3)))
    merged = unclaimed(len(position))
    merged.voxel_class[576:585] = 2
    merged.voxel_instance[576:585] = 1  # as the first of the further ones would have
    clip = torch.eye(3)[[2]].expand(len(position), 3)
    valid = torch.ones(len(position), dtype=torch.bool)
    found = add_proposals(merged, clip, valid, CLASSES, position, ClusterConfig())
    assert found.voxel_instance[576:585].tolist() == [1] * 9
    assert {0, 1}.isdisjoint(found.voxel_instance[585:].tolist())
