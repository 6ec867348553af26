"""Matching against every permutation; fixed stuff queries with classes in any order."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovps.losses.assignment import Costs, class_cost, mask_cost, stuff_pairs, thing_cost
from ovps.losses.mask_loss import Masks, Members
from ovps.losses.matching import solve
from ovps.losses.targets import Targets
from tests.losses.test_mask_loss import slow_focal


def made(seed: int, queries: int, segment_class: list[int], thing: list[bool], classes: int, voxels: int = 12):
    g = torch.Generator().manual_seed(seed)
    s = len(thing)
    targets = Targets(
        torch.randint(-1, s, (voxels,), generator=g), torch.tensor(segment_class, dtype=torch.int64),
        torch.tensor(thing, dtype=torch.bool), torch.zeros(s, 3), torch.zeros(s, dtype=torch.bool),
    )  # fmt: skip
    return 2 * torch.randn(queries, classes, generator=g), 2 * torch.randn(queries, voxels, generator=g), targets


def matched(class_logits, mask_logits, targets, stuff, counted, costs=None):
    costs = costs or Costs()
    masks = Masks.of(mask_logits, costs.mask_gamma, costs.alpha)
    thing, learned = targets.segment_is_thing.nonzero()[:, 0], len(class_logits) - len(stuff)
    things = Members.of(thing, targets.voxel_segment, len(targets.segment_class))
    totals = masks.totals(counted)[0]
    cost = thing_cost(class_logits, masks, totals, learned, things, targets.segment_class[thing], costs)
    ((rows, columns),) = solve([cost])
    return stuff_pairs(rows, thing[columns], targets, stuff, learned)


def slow_cost(class_logits, mask_logits, targets, weight, q, s, costs):
    c = class_logits[q, targets.segment_class[s]].item()
    cost = slow_focal(c, True, costs.class_gamma, 0.25) - slow_focal(c, False, costs.class_gamma, 0.25)
    return cost + slow_mask_cost(mask_logits, targets.voxel_segment, weight, q, s, costs)


def slow_mask_cost(mask_logits, voxel_segment, weight, q, s, costs):
    counted = [v for v in range(mask_logits.shape[1]) if weight[v]]
    inside = {v: voxel_segment[v].item() == s for v in counted}
    x = {v: mask_logits[q, v].item() for v in counted}
    cost = sum(slow_focal(x[v], inside[v], costs.mask_gamma, 0.25) for v in counted) / len(counted)
    p = {v: 1 / (1 + math.exp(-x[v])) for v in counted}
    top = 2 * sum(p[v] for v in counted if inside[v])
    return cost + costs.dice_weight * (1 - top / (sum(p.values()) + sum(inside.values()) + 1e-3))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 4), st.booleans())
def test_things_match_at_the_lowest_cost_of_all_permutations(seed, learned, things, ignore):
    # classes 0 and 3 are things, 1 and 2 stuff; one fixed query each
    g = torch.Generator().manual_seed(seed)
    segment_class = [[0, 3][int(torch.randint(0, 2, (), generator=g))] for _ in range(things)]
    class_logits, mask_logits, targets = made(seed, learned + 2, segment_class, [True] * things, 4)
    weight = targets.voxel_segment >= 0 if ignore and things else torch.ones(12, dtype=torch.bool)
    if not weight.any():
        return
    got = matched(class_logits, mask_logits, targets, torch.tensor([1, 2]), weight)
    assert all(q < learned for q in got.query.tolist())
    pairs = dict(zip(got.segment.tolist(), got.query.tolist(), strict=True))
    assert len(pairs) == min(learned, things)

    def cost(q, s):
        return slow_cost(class_logits, mask_logits, targets, weight, q, s, Costs())

    if things <= learned:
        ways = ([(q, s) for s, q in enumerate(p)] for p in itertools.permutations(range(learned), things))
    else:
        ways = ([(q, s) for q, s in enumerate(p)] for p in itertools.permutations(range(things), learned))
    best = min(sum(cost(q, s) for q, s in way) for way in ways)
    assert sum(cost(q, s) for s, q in pairs.items()) == pytest.approx(best, abs=1e-4)


def test_cost_matrix():
    class_logits, mask_logits, targets = made(3, 5, [0, 3, 0], [True] * 3, 4)
    counted, costs = torch.ones(12, dtype=torch.bool), Costs(class_weight=1.0)
    masks = Masks.of(mask_logits, costs.mask_gamma, costs.alpha)
    inside = Members.of(torch.arange(3), targets.voxel_segment, 3)
    got = mask_cost(masks, masks.totals(counted)[0], torch.arange(5), inside, costs)
    got = got + class_cost(class_logits, targets.segment_class, costs)
    for q in range(5):
        for s in range(3):
            want = slow_cost(class_logits, mask_logits, targets, counted, q, s, costs)
            assert got[q, s].item() == pytest.approx(want, abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(0, 4))
def test_proposals_match_free_queries_at_the_lowest_cost(seed, free, clusters):
    g = torch.Generator().manual_seed(seed)
    mask_logits = 2 * torch.randn(5, 12, generator=g)
    voxel = torch.randint(-1, clusters, (12,), generator=g) if clusters else torch.full((12,), -1)
    counted = (voxel >= 0) | (torch.rand(12, generator=g) < 0.5)
    counted[0] = True
    queries = torch.randperm(5, generator=g)[:free]
    masks = Masks.of(mask_logits, Costs().mask_gamma, Costs().alpha)
    inside = Members.of(torch.arange(clusters), voxel, clusters)
    ((rows, columns),) = solve([mask_cost(masks, masks.totals(counted)[0], queries, inside, Costs())])
    pairs = list(zip(queries[rows].tolist(), columns.tolist(), strict=True))
    assert len(pairs) == min(free, clusters)
    assert {q for q, _ in pairs} <= set(queries.tolist())

    def cost(pairs):
        return sum(slow_mask_cost(mask_logits, voxel, counted, q, s, Costs()) for q, s in pairs)

    if free <= clusters:
        ways = [list(zip(queries.tolist(), p, strict=True)) for p in itertools.permutations(range(clusters), free)]
    else:
        ways = [[(q, s) for s, q in enumerate(p)] for p in itertools.permutations(queries.tolist(), clusters)]
    assert cost(pairs) == pytest.approx(min(cost(way) for way in ways), abs=1e-4)


def test_stuff_goes_to_its_own_query_whatever_the_costs():
    # base stuff classes 1, 4 and 5; 4 is absent; the segments come in the other order, a thing between
    class_logits, mask_logits, targets = made(0, 3 + 3, [5, 0, 1], [False, True, False], 6)
    got = matched(class_logits, mask_logits, targets, torch.tensor([1, 4, 5]), torch.ones(12, dtype=torch.bool))
    pairs = dict(zip(got.segment.tolist(), got.query.tolist(), strict=True))
    assert pairs[0] == 5
    assert pairs[2] == 3
    assert pairs[1] < 3
    assert 4 not in pairs.values()


def test_nothing_to_match():
    class_logits, mask_logits, targets = made(0, 4, [], [], 3)
    got = matched(class_logits, mask_logits, targets, torch.tensor([1]), torch.ones(12, dtype=torch.bool))
    assert len(got.query) == len(got.segment) == 0
    assert got.query.dtype == torch.int64


@pytest.mark.parametrize("segment_class", [[2, 2], [2, 0]])
def test_stuff_that_cannot_be(segment_class):
    class_logits, mask_logits, targets = made(0, 4, segment_class, [False, False], 3)
    with pytest.raises(ValueError, match="stuff"):
        matched(class_logits, mask_logits, targets, torch.tensor([1, 2]), torch.ones(12, dtype=torch.bool))
