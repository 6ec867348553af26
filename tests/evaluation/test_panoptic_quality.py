"""PQ against a hand-made example and against nuscenes-devkit's own evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes.eval.panoptic.panoptic_seg_evaluator import PanopticEval

from ovps.evaluation.panoptic_quality import PanopticCounts, class_iou, confusion
from ovps.evaluation.results import GROUPS, HARMONIC, PanopticResult, harmonic, mean_result, panoptic_result
from ovps.taxonomy import load_split, load_taxonomy

TAXONOMY = load_taxonomy("nuscenes")
NOVEL = load_split("b12n4").novel_ids(TAXONOMY)


def score(frames, min_points):
    counts = PanopticCounts.empty()
    for frame in frames:
        counts.add(*frame, min_points=min_points)
    return counts


def devkit(frames, min_points, classes):
    reference = PanopticEval(classes, ignore=[0], min_points=min_points)
    for true_class, true_instance, pred_class, pred_instance in frames:
        reference.addBatch(pred_class, pred_instance, true_class, true_instance)
    return reference


def test_worked_example():
    """Two cars of 20 points, 40 of road. Car 1 is found but for 4 points, car 2 is split in halves, road swallows 4.

    Car 1: IoU 16 / 20 = 0.8, a match. Car 2: halves of 10 points have IoU 0.5, which is not above 0.5: one missed,
    and two false positives unless 10 points are too few to count. Road: 40 / 44.
    """
    true_class = np.repeat([4, 4, 11], [20, 20, 40])
    true_instance = np.repeat([1, 2, 0], [20, 20, 40])
    pred_class = np.repeat([4, 11, 4, 4, 11], [16, 4, 10, 10, 40])
    pred_instance = np.repeat([7, 0, 8, 9, 0], [16, 4, 10, 10, 40])
    frame = (true_class, true_instance, pred_class, pred_instance)

    for min_points, false_positives in ((15, 0), (5, 2)):
        counts = score([frame], min_points)
        pq, sq, rq, iou = counts.per_class()
        assert (counts.tp[4], counts.fp[4], counts.fn[4]) == (1, false_positives, 1)
        assert sq[4] == pytest.approx(0.8)
        assert rq[4] == pytest.approx(1 / (1 + 0.5 * false_positives + 0.5))
        assert pq[4] == pytest.approx(sq[4] * rq[4])
        assert pq[11] == iou[11] == pytest.approx(40 / 44)
        assert iou[4] == pytest.approx(36 / 40)

    groups = panoptic_result(score([frame], 15), TAXONOMY, NOVEL).groups
    assert groups["all"].pq == pytest.approx((0.8 / 1.5 + 40 / 44) / 16)  # 14 absent classes count as 0
    assert groups["all"].pq_present == pytest.approx((0.8 / 1.5 + 40 / 44) / 2)
    assert groups["base/stuff"].pq_dagger == pytest.approx(40 / 44 / 5)
    assert groups["novel"].pq == 0
    assert groups["novel"].pq_present is None
    assert tuple(groups) == GROUPS


def test_the_harmonic_mean_of_base_and_novel():
    rng = np.random.default_rng(1)
    true_class = np.repeat(rng.integers(1, 17, 300), 20)
    pred_class = np.where(rng.random(6000) < 0.8, true_class, rng.integers(0, 17, 6000))
    result = panoptic_result(score([(true_class, true_class * 0, pred_class, true_class * 0)], 15), TAXONOMY, NOVEL)
    for name in ("pq", "miou"):
        base, novel = (getattr(result.groups[g], name) for g in ("base", "novel"))
        assert min(base, novel) > 0
        assert result.harmonic[name] == result.score(HARMONIC, name) == pytest.approx(2 * base * novel / (base + novel))
    written = result.model_dump(mode="json")
    assert written["harmonic"] == result.harmonic
    assert PanopticResult.model_validate(written | {"harmonic": {"pq": 1.0}}) == result  # never read, always computed
    assert result.columns == (*GROUPS, HARMONIC)
    whole = panoptic_result(score([(true_class, true_class * 0, pred_class, true_class * 0)], 15), TAXONOMY, ())
    assert (whole.harmonic, whole.score(HARMONIC, "pq")) == ({}, None)
    assert harmonic(0.5, 0.0) == 0


@st.composite
def label_maps(draw):
    """Frames of few distinct segments, so that matches, splits and small segments are frequent."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.integers(2, 6))
    frames = []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 200))
        true_class = np.sort(rng.integers(0, classes, n))
        true_instance = rng.integers(0, 3, n)
        flipped = rng.random(n) < draw(st.sampled_from([0.0, 0.2, 0.6]))
        pred_class = np.where(flipped, rng.integers(0, classes, n), true_class)
        pred_instance = np.where(rng.random(n) < 0.2, rng.integers(0, 4, n), true_instance)
        frames.append((true_class, true_instance, pred_class, pred_instance))
    return frames, draw(st.sampled_from([1, 5, 15])), classes


@given(label_maps())
@settings(max_examples=150, deadline=None)
def test_equals_the_devkit(example):
    frames, min_points, classes = example
    counts, reference = score(frames, min_points), devkit(frames, min_points, classes)
    _, _, _, pq, sq, rq = reference.getPQ()
    for ours, theirs in zip(counts.per_class(), (pq, sq, rq, reference.getSemIoU()[1]), strict=True):
        assert np.abs(ours[1:classes] - theirs[1:]).max() < 1e-9
    for ours, theirs in ((counts.tp, reference.pan_tp), (counts.fp, reference.pan_fp), (counts.fn, reference.pan_fn)):
        np.testing.assert_array_equal(ours[1:classes], theirs[1:])


def test_means_equal_the_devkits_over_sixteen_classes_with_raw_labels_as_instances():
    rng = np.random.default_rng(0)
    true_class = np.repeat(rng.integers(0, 17, 300), 20)
    true_instance = np.repeat(rng.integers(0, 2**16, 300), 20)
    keep = rng.random(6000) < 0.8
    pred_class = np.where(keep, true_class, rng.integers(0, 17, 6000))
    pred_instance = np.where(keep, true_instance % 1000, 0)
    frames = [(true_class.astype(np.uint8), true_instance.astype(np.uint32), pred_class, pred_instance)]
    result = panoptic_result(score(frames, 15), TAXONOMY, NOVEL)
    reference = devkit([tuple(a.astype(np.int64) for a in frames[0])], 15, 17)
    pq, sq, rq, pq_class, _, _ = reference.getPQ()
    miou, iou_class = reference.getSemIoU()
    group = result.groups["all"]
    assert (group.pq, group.sq, group.rq, group.miou) == pytest.approx((pq, sq, rq, miou), abs=1e-9)
    dagger = [pq_class[i] for i in TAXONOMY.thing_ids] + [iou_class[i] for i in TAXONOMY.stuff_ids]
    assert group.pq_dagger == pytest.approx(np.mean(dagger), abs=1e-9)
    assert 0.1 < group.pq < 0.9


def test_an_empty_frame_and_a_frame_without_labels_change_nothing_but_the_count():
    nothing = np.zeros(0, np.int64)
    unlabelled = np.zeros(30, np.int64)
    counts = score([(nothing,) * 4, (unlabelled, unlabelled, unlabelled + 4, unlabelled)], 15)
    assert counts.frames == 2
    assert counts.fp.sum() == counts.fn.sum() == counts.tp.sum() == 0
    assert class_iou(counts.confusion).max() == 0


def test_mean_over_seeds():
    labels = np.repeat([4, 11], 20)
    zeros = np.zeros(40, np.int64)
    right = panoptic_result(score([(labels, zeros, labels, zeros)], 15), TAXONOMY, NOVEL)
    wrong = panoptic_result(score([(labels, zeros, labels[::-1], zeros)], 15), TAXONOMY, NOVEL)
    mean = mean_result([right, wrong])
    assert mean.groups["all"].pq == pytest.approx(right.groups["all"].pq / 2)
    assert mean.classes[3].tp == 0.5
    assert confusion(labels, labels)[11, 11] == 20
