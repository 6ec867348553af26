"""Distillation losses against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from ovps.losses.distillation import coverage_loss, object_loss, voxel_loss
from ovps.model.masks import mask_probability, mixture

FORMS = ["sigmoid", "sigmoid_normalised", "softmax"]


def weights_of(logits: torch.Tensor, form: str) -> torch.Tensor:
    return mixture(mask_probability(logits, form), form)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(valid: torch.Tensor) -> torch.Tensor:
    return valid.nonzero()[:, 0]


def test_object_loss():
    e, o, valid = some(4, 5), some(4, 5, seed=1), torch.tensor([True, False, True, True])
    want = 0.0
    for m in (0, 2, 3):
        dot = sum(float(e[m, c] * o[m, c]) for c in range(5))
        want += 1 - dot / math.sqrt(float((e[m] ** 2).sum()) * float((o[m] ** 2).sum()))
    assert object_loss(e[valid], o[valid]).item() == pytest.approx(want)
    assert object_loss(e[:0], o[:0]).item() == 0


@pytest.mark.parametrize("form", FORMS)
def test_voxel_loss(form):
    logits, e, clip = some(3, 6), some(3, 4, seed=1), some(6, 4, seed=2)
    valid = torch.tensor([True, True, False, True, False, True])
    weights = weights_of(logits, form)
    want = sum(
        abs(sum(float(weights[q, v] * e[q, c]) for q in range(3)) - float(clip[v, c]))
        for v in range(6)
        if valid[v]
        for c in range(4)
    )
    assert voxel_loss(weights, e, clip[valid], rows(valid)).item() == pytest.approx(want)


def test_voxels_without_clip_feature_count_for_nothing():
    logits, e, clip = some(3, 6).requires_grad_(), some(3, 4, seed=1), some(6, 4, seed=2)
    valid = torch.tensor([True, True, False, True, False, True])
    voxel_loss(logits.sigmoid(), e, clip[valid], rows(valid)).backward()
    assert ((logits.grad != 0).all(dim=0) == valid).all()


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(form):
    logits, e, clip = some(3, 4).requires_grad_(), some(3, 5, seed=1).requires_grad_(), some(4, 5, seed=2)
    valid = torch.tensor([True, False, True, True])
    assert gradcheck(lambda m, e: voxel_loss(weights_of(m, form), e, clip[valid], rows(valid)), (logits, e))
    free = torch.tensor([0, 2])
    assert gradcheck(lambda m: coverage_loss(mask_probability(m, form), free, rows(valid)), (logits,))
    assert gradcheck(lambda e: object_loss(e, clip[:3]), (e,))


def test_coverage():
    logits = torch.tensor([[0.0, 9.0, -9.0, 9.0], [-9.0, 9.0, -9.0, 9.0], [9.0, 9.0, 9.0, 9.0]])
    free, claimable = torch.tensor([0, 1]), torch.tensor([0, 1, 2])
    got = coverage_loss(logits.sigmoid(), free, claimable)
    assert got.item() == pytest.approx(0.5 + 0 + 1, abs=1e-3)  # the third mask is taken, the fourth voxel another's
    assert coverage_loss(logits.sigmoid(), free[:0], claimable) == 0


def test_full_masks_of_the_right_features_cost_nothing_and_the_mean_costs_one():
    features = torch.nn.functional.normalize(some(2, 8), dim=1)
    clip = features[[0, 0, 1, 1, 1]]
    valid = torch.ones(5, dtype=torch.bool)
    masks = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 1]]).double() * 80 - 40
    assert voxel_loss(masks.sigmoid(), features, clip, rows(valid)).item() == pytest.approx(0, abs=1e-9)
    mean = clip.mean(dim=0)
    unit = (clip - mean).abs().sum(dim=1).mean()  # as `ovps.batch.statistics.measure` finds it
    one_mask = torch.full((1, 5), 40.0, dtype=torch.float64)
    lazy = voxel_loss(one_mask.sigmoid(), mean[None], clip, rows(valid)) / 5 / unit
    assert lazy.item() == pytest.approx(1)
