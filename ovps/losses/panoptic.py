"""L_cls and L_mask: focal and dice losses over base classes and base masks. All return sums; `total` divides."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Unlabelled = Literal["negative", "ignore"]

# mmdet's DiceLoss, as P3Former uses it
_DICE_EPS = 1e-3


def focal(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Sigmoid focal loss, element by element [Lin et al. 2017]. logits, target bool -> same shape.

    With s the logit of being wrong: alpha_t sigmoid(s)^gamma softplus(s).
    """
    wrong = torch.where(target, -logits, logits)
    weight = torch.where(target, alpha, 1 - alpha).to(logits.dtype)
    return weight * wrong.sigmoid() ** gamma * F.softplus(wrong)


def class_loss(logits: Tensor, label: Tensor, takes_part: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss summed over queries and base classes, ().

    Args:
        logits: (Q, E).
        label: (Q,) int64, base class of the matched segment, -1: negative for every base class.
        takes_part: (Q,) bool.
    """
    target = label[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return focal(logits, target, gamma, alpha)[takes_part].sum()


def takes_part(mask_logits: Tensor, labelled: Tensor, matched: Tensor) -> Tensor:
    """(Q,) bool: which queries L_cls counts: the matched, and the unmatched with at most half their mask unlabelled.

    A mask on unlabelled voxels may be a novel object: it must not learn to be no class at all (ours). An empty mask
    takes part.

    Args:
        mask_logits: (Q, V).
        labelled: (V,) bool, voxels of a base segment.
        matched: (Q,) int64 or other, indices of the matched queries.
    """
    inside = mask_logits.detach() > 0
    area = inside.sum(dim=1)
    unlabelled = (inside & ~labelled).sum(dim=1)
    part = 2 * unlabelled <= area
    part[matched] = True
    return part


def mask_focal(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss averaged over voxels, summed over masks, (). logits (M, V), target (M, V) bool, weight (V,) 0 or 1."""
    return (focal(logits, target, gamma, alpha) @ weight).sum() / weight.sum().clamp(min=1)


def exclusion_loss(logits: Tensor, labelled: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss of the masks that answer for no segment on the voxels that have one, averaged over those, summed, ().

    Ours: a voxel of a base segment belongs to no other mask, because base classes are labelled exhaustively.

    Args:
        logits: (M, V), unmatched masks.
        labelled: (V,) bool.
    """
    return mask_focal(logits, torch.zeros_like(logits, dtype=torch.bool), labelled.to(logits.dtype), gamma, alpha)


def mask_dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Dice loss with squared denominators [Milletari et al. 2016], summed over masks, (). Arguments as `mask_focal`."""
    p = logits.sigmoid() * weight
    t = target.to(p.dtype) * weight
    overlap = 2 * (p * t).sum(dim=1)
    return (1 - overlap / (p.square().sum(dim=1) + t.sum(dim=1) + 2 * _DICE_EPS)).sum()


def voxel_weight(labelled: Tensor, unlabelled: Unlabelled) -> Tensor:
    """(V,) float32: which voxels the masks are compared on."""
    return torch.ones_like(labelled, dtype=torch.float32) if unlabelled == "negative" else labelled.float()
