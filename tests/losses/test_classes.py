"""The class loss, who takes part in it and what masks are compared on, against loops."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from ovps.losses.classes import class_loss, counted_voxels, takes_part
from tests.losses.test_mask_loss import slow_focal, some


def test_class_loss():
    x, label = some(4, 3), torch.tensor([2, -1, 0, -1])
    part = torch.tensor([True, True, True, False])
    want = sum(
        slow_focal(x[q, e].item(), label[q].item() == e, 4.0, 0.25) for q in range(4) if part[q] for e in range(3)
    )
    assert class_loss(x, label, part, 4.0, 0.25).item() == pytest.approx(want)
    assert gradcheck(lambda x: class_loss(x, label, part, 4.0, 0.25), (x.requires_grad_(),))


def test_what_base_masks_are_compared_on():
    labelled = torch.tensor([True, False, True])
    assert counted_voxels(labelled, "negative").tolist() == [True, True, True]
    assert counted_voxels(labelled, "ignore").tolist() == [True, False, True]


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
    assert takes_part(logits, labelled, torch.tensor([False] * 4 + [True])).tolist() == [True, False, False, True, True]
