"""Mask recall against a slow reference that asks point by point."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ovps.evaluation.mask_recall import RecallCounts, best_iou, true_segments
from ovps.evaluation.results import recall_result
from ovps.taxonomy import load_split, load_taxonomy


def slow(semantic, instance, point_voxel, masks, min_points):
    """List of (class, best IoU), one segment after the other."""
    found = []
    for key in sorted(set(zip(semantic.tolist(), instance.tolist(), strict=True))):
        segment = [(c, i) == key for c, i in zip(semantic, instance, strict=True)]
        if key[0] == 0 or sum(segment) < min_points:
            continue
        best = 0.0
        for mask in masks:
            inside = [bool(mask[v]) and c != 0 for v, c in zip(point_voxel, semantic, strict=True)]
            both = sum(a and b for a, b in zip(segment, inside, strict=True))
            either = sum(a or b for a, b in zip(segment, inside, strict=True))
            best = max(best, both / either)
        found.append((key[0], best))
    return found


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_equals_the_slow_reference(seed, queries, min_points):
    rng = np.random.default_rng(seed)
    n, voxels = 40, 12
    point_voxel = rng.integers(0, voxels, n)
    semantic = (point_voxel // 3 * (rng.random(n) < 0.9)).astype(np.uint8)
    instance = rng.integers(0, 2, n).astype(np.uint32)
    masks = rng.random((queries, voxels)) < 0.4
    classes, point_segment = true_segments(semantic, instance, min_points=min_points)
    iou = best_iou(point_segment, len(classes), point_voxel, masks)
    expected = slow(semantic, instance, point_voxel, masks, min_points)
    assert classes.tolist() == [c for c, _ in expected]
    np.testing.assert_allclose(iou, [b for _, b in expected], atol=1e-12)


def test_groups_pool_their_segments():
    taxonomy = load_taxonomy("nuscenes")
    counts = RecallCounts.empty()
    counts.add(np.array([4, 4, 4, 7, 11]), np.array([0.5, 0.49, 1.0, 0.9, 0.0]))
    result = recall_result(counts, taxonomy, load_split("b12n4").novel_ids(taxonomy))
    assert result.groups["all"].segments == 5
    assert result.groups["base/things"].recall == 2 / 3
    assert result.groups["novel/things"].recall == 1
    assert result.groups["base/stuff"].recall == 0
    assert result.groups["novel/stuff"].recall is None
    assert result.classes["car"].found == 2
