"""The merge against loops over voxels, and hand-made cases."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from ovps.model.clusters import components, rejoined
from ovps.model.panoptic import MergeConfig, fill_uncovered, merge
from tests.model import tiny


def slow_merge(probability, logits, is_thing, position, config):
    """Queries, voxels and pieces one by one."""
    queries, voxels = logits.shape
    score = [max(row) for row in probability.tolist()]
    label = [row.index(max(row)) for row in probability.tolist()]
    mask = [[1 / (1 + math.exp(-x)) for x in row] for row in logits.tolist()]
    kept = [q for q in range(queries) if score[q] >= config.score]
    kept = slow_duplicates(kept, score, label, mask, is_thing, config)
    winner = [max(kept, key=lambda q: score[q] * mask[q][v]) if kept else None for v in range(voxels)]
    klass, instance, number = [-1] * voxels, [0] * voxels, 0
    for q in kept:
        # a thing is a query, stuff all queries of its class
        whole = [q] if is_thing[label[q]] else [p for p in kept if label[p] == label[q]]
        original = {v for p in whole for v in range(voxels) if mask[p][v] >= config.mask}
        kept_of_it = {v for p in whole for v in range(voxels) if mask[p][v] >= config.mask and winner[v] == p}
        if not kept_of_it or len(kept_of_it) < config.overlap * len(original):
            continue
        own = [v for v in range(voxels) if mask[q][v] >= config.mask and winner[v] == q]
        for v in own:
            klass[v] = label[q]
        if not is_thing[label[q]]:
            continue
        left, pieces = set(own), []
        while left:  # flood fill from the lowest voxel
            front = [min(left)]
            pieces.append(set(front))
            left -= set(front)
            while front:
                v = front.pop()
                near = [u for u in left if not config.split or touches(position, v, u, config)]
                pieces[-1] |= set(near)
                left -= set(near)
                front += near
        for piece in slow_rejoined(pieces, position[:, :2].tolist(), config.split_length):
            number += 1
            for v in piece:
                instance[v] = number
    return klass, instance


def slow_rejoined(pieces, plane, length):
    """Join the nearest two that are near enough, until none are."""
    while True:
        near = []
        for i, one in enumerate(pieces):
            for other in pieces[i + 1 :]:
                apart = min(math.dist(plane[u], plane[v]) for u in one for v in other)
                if apart <= length * max(diagonal([plane[v] for v in piece]) for piece in (one, other)):
                    near.append((apart, i, other))
        if not near:
            return pieces
        _, i, other = min(near, key=lambda found: found[0])
        pieces[i] |= other
        pieces.remove(other)


def diagonal(places):
    """Of the box around them."""
    return math.dist(*zip(*((min(axis), max(axis)) for axis in zip(*places, strict=True)), strict=True))


def slow_duplicates(kept, score, label, mask, is_thing, config):
    """From the surest on: drop every later one of its thing class that overlaps with it too much."""
    inside = [{v for v, p in enumerate(row) if p >= config.mask} for row in mask]
    stays = []
    for q in sorted(kept, key=lambda q: -score[q]):
        rivals = [s for s in stays if label[s] == label[q] and is_thing[label[q]]]
        iou = [len(inside[s] & inside[q]) / max(len(inside[s] | inside[q]), 1) for s in rivals]
        if max(iou, default=0) <= config.duplicate:
            stays.append(q)
    return sorted(stays)


def touches(position, v, u, config):
    (xv, yv, _), (xu, yu, _) = position[v].tolist(), position[u].tolist()
    nearest = min(math.hypot(xv, yv), math.hypot(xu, yu))
    return math.hypot(xv - xu, yv - yu) <= max(config.split_gap, config.split_gap_per_metre * nearest)


DUPLICATE = st.sampled_from([0.2, 0.5, 1.0])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(1, 25),
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 0.8]),
    DUPLICATE,
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_merge_against_loops(queries, voxels, seed, split, overlap, duplicate, length):
    g = torch.Generator().manual_seed(seed)
    probability = torch.rand(queries, 3, generator=g, dtype=torch.float64)
    logits = 3 * torch.randn(queries, voxels, generator=g, dtype=torch.float64)
    position = 4 * torch.randn(voxels, 3, generator=g, dtype=torch.float64)
    is_thing = torch.tensor([True, False, True])
    gaps = {"split_gap": 0.6, "split_gap_per_metre": 0.3, "split_length": length}
    config = MergeConfig(score=0.6, overlap=overlap, duplicate=duplicate, split=split, **gaps)
    got = merge(probability, logits, is_thing, position, config)
    klass, instance = slow_merge(probability, logits, is_thing.tolist(), position, config)
    assert got.voxel_class.tolist() == klass
    assert got.voxel_instance.tolist() == instance
    assert ((got.voxel_query >= 0) == (got.voxel_class >= 0)).all()


def test_of_two_alike_the_surer_one_stays():
    masks = certain([1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1])
    probability = torch.tensor([[0.8, 0.0], [0.9, 0.0], [0.7, 0.0]])
    config = MergeConfig(overlap=0.8, split=False)
    shared = merge(probability, masks, THING_STUFF, LINE, config)
    assert shared.voxel_query.tolist() == [-1, 1, 1, 1, 2, 2]
    sure = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.7, 0.0]])
    alone = merge(sure, masks, THING_STUFF, LINE, config.model_copy(update={"duplicate": 0.7}))
    assert alone.voxel_query.tolist() == [0, 0, 0, 0, 2, 2]


def certain(*masks: list[int]) -> torch.Tensor:
    return torch.tensor(masks) * 20.0 - 10


THING_STUFF = torch.tensor([True, False])
THING = MergeConfig()
LINE = torch.stack([torch.arange(6) * 0.4, torch.zeros(6), torch.zeros(6)], dim=1)


def test_two_stuff_queries_of_one_class_become_one_segment():
    probability = torch.tensor([[0.1, 0.9], [0.2, 0.8]])
    got = merge(probability, certain([1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]), THING_STUFF, LINE, MergeConfig())
    assert got.voxel_class.tolist() == [1, 1, 1, 1, 1, -1]
    assert got.voxel_instance.tolist() == [0] * 6


def test_what_one_stuff_query_loses_to_another_of_its_class_is_not_lost():
    """The second query keeps 1 of its 3 voxels: as stuff all the same, as a thing it is dropped."""
    masks = certain([1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0])
    config = MergeConfig(overlap=0.5)
    for entry, classes in ((1, [1, 1, 1, 1, 1, -1]), (0, [0, 0, 0, 0, -1, -1])):
        probability = torch.zeros(2, 2)
        probability[0, entry], probability[1, entry] = 0.9, 0.8
        got = merge(probability, masks, THING_STUFF, LINE, config)
        assert got.voxel_class.tolist() == classes


def test_a_segment_that_lost_most_of_its_mask_is_dropped_and_its_voxels_stay_unlabelled():
    probability = torch.tensor([[0.9, 0.1], [0.8, 0.1]])
    got = merge(probability, certain([1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0]), THING_STUFF, LINE, MergeConfig())
    assert got.voxel_class.tolist() == [0, 0, 0, -1, -1, -1]
    kept = merge(
        probability, certain([1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0]), THING_STUFF, LINE, MergeConfig(overlap=0.3)
    )
    assert kept.voxel_instance.tolist() == [1, 1, 1, 2, 0, 0]


def test_a_score_at_the_threshold_is_kept_and_so_is_a_voxel():
    config = MergeConfig(score=0.5, mask=0.5, split=False)
    found = merge(torch.tensor([[0.5]]), torch.tensor([[0.0, -0.1]]), torch.tensor([True]), torch.zeros(2, 3), config)
    assert found.voxel_class.tolist() == [0, -1]


def test_nothing_scores():
    got = merge(torch.full((2, 2), 0.1), torch.full((2, 6), 9.0), THING_STUFF, LINE, MergeConfig())
    assert got.voxel_class.tolist() == [-1] * 6
    assert got.voxel_instance.tolist() == [0] * 6
    empty = merge(torch.ones(2, 2), torch.zeros(2, 0), THING_STUFF, LINE[:0], MergeConfig())
    assert len(empty.voxel_class) == 0


def test_things_that_fall_apart_are_split_and_stuff_is_not():
    apart = LINE.clone()
    apart[3:, 0] += 0.2  # a gap of 0.6 m
    apart[:, 1] += 5
    gap_alone = MergeConfig(split_length=0)
    for probability, instances in (([[0.9, 0.1]], [1, 1, 1, 2, 2, 2]), ([[0.1, 0.9]], [0] * 6)):
        got = merge(torch.tensor(probability), certain([1] * 6), THING_STUFF, apart, gap_alone)
        assert got.voxel_instance.tolist() == instances
    whole = merge(torch.tensor([[0.9, 0.1]]), certain([1] * 6), THING_STUFF, apart, MergeConfig(split=False))
    assert whole.voxel_instance.tolist() == [1] * 6


def test_ends_of_something_long_stay_one_thing_and_people_as_far_apart_are_two():
    def pieces(lengths, gap):
        """Voxels every 0.4 m along x of things of these lengths, with that gap between them."""
        place, position = 0.0, []
        for length in lengths:
            position += [[place + x, 8.0, 0.0] for x in np.arange(0, length + 1e-6, 0.4)]
            place += length + gap
        got = merge(
            torch.tensor([[0.9, 0.1]]), certain([1] * len(position)), THING_STUFF, torch.tensor(position), THING
        )
        return int(got.voxel_instance.max())

    assert pieces([4.0, 6.0], 1.5) == 1
    assert pieces([0.4, 0.4], 1.5) == 2
    assert pieces([4.0, 0.4], 1.5) == 1  # a hand's breadth of what stands behind a pole
    assert pieces([0.8, 0.8, 0.8], 0.75) == 1
    assert pieces([0.4, 0.4, 4.0], 1.5) == 1  # joined from the nearest on: what is long by then takes the rest
    assert pieces([2.0, 2.0], 2.4) == 2


def test_what_has_grown_reaches_what_was_longer_before():
    """4 m of a thing, 6 m from 3 m of one, which takes in two poles on its far side and is 8 m long then."""
    along = np.concatenate([np.arange(0, 4.01, 0.4), np.arange(10, 13.01, 0.3), [15.5, 18.0]])
    place = np.stack([along, np.zeros_like(along), np.zeros_like(along)], axis=1)
    piece = components(place, 0.5, 0.0)
    assert piece.max() == 3
    assert rejoined(place, piece, 1.0).max() == 0
    assert rejoined(place[:-1], piece[:-1], 1.0).tolist() == [0] * 11 + [1] * 12


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 60), st.integers(0, 10**6), st.sampled_from([2.0, 5.0, 10.0]), st.sampled_from([0.3, 1.0, 1.5]))
def test_pieces_are_rejoined_as_one_pair_after_the_other_would_be(count, seed, spread, length):
    place = np.random.default_rng(seed).normal(0, spread, (count, 3))
    piece = components(place, 0.5, 0.02)
    groups = [set(np.flatnonzero(piece == number).tolist()) for number in range(piece.max() + 1)]
    joined = rejoined(place, piece, length)
    slow = slow_rejoined(groups, place[:, :2].tolist(), length)
    assert [set(np.flatnonzero(joined == number).tolist()) for number in range(joined.max() + 1)] == slow


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 40), st.integers(0, 10**6), st.sampled_from([2.0, 40.0, 400.0]), st.sampled_from([0.0, 0.02, 0.3])
)
def test_pieces_are_those_of_all_pairs(count, seed, spread, per_metre):
    place = np.random.default_rng(seed).normal(0, spread, (count, 3))
    plane = place[:, :2]
    reach = np.maximum(0.5, per_metre * np.linalg.norm(plane, axis=1))
    near = np.linalg.norm(plane[:, None] - plane[None], axis=2) <= np.minimum(reach[:, None], reach[None])
    assert components(place, 0.5, per_metre).tolist() == connected_components(near, directed=False)[1].tolist()


def test_one_return_far_off_does_not_pair_all_that_are_near():
    near = np.random.default_rng(0).uniform(-5, 5, (4_000, 3))
    place = np.concatenate([near, [[500.0, 0, 0]]])
    tracemalloc.start()
    piece = components(place, 0.05, 0.02)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert piece[-1] == piece.max()
    assert peak < 100e6  # all 8 million pairs take 128 MB for their numbers alone


def test_the_gap_is_seen_from_above_and_grows_with_distance():
    rings = np.array([[10.0, 0, 0], [10.0, 0.1, 2.0]])
    assert components(rings, 0.5, 0.02).tolist() == [0, 0]
    far = np.array([[45.0, 0, 0], [45.0, 0.8, 0]])
    assert components(far, 0.5, 0.02).tolist() == [0, 0]
    assert components(far, 0.5, 0.0).tolist() == [0, 1]
    assert components(far[:1], 0.5, 0.02).tolist() == [0]


def test_softmax_masks():
    probability = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    logits = torch.tensor([[-3.0, -9.0], [-9.0, -3.0]])  # no sigmoid mask at all, but clear winners
    assert merge(probability, logits, THING_STUFF, LINE[:2], MergeConfig()).voxel_class.tolist() == [-1, -1]
    assert merge(probability, logits, THING_STUFF, LINE[:2], MergeConfig(masks="softmax")).voxel_class.tolist() == [
        0,
        1,
    ]


def test_fill_uncovered_touches_unlabelled_voxels_only():
    config = MergeConfig()
    merged = merge(torch.tensor([[0.9, 0.1]]), certain([1, 1, 0, 0, 0, 0]), THING_STUFF, LINE, config)
    features = torch.tensor([[0.0, 1.0]] * 3 + [[1.0, 0.1]] * 3)
    usable = torch.tensor([True, True, True, True, False, True])
    got = fill_uncovered(merged, features, usable, tiny.classes(torch.eye(2), range(2), THING_STUFF), LINE, config)
    assert got.voxel_class.tolist() == [0, 0, 1, 0, -1, 0]
    assert got.voxel_instance.tolist() == [1, 1, 0, 2, 0, 3]  # 0.8 m apart
    assert torch.equal(got.voxel_query, merged.voxel_query)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_queries_changes_numbers_only(seed):
    g = torch.Generator().manual_seed(seed)
    probability, logits = torch.rand(5, 2, generator=g), 3 * torch.randn(5, 30, generator=g)
    position = 5 * torch.randn(30, 3, generator=g)
    order = torch.randperm(5, generator=g)
    a = merge(probability, logits, THING_STUFF, position, MergeConfig(overlap=0))
    b = merge(probability[order], logits[order], THING_STUFF, position, MergeConfig(overlap=0))
    assert torch.equal(a.voxel_class, b.voxel_class)
    pairs = set(zip(a.voxel_instance.tolist(), b.voxel_instance.tolist(), strict=True))
    assert len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})
