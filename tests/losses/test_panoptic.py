"""Focal and dice losses, and who takes part, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from ovps.losses.panoptic import class_loss, exclusion_loss, focal, mask_dice, mask_focal, takes_part, voxel_weight


def slow_focal(x: float, target: bool, gamma: float, alpha: float) -> float:
    """The formula of the paper."""
    p = 1 / (1 + math.exp(-x))
    p_t, alpha_t = (p, alpha) if target else (1 - p, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * math.log(p_t)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("gamma", "alpha"), [(4.0, 0.25), (2.0, 0.25), (0.0, 0.5)])
def test_focal(gamma, alpha):
    x, target = some(4, 5), some(4, 5, seed=1) > 0
    got = focal(x, target, gamma, alpha)
    for i in range(4):
        for j in range(5):
            assert got[i, j].item() == pytest.approx(slow_focal(x[i, j].item(), bool(target[i, j]), gamma, alpha))


def test_focal_is_finite_far_out():
    x = torch.tensor([-200.0, 200.0], requires_grad=True)
    for target in (True, False):
        focal(x, torch.tensor([target, target]), 4.0, 0.25).sum().backward()
        assert x.grad.isfinite().all()


def test_class_loss():
    x, label = some(4, 3), torch.tensor([2, -1, 0, -1])
    part = torch.tensor([True, True, True, False])
    want = sum(
        slow_focal(x[q, e].item(), label[q].item() == e, 4.0, 0.25) for q in range(4) if part[q] for e in range(3)
    )
    assert class_loss(x, label, part, 4.0, 0.25).item() == pytest.approx(want)


@pytest.mark.parametrize("unlabelled", ["negative", "ignore"])
def test_mask_losses(unlabelled):
    x, target = some(3, 7), some(3, 7, seed=1) > 0
    labelled = torch.tensor([True, True, False, True, True, False, True])
    target &= labelled
    weight = voxel_weight(labelled, unlabelled).double()
    counted = [v for v in range(7) if unlabelled == "negative" or labelled[v]]
    want_focal = want_dice = 0.0
    for m in range(3):
        want_focal += sum(slow_focal(x[m, v].item(), bool(target[m, v]), 2.0, 0.25) for v in counted) / len(counted)
        p = {v: 1 / (1 + math.exp(-x[m, v].item())) for v in counted}
        top = 2 * sum(p[v] for v in counted if target[m, v])
        bottom = sum(p[v] ** 2 for v in counted) + sum(int(target[m, v]) for v in counted) + 2e-3
        want_dice += 1 - top / bottom
    assert mask_focal(x, target, weight, 2.0, 0.25).item() == pytest.approx(want_focal)
    assert mask_dice(x, target, weight).item() == pytest.approx(want_dice)


def test_ignored_voxels_get_no_gradient():
    x = some(2, 4).requires_grad_()
    target = torch.tensor([[True, False, False, False], [False, True, False, False]])
    weight = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    (mask_focal(x, target, weight, 2.0, 0.25) + mask_dice(x, target, weight)).backward()
    assert (x.grad[:, 2] == 0).all()
    assert (x.grad[:, [0, 1, 3]] != 0).all()


def test_gradcheck_of_all():
    target, weight = some(3, 5, seed=1) > 0, torch.tensor([1, 1, 0, 1, 1], dtype=torch.float64)
    x = some(3, 5).requires_grad_()
    assert gradcheck(lambda x: focal(x, target, 4.0, 0.25), (x,))
    assert gradcheck(lambda x: mask_focal(x, target, weight, 2.0, 0.25), (x,))
    assert gradcheck(lambda x: mask_dice(x, target, weight), (x,))
    label, part = torch.tensor([4, -1, -1]), torch.tensor([True, True, False])
    assert gradcheck(lambda x: class_loss(x, label, part, 4.0, 0.25), (x,))


def test_no_mask_at_all():
    nothing = torch.zeros(0, 4, requires_grad=True)
    weight = torch.ones(4)
    total = mask_focal(nothing, nothing > 0, weight, 2.0, 0.25) + mask_dice(nothing, nothing > 0, weight)
    assert total.item() == 0


def test_who_takes_part():
    labelled = torch.tensor([True, True, False, False])
    logits = torch.tensor(
        [
            [1.0, 1.0, 1.0, 1.0],  # half unlabelled: not over half
            [1.0, -1.0, 1.0, 1.0],  # two thirds
            [-1.0, -1.0, 1.0, -1.0],  # all of it
            [-1.0, -1.0, -1.0, -1.0],  # empty
            [-1.0, -1.0, 1.0, 1.0],  # all of it, but matched
        ]
    )
    assert takes_part(logits, labelled, torch.tensor([4])).tolist() == [True, False, False, True, True]


def test_exclusion_keeps_masks_off_labelled_voxels_and_off_nothing_else():
    logits, labelled = some(3, 6).requires_grad_(), torch.tensor([1, 0, 1, 1, 0, 0]).bool()
    got = exclusion_loss(logits, labelled, 2.0, 0.25)
    want = sum(slow_focal(logits[m, v].item(), False, 2.0, 0.25) for m in range(3) for v in (0, 2, 3)) / 3
    assert got.item() == pytest.approx(want)
    got.backward()
    assert (logits.grad[:, ~labelled] == 0).all()
    assert (logits.grad[:, labelled] > 0).all()  # a step downhill makes the masks smaller there
    assert gradcheck(lambda x: exclusion_loss(x, labelled, 2.0, 0.25), (logits,))
    assert exclusion_loss(logits[:0], labelled, 2.0, 0.25) == 0
    assert exclusion_loss(logits, torch.zeros(6, dtype=torch.bool), 2.0, 0.25) == 0
