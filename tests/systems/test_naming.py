"""Pooling and the rules that name masks against loops over queries, voxels and entries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from ovps.model.classify import ClassifierConfig
from ovps.model.panoptic import MergeConfig
from ovps.systems.naming import MaskEvidence, name_masks, pooled_clip
from ovps.systems.queries import MaskAnswer
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


@dataclass
class Case:
    """Five masks over a vocabulary of four entries; the third has no CLIP feature."""

    text = random(7, CHANNELS, seed=2)
    class_index = (2, 0, 1, 1, 3, 0, 2)  # synonyms, in any order
    is_base = (True, False, True, False)
    embedding = random(QUERIES, CHANNELS, seed=3)
    pooled = random(QUERIES, CHANNELS, seed=4)
    has_clip = (True, True, False, True, True)
    logits = random(QUERIES, ENTRIES, seed=5)
    tau = 0.2

    def evidence(self):
        return MaskEvidence(
            logits=self.logits,
            embedding=self.embedding,
            classes=tiny.classes(self.text, list(self.class_index), [True] * ENTRIES, list(self.is_base)),
            tau=torch.tensor(self.tau),
            pool=lambda: (self.pooled, torch.tensor(self.has_clip)),
        )

    def nearest(self, feature):
        """Cosine to each entry, the largest over its synonyms."""
        return [
            max(cosine(feature, self.text[t]) for t in range(7) if self.class_index[t] == e) for e in range(ENTRIES)
        ]

    def head(self, q, shift=0.0):
        base = zip(self.logits[q].tolist(), self.is_base, strict=True)
        return [1 / (1 + math.exp(-(x - shift * is_base))) for x, is_base in base]


def test_the_ensemble_is_the_geometric_mean_that_the_docs_say():
    case = Case()
    config = ClassifierConfig(classes="ensemble", base_weight=0.3, novel_weight=0.9, clip_tau=0.05)
    found = name_masks(case.evidence(), config)
    for q in range(QUERIES):
        p_in = softmax([c / case.tau for c in case.nearest(case.embedding[q])])
        p_out = softmax([c / config.clip_tau for c in case.nearest(case.pooled[q])])
        mixed = []
        for e in range(ENTRIES):
            weight = 0.3 if case.is_base[e] else 0.9
            mixed.append(p_in[e] ** (1 - weight) * p_out[e] ** weight)
        which = [m / sum(mixed) for m in mixed] if case.has_clip[q] else p_in
        assert found[q].tolist() == pytest.approx([max(case.head(q)) * p for p in which], rel=1e-4)


@pytest.mark.parametrize(("margin", "certainty", "shift"), [(0.0, 0.0, 0.0), (0.3, 0.5, 1.0)])
def test_a_mask_is_named_by_clip_where_clip_sees_something_novel_and_by_the_head_elsewhere(margin, certainty, shift):
    case, by_clip = Case(), []
    config = ClassifierConfig(classes="per_mask", clip_tau=0.05, margin=margin, certainty=certainty, base_shift=shift)
    found = name_masks(case.evidence(), config)
    for q in range(QUERIES):
        near = case.nearest(case.pooled[q])
        novel, base = (max(c for c, b in zip(near, case.is_base, strict=True) if b is kind) for kind in (False, True))
        by_clip.append(case.has_clip[q] and novel - base > margin)
        expected = case.head(q, shift)
        if by_clip[-1]:
            which = softmax([c / config.clip_tau for c in near])
            whether = 1 - (1 - certainty * max(which)) * (1 - max(case.head(q)))
            expected = [whether * p for p in which]
        assert found[q].tolist() == pytest.approx(expected, rel=1e-4)
    assert {True, False} == set(by_clip)  # both ways were taken


@pytest.mark.parametrize("kind", [True, False])
def test_a_vocabulary_all_trained_on_is_the_heads_and_one_all_novel_is_clips(kind):
    case = Case()
    case.is_base, case.has_clip = (kind,) * ENTRIES, (True,) * QUERIES
    found = name_masks(case.evidence(), ClassifierConfig(classes="per_mask"))
    by_head = name_masks(case.evidence(), ClassifierConfig())
    assert torch.equal(found, by_head) is kind
    if not kind:
        assert found.argmax(1).tolist() == [int(torch.tensor(case.nearest(f)).argmax()) for f in case.pooled]


def test_permuted_entries_are_permuted_answers():
    case, order = Case(), [3, 1, 0, 2]
    config = ClassifierConfig(classes="per_mask", certainty=0.3)
    before = name_masks(case.evidence(), config)
    case.class_index = tuple(order.index(e) for e in case.class_index)
    case.is_base = tuple(case.is_base[e] for e in order)
    case.logits = case.logits[:, order]
    torch.testing.assert_close(name_masks(case.evidence(), config), before[:, order])


@pytest.mark.parametrize(("weight", "wins"), [(0.0, 0), (1.0, 1)])
def test_the_weight_says_who_decides(weight, wins):
    text = torch.eye(2)
    config = ClassifierConfig(classes="ensemble", base_weight=weight, novel_weight=weight)
    evidence = MaskEvidence(
        logits=torch.zeros(1, 2),
        embedding=text[:1],
        classes=tiny.classes(text, range(2), [True, True], [True, False]),
        tau=0.1,
        pool=lambda: (text[1:], torch.tensor([True])),
    )
    assert int(name_masks(evidence, config).argmax()) == wins


@pytest.mark.parametrize("form", ["sigmoid", "softmax"])
def test_a_voxel_is_unknown_as_far_as_every_query_rejects_it(form):
    probability, logits = random(QUERIES, ENTRIES).sigmoid(), 3 * random(QUERIES, VOXELS, seed=1)
    batch = tiny.frame(VOXELS)
    answer = MaskAnswer(probability, logits, random(QUERIES, CHANNELS), batch, Case().evidence().classes)
    found = answer.unknown(MergeConfig(masks=form)).tolist()
    for v in range(VOXELS):
        column = logits[:, v].tolist()
        mask = softmax(column) if form == "softmax" else [1 / (1 + math.exp(-x)) for x in column]
        claims = [p * m for q, m in enumerate(mask) for p in probability[q].tolist()]
        assert found[v] == pytest.approx(1 - max(claims), abs=1e-5)
