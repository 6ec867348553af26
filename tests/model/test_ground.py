"""Regions of the ground: what they are made of, against the scene they were made from and slow code."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from ovps.model import ground
from ovps.model.clusters import ClusterConfig, height_above_ground
from ovps.model.ground import GroundConfig, ground_regions
from tests.model.test_unclaimed import block, street

STANDING = ClusterConfig()
SINGLE = GroundConfig(radius=0.1)  # voxels are farther apart: none is averaged with others


def lawns(position: np.ndarray, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Features of a road along y with a lawn on either side, and where the lawn is."""
    lawn = np.abs(position[:, 0]) > 3
    rng = np.random.default_rng(0)
    clip = np.eye(4)[lawn.astype(int)] + noise * rng.standard_normal((len(position), 4))
    return clip.astype(np.float32), lawn


def everywhere(position: np.ndarray) -> np.ndarray:
    return np.ones(len(position), np.bool_)


def test_what_looks_alike_is_one_region_even_in_two_places():
    position = street()
    clip, lawn = lawns(position)
    found = ground_regions(position, clip, everywhere(position), everywhere(position), STANDING, SINGLE)
    assert set(found) == {0, 1}
    kinds = [set(found[lawn]), set(found[~lawn])]
    assert sorted(map(len, kinds)) == [1, 1]
    assert kinds[0] != kinds[1]


def test_one_lawn_that_nobody_labelled():
    position = street()
    clip, lawn = lawns(position)
    found = ground_regions(position, clip, everywhere(position), lawn, STANDING, GroundConfig())
    assert np.array_equal(found == 0, lawn)
    assert (found[~lawn] == -1).all()


def test_noise_of_single_voxels_is_averaged_away():
    position = street()
    clip, lawn = lawns(position, noise=0.6)
    found = ground_regions(position, clip, everywhere(position), lawn, STANDING, GroundConfig())
    assert (found[lawn] == 0).mean() > 0.95
    alone = ground_regions(position, clip, everywhere(position), lawn, STANDING, GroundConfig(radius=1e-3))
    assert (alone[lawn] == 0).mean() < 0.5


def test_feet_of_what_stands_there_are_in_no_region():
    box = block(0, 0, size=5)
    position = street(box)
    clip, _ = lawns(position)
    valid = everywhere(position)
    found = ground_regions(position, clip, valid, everywhere(position), STANDING, GroundConfig())
    for voxel, region in zip(position, found, strict=True):
        nearest = min(np.hypot(*(voxel[:2] - b[:2])) for b in box)
        reach = max(STANDING.gap, STANDING.gap_per_metre * np.hypot(*voxel[:2]))
        assert (region >= 0) == (voxel[2] == 0 and nearest > reach), voxel
    # a labelled thing has labelled feet: what is free beside it is ground
    beside = ground_regions(position, clip, valid, position[:, 2] == 0, STANDING, GroundConfig())
    assert (beside[position[:, 2] == 0] >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_regions_keep_to_free_seen_voxels_at_the_ground(seed):
    rng = np.random.default_rng(seed)
    position = rng.uniform(-4, 4, (200, 3)) * [1, 1, 0.1]
    free, valid = rng.random((2, 200)) < 0.8
    clip = rng.standard_normal((200, 3)).astype(np.float32)
    config = GroundConfig(smallest=5, distance=0.5)
    found = ground_regions(position, clip, valid, free, STANDING, config)
    assert (found[~free | ~valid] == -1).all()
    assert (found[height_above_ground(position, STANDING.column) > STANDING.clearance] == -1).all()
    numbers, sizes = np.unique(found[found >= 0], return_counts=True)
    assert list(numbers) == list(range(len(numbers)))
    assert (sizes >= config.smallest).all()


def test_many_voxels_follow_the_one_most_like_them(monkeypatch):
    """Regions of a part of the voxels, and the others to the region of their nearest neighbour among those."""
    position = street()
    clip, _ = lawns(position)
    whole = ground_regions(position, clip, everywhere(position), everywhere(position), STANDING, SINGLE)
    monkeypatch.setattr(ground, "_COMPARED", 50)
    some = ground_regions(position, clip, everywhere(position), everywhere(position), STANDING, SINGLE)
    assert len(set(zip(whole.tolist(), some.tolist(), strict=True))) == 2, "the same regions, however numbered"


def test_regions_are_those_of_average_linkage():
    rng = np.random.default_rng(3)
    position = np.column_stack([10 * np.arange(60.0), np.zeros((60, 2))])  # too far apart to be averaged
    clip = (rng.standard_normal((4, 8))[rng.integers(0, 4, 60)] + 0.2 * rng.standard_normal((60, 8))).astype(np.float64)
    want = fcluster(linkage(clip, "average", metric="cosine"), 0.4, "distance")
    valid = np.ones(60, np.bool_)
    found = ground_regions(position, clip, valid, valid, STANDING, GroundConfig(smallest=1))
    assert len(set(want)) > 2
    pairs = set(zip(want.tolist(), found.tolist(), strict=True))
    assert len(pairs) == len(set(want)) == len(set(found.tolist()))


def test_no_voxels_at_all():
    nothing = np.zeros(0, np.bool_)
    found = ground_regions(np.zeros((0, 3)), np.zeros((0, 3)), nothing, nothing, STANDING, GroundConfig())
    assert found.shape == (0,)


def test_what_stands_far_off_has_a_wider_foot():
    """Of an object at 80 m no point may have hit within half a metre of the ground beside it."""

    def foot(distance: float) -> int:
        xs, ys = np.meshgrid(distance + np.arange(-6, 6, 0.5), np.arange(-6, 6, 0.5))
        flat = np.column_stack([xs.ravel(), ys.ravel(), np.zeros(xs.size)])
        position = np.concatenate([flat, block(distance, 0, size=1)])
        clip, all_ = np.ones((len(position), 4), np.float32), everywhere(position)
        found = ground_regions(position, clip, all_, all_, STANDING, GroundConfig())
        return int((found[: len(flat)] == -1).sum())

    assert foot(80.0) > foot(10.0) > 0
