"""The mask losses as their formulas are written, one function of whole (M, V) arrays each: slow, and easy to believe.

`test_masks.py` compares them with loops over single voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def focal(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    p = logits.sigmoid()
    p_t, alpha_t = torch.where(target, p, 1 - p), torch.where(target, alpha, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * p_t.log()


def mask_focal(logits: Tensor, target: Tensor, counted: Tensor, gamma: float, alpha: float) -> Tensor:
    return focal(logits, target, gamma, alpha)[:, counted].mean(dim=1).sum() if counted.any() else logits.sum() * 0


def mask_dice(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    p, t = logits.sigmoid()[:, counted], target[:, counted].to(logits.dtype)
    return (1 - 2 * (p * t).sum(dim=1) / ((p**2).sum(dim=1) + t.sum(dim=1) + 2e-3)).sum()


def exclusion(logits: Tensor, labelled: Tensor, gamma: float, alpha: float) -> Tensor:
    return mask_focal(logits, torch.zeros_like(logits, dtype=torch.bool), labelled, gamma, alpha)
