"""Our PQ is that of SemanticKITTI's benchmark: a slow transcription of its published definition says the same."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovps.datasets.semantickitti import DATASET as semantickitti
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import panoptic_result
from ovps.inference.kitti_submission import encode
from ovps.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("semantickitti")
LEARNING_MAP = {raw: TAXONOMY.raw_to_id[raw] for raw in TAXONOMY.raw_to_id}
ROAD, LANE_MARKING = 40, 60


def published(scans, min_points):
    """PQ by class, from pairs of true and predicted raw labels, in the words of the definition.

    The class of a point is learning_map of its lower 16 bits. A segment is the set of points of one class that have
    one and the same 32-bit label. Points whose true class is 0 are taken away first. A true and a predicted segment of
    a class match if their IoU is above a half; what is not matched is a false negative or a false positive if it has
    min_points.
    """
    iou, tp, fp, fn = (defaultdict(float) for _ in range(4))
    for true, predicted in scans:
        kept = [i for i, label in enumerate(true.tolist()) if LEARNING_MAP[label & 0xFFFF] != 0]
        segments = []
        for labels in (true, predicted):
            found = defaultdict(set)
            for i in kept:
                label = int(labels[i])
                found[LEARNING_MAP[label & 0xFFFF], label].add(i)
            segments.append({key: points for key, points in found.items() if key[0] != 0})
        theirs, ours = segments
        matched = set()
        for key, points in theirs.items():
            best = [(k, p) for k, p in ours.items() if k[0] == key[0] and len(points & p) / len(points | p) > 0.5]
            for other, found in best:
                matched |= {("true", key), ("predicted", other)}
                tp[key[0]] += 1
                iou[key[0]] += len(points & found) / len(points | found)
        for side, all_of_it, missed in (("true", theirs, fn), ("predicted", ours, fp)):
            for key, points in all_of_it.items():
                if (side, key) not in matched and len(points) >= min_points:
                    missed[key[0]] += 1
    return {
        c.id: iou[c.id] / (tp[c.id] + fp[c.id] / 2 + fn[c.id] / 2) if tp[c.id] + fp[c.id] + fn[c.id] else 0.0
        for c in TAXONOMY.classes
    }


def ours(scans, min_points):
    counts = PanopticCounts.empty()
    for true, predicted in scans:
        theirs, found = TAXONOMY.true_segments(true), TAXONOMY.true_segments(predicted)
        counts.add(*theirs, *found, min_points=min_points)
    return panoptic_result(counts, TAXONOMY, ())


def check(scans, min_points):
    expected, result = published(scans, min_points), ours(scans, min_points)
    assert {c.id: c.pq for c in result.classes} == pytest.approx(expected, abs=1e-12)
    assert result.groups["all"].pq == pytest.approx(fmean(expected.values()), abs=1e-12)
    return result


RAW = st.sampled_from([0, 1, 10, 252, 13, 20, 30, 40, 60, 48, 70, 52])
LABELS = st.tuples(RAW, st.sampled_from([0, 1, 2, 65_535])).map(lambda pair: pair[1] << 16 | pair[0])


@given(st.lists(st.tuples(LABELS, LABELS, st.integers(1, 6)), min_size=1, max_size=12), st.integers(1, 8))
def test_on_random_maps(runs, min_points):
    true, predicted, times = np.array(runs, np.int64).T
    scan = np.repeat(true, times).astype(np.uint32), np.repeat(predicted, times).astype(np.uint32)
    check([scan, (scan[1], scan[0])], min_points)


def test_on_maps_with_many_large_segments():
    rng = np.random.default_rng(0)
    scans = []
    for _ in range(3):
        true = np.repeat(rng.choice(list(LEARNING_MAP), 60) | rng.integers(0, 3, 60) << 16, rng.integers(20, 120, 60))
        predicted = np.where(rng.random(len(true)) < 0.3, np.roll(true, 17), true)
        scans.append((true.astype(np.uint32), predicted.astype(np.uint32)))
    assert 0.1 < check(scans, TAXONOMY.min_points).groups["all"].pq < 1


def test_road_and_lane_marking_are_two_segments_of_one_class():
    true = np.repeat(np.array([ROAD, LANE_MARKING], np.uint32), [300, 100])
    road = check([(true, np.full(400, ROAD, np.uint32))], TAXONOMY.min_points).classes[8]
    assert (road.name, road.tp, road.fn, road.iou) == ("road", 1, 1, 1.0)
    assert road.pq == pytest.approx(300 / 400 / 1.5)
    # as objects, which the network learns from, they are one
    assert TAXONOMY.decode(true)[1].max() == 0


def test_a_small_segment_that_is_missed_is_forgiven():
    true = np.repeat(np.array([1 << 16 | 10, 2 << 16 | 10], np.uint32), [200, 49])
    predicted = np.where(true == true[0], true, 0).astype(np.uint32)
    assert check([(true, predicted)], TAXONOMY.min_points).classes[0].pq == 1.0


def imperfect(rng, true):
    """A prediction as a system makes it: class by class with faults, one segment of each class of stuff."""
    semantic, instance = TAXONOMY.decode(true)
    n = len(true)
    wrong = np.where(rng.random(n) < 0.1, rng.integers(0, 20, n), semantic)
    return encode(wrong, instance.astype(np.int64) * 2 + (rng.random(n) < 0.2), TAXONOMY)


def test_on_real_labels_after_an_imperfect_prediction(real_semantickitti):
    frames = semantickitti.frames(real_semantickitti, "v1.0", ("val",))
    rng = np.random.default_rng(0)
    true = [semantickitti.labels(frame) for frame in frames]
    result = check([(labels, imperfect(rng, labels)) for labels in true], TAXONOMY.min_points)
    print(
        f"\nPQ of an imperfect prediction of {sum(map(len, true)):,} real labels: {100 * result.groups['all'].pq:.2f} %"
    )
    assert 0.2 < result.groups["all"].pq < 0.9
    both = [s for labels in true for s in (ROAD, LANE_MARKING) if (labels & 0xFFFF == s).sum() >= TAXONOMY.min_points]
    assert sum(c.segments for c in result.classes if c.name == "road") == len(both)
