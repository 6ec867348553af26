"""AUROC and FPR95 of unknown against scikit-learn; scores of segments against a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from ovps.evaluation.unknown import ScoreCounts, UnknownTally

STEPS = 256  # scores that are multiples of 1 / 256 lie in bins of their own


@st.composite
def scored(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(2, 300))
    novel = rng.random(n) < draw(st.sampled_from([0.02, 0.3, 0.9]))
    novel[:2] = True, False
    levels = draw(st.sampled_from([2, 9, STEPS]))  # few levels: many ties
    shift = draw(st.sampled_from([-0.3, 0.0, 0.4])) * novel
    return np.clip(np.round((rng.random(n) * 0.6 + 0.2 + shift) * levels) / levels, 0, 1), novel


@given(scored())
@settings(max_examples=200, deadline=None)
def test_equals_scikit_learn(example):
    score, novel = example
    counts = ScoreCounts()
    for part in np.array_split(np.arange(len(score)), 3):  # as frames
        counts.add(score[part], novel[part])
    found = counts.result()
    assert (found.novel, found.base) == (novel.sum(), (~novel).sum())
    assert found.auroc == pytest.approx(roc_auc_score(novel, score), abs=1e-9)
    false, true, _ = roc_curve(novel, score, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-9)


def test_nothing_novel_has_no_score():
    counts = ScoreCounts()
    counts.add(np.array([0.0, 1.0]), np.array([False, False]))
    assert (counts.result().base, counts.result().auroc, counts.result().fpr95) == (2, None, None)


def test_a_segment_has_the_mean_score_of_its_points_and_small_and_unlabelled_ones_none():
    rng = np.random.default_rng(0)
    semantic, instance = rng.integers(0, 5, 400), rng.integers(0, 9, 400)
    score = rng.integers(0, STEPS, 400) / STEPS
    tally = UnknownTally(novel=(2, 4), min_points=8)
    tally.add(score.astype(np.float32), semantic, instance)
    means, novel = [], []
    for c in range(1, 5):
        for i in range(9):
            points = score[(semantic == c) & (instance == i)]
            if len(points) >= 8:
                means.append(points.mean())
                novel.append(c in (2, 4))
    assert 3 < len(means) < 36
    found = tally.result()
    assert found["segments"].auroc == pytest.approx(roc_auc_score(novel, means), abs=1e-3)
    assert found["segments"].novel == sum(novel)
    labelled = semantic > 0
    assert found["points"].auroc == pytest.approx(
        roc_auc_score(np.isin(semantic[labelled], (2, 4)), score[labelled]), abs=1e-9
    )
