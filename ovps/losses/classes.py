"""L_cls: focal loss over base classes; who and what counts in it and in L_mask. Sums; `total` divides."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ovps.losses.mask_loss import focal

Unlabelled = Literal["negative", "ignore"]


def class_loss(logits: Tensor, label: Tensor, takes_part: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss summed over queries and base classes, ().

    Args:
        logits: (Q, E).
        label: (Q,) int64, base class of the matched segment, -1: negative for every base class.
        takes_part: (Q,) bool.
    """
    target = label[:, None] == torch.arange(logits.shape[1], device=logits.device)
    # zeros rather than fewer rows, whose number only the device knows
    return torch.where(takes_part[:, None], focal(logits, target, gamma, alpha), 0).sum()


def takes_part(mask_logits: Tensor, labelled: Tensor, matched: Tensor) -> Tensor:
    """Choose the queries of L_cls, (Q,) bool: the matched, and the unmatched with at most half their mask unlabelled.

    A mask on unlabelled voxels may be a novel object: it must not learn to be no class at all (ours). An empty mask
    takes part.

    Args:
        mask_logits: (Q, V).
        labelled: (V,) bool, voxels of a base segment.
        matched: (Q,) bool.
    """
    inside = mask_logits.detach() > 0
    area = inside.sum(dim=1)
    unlabelled = (inside & ~labelled).sum(dim=1)
    return (2 * unlabelled <= area) | matched


def counted_voxels(labelled: Tensor, unlabelled: Unlabelled) -> Tensor:
    """Choose the voxels that base masks are compared on, (V,) bool."""
    return torch.ones_like(labelled) if unlabelled == "negative" else labelled
