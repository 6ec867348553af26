"""Which query answers for which base segment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ovps.losses.panoptic import focal
from ovps.losses.targets import Targets


@dataclass(frozen=True)
class Costs:
    """Weights and focal exponents of the matching costs [P3Former]."""

    class_weight: float = 1.0
    mask_weight: float = 1.0
    dice_weight: float = 2.0
    class_gamma: float = 4.0
    mask_gamma: float = 2.0
    alpha: float = 0.25


@dataclass(frozen=True)
class Assignment:
    """M matched pairs.

    Attributes:
        query: (M,) int64.
        segment: (M,) int64, row of `Targets`.
    """

    query: Tensor
    segment: Tensor


@torch.no_grad()
def assign(
    class_logits: Tensor, mask_logits: Tensor, targets: Targets, stuff: Tensor, weight: Tensor, costs: Costs
) -> Assignment:
    """Hungarian matching of learned queries with base things; fixed pairs for base stuff.

    A base stuff class that the frame lacks leaves its query unmatched: a negative for every class, with no mask loss.
    With more things than learned queries, the costliest things stay unmatched.

    Args:
        class_logits: (Q, E) over the base classes.
        mask_logits: (Q, V).
        targets: the frame's base segments, at most one per stuff class.
        stuff: (S,) int64, base class of each fixed query; those are the last S of the Q.
        weight: (V,) float, see `ovps.losses.panoptic.voxel_weight`.
        costs: see there.
    """
    learned = len(class_logits) - len(stuff)
    things = targets.segment_is_thing.nonzero()[:, 0]
    cost = matching_cost(
        class_logits[:learned],
        mask_logits[:learned],
        targets.segment_class[things],
        targets.masks()[things],
        weight,
        costs,
    )
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    rows, columns = (torch.from_numpy(i).to(stuff.device) for i in (rows, columns))

    # (present stuff segments) x (stuff classes): the class id need not be contiguous with anything
    stuff_segments = (~targets.segment_is_thing).nonzero()[:, 0]
    fits = targets.segment_class[stuff_segments][:, None] == stuff
    if not bool(fits.any(dim=1).all()) or bool((fits.sum(dim=0) > 1).any()):
        raise ValueError(
            "targets: a stuff segment of a class that is not base stuff, or two segments of one stuff class"
        )
    row, fixed = fits.nonzero(as_tuple=True)
    return Assignment(torch.cat([rows, learned + fixed]), torch.cat([things[columns], stuff_segments[row]]))


@torch.no_grad()
def assign_proposals(mask_logits: Tensor, free: Tensor, masks: Tensor, weight: Tensor, costs: Costs) -> Assignment:
    """Hungarian matching of queries that answer for no base segment with proposals, by their masks alone.

    Args:
        mask_logits: (Q, V).
        free: (F,) int64, the queries that may be matched.
        masks: (P, V) bool, of the proposals; `Assignment.segment` counts these.
        weight: (V,) float, voxels to compare on.
        costs: those of the masks.
    """
    cost = mask_cost(mask_logits[free], masks, weight, costs)
    rows, columns = (torch.from_numpy(i).to(free.device) for i in linear_sum_assignment(cost.cpu().numpy()))
    return Assignment(free[rows], columns)


def matching_cost(
    class_logits: Tensor, mask_logits: Tensor, segment_class: Tensor, masks: Tensor, weight: Tensor, costs: Costs
) -> Tensor:
    """(Q, S) float: focal class cost + focal mask cost + dice cost [mmdet's FocalLossCost and DiceCost].

    Args:
        class_logits: (Q, E).
        mask_logits: (Q, V).
        segment_class: (S,) int64.
        masks: (S, V) bool.
        weight: (V,) float.
    """
    alpha, gamma = costs.alpha, costs.class_gamma
    class_cost = _focal_if_true(class_logits, gamma, alpha) - _focal_if_false(class_logits, gamma, alpha)
    class_cost = class_cost[:, segment_class]
    return costs.class_weight * class_cost + mask_cost(mask_logits, masks, weight, costs)


def mask_cost(mask_logits: Tensor, masks: Tensor, weight: Tensor, costs: Costs) -> Tensor:
    """The part of `matching_cost` that knows no class, (Q, S). Arguments as there."""
    alpha, gamma = costs.alpha, costs.mask_gamma
    # what is inside no mask costs the same for all of them: objects are small, so this halves the work
    covered = masks.any(dim=0)
    inside = masks[:, covered].to(mask_logits.dtype) * weight[covered]
    logits = mask_logits[:, covered]
    no = _focal_if_false(mask_logits, gamma, alpha)
    change = _focal_if_true(logits, gamma, alpha) - no[:, covered]
    focal_cost = ((no @ weight)[:, None] + change @ inside.T) / weight.sum().clamp(min=1)

    area = mask_logits.sigmoid() @ weight
    dice_cost = 1 - 2 * (logits.sigmoid() @ inside.T) / (area[:, None] + inside.sum(dim=1) + 1e-3)
    return costs.mask_weight * focal_cost + costs.dice_weight * dice_cost


def _focal_if_true(logits: Tensor, gamma: float, alpha: float) -> Tensor:
    return focal(logits, torch.ones((), dtype=torch.bool, device=logits.device), gamma, alpha)


def _focal_if_false(logits: Tensor, gamma: float, alpha: float) -> Tensor:
    return focal(logits, torch.zeros((), dtype=torch.bool, device=logits.device), gamma, alpha)
