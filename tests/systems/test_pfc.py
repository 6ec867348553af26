"""Pooling and the ensemble of FC-CLIP against loops over queries, voxels and entries."""

from __future__ import annotations

import math

import pytest
import torch

from ovps.model.classify import ClassifierConfig
from ovps.systems.pfc import ensemble_probability, pooled_clip
from tests.model import tiny

QUERIES, VOXELS, CHANNELS, ENTRIES = 5, 40, 6, 4


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("form", ["sigmoid", "softmax"])
def test_pooling_is_the_mean_over_seen_voxels_inside(form):
    logits, clip = 3 * random(QUERIES, VOXELS), random(VOXELS, CHANNELS, seed=1)
    logits[2] = -9.0  # a mask of nothing
    valid = torch.arange(VOXELS) % 3 != 0
    found, has = pooled_clip(logits, clip, valid, form)

    for q in range(QUERIES):
        inside = []
        for v in range(VOXELS):
            column = logits[:, v].tolist()
            if form == "sigmoid":
                probability = 1 / (1 + math.exp(-column[q]))
            else:
                probability = math.exp(column[q]) / sum(math.exp(x) for x in column)
            if valid[v] and probability > 0.5:
                inside.append(clip[v])
        assert has[q] == bool(inside)
        expected = torch.stack(inside).mean(dim=0) if inside else torch.zeros(CHANNELS)
        torch.testing.assert_close(found[q], expected)
    assert has.tolist().count(False) >= 1


def test_no_voxel_with_a_feature():
    found, has = pooled_clip(
        random(QUERIES, VOXELS), random(VOXELS, CHANNELS), torch.zeros(VOXELS, dtype=torch.bool), "sigmoid"
    )
    assert not has.any()
    assert not found.any()


def cosine(a, b):
    return float(a @ b) / (float(a.norm()) * float(b.norm()))


def softmax(values):
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def test_the_ensemble_is_the_geometric_mean_that_the_docs_say():
    text = random(7, CHANNELS, seed=2)
    class_index, is_base = [2, 0, 1, 1, 3, 0, 2], [True, False, True, False]  # synonyms, in any order
    classes = tiny.classes(text, class_index, [True] * ENTRIES, is_base)
    embedding, pooled = random(QUERIES, CHANNELS, seed=3), random(QUERIES, CHANNELS, seed=4)
    has_clip = torch.tensor([True, True, False, True, True])
    logits, tau = random(QUERIES, ENTRIES, seed=5), 0.2
    config = ClassifierConfig(classes="ensemble", base_weight=0.3, novel_weight=0.9, clip_tau=0.05)
    found = ensemble_probability(logits, embedding, pooled, has_clip, classes, torch.tensor(tau), config)

    for q in range(QUERIES):
        nearest = [
            [max(cosine(f, text[t]) for t in range(7) if class_index[t] == e) for e in range(ENTRIES)]
            for f in (embedding[q], pooled[q])
        ]
        p_in = softmax([c / tau for c in nearest[0]])
        p_out = softmax([c / config.clip_tau for c in nearest[1]])
        mixed = []
        for e in range(ENTRIES):
            weight = 0.3 if is_base[e] else 0.9
            mixed.append(p_in[e] ** (1 - weight) * p_out[e] ** weight)
        which = [m / sum(mixed) for m in mixed] if has_clip[q] else p_in
        whether = max(1 / (1 + math.exp(-x)) for x in logits[q].tolist())
        assert found[q].tolist() == pytest.approx([whether * p for p in which], rel=1e-4)


@pytest.mark.parametrize(("weight", "wins"), [(0.0, 0), (1.0, 1)])
def test_the_weight_says_who_decides(weight, wins):
    text = torch.eye(2)
    classes = tiny.classes(text, range(2), [True, True], [True, False])
    config = ClassifierConfig(classes="ensemble", base_weight=weight, novel_weight=weight)
    found = ensemble_probability(
        torch.zeros(1, 2), text[:1], text[1:], torch.tensor([True]), classes, 0.1, config,
    )  # fmt: skip
    assert int(found.argmax()) == wins
