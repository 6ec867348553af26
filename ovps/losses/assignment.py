"""Costs of queries that answer for segments, and the fixed pairs of stuff."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovps.losses.mask_loss import Masks, Members, Totals, focal
from ovps.losses.targets import Targets


@dataclass(frozen=True)
class Costs:
    """Weights and focal exponents of matching [P3Former]; the weights of L_cls and L_mask have no part in it."""

    class_weight: float = 1.0
    focal_weight: float = 1.0
    dice_weight: float = 2.0
    class_gamma: float = 4.0
    mask_gamma: float = 2.0
    alpha: float = 0.25


@dataclass(frozen=True)
class Assignment:
    """M matched pairs, on the CPU, where they are found.

    Attributes:
        query: (M,) int64.
        segment: (M,) int64, row of `Targets`, or of `Proposals`.
    """

    query: Tensor
    segment: Tensor


def thing_cost(
    class_logits: Tensor,
    masks: Masks,
    totals: Totals,
    learned: int,
    things: Members,
    thing_class: Tensor,
    costs: Costs,
) -> Tensor:
    """Costs of base things, (learned, T).

    Args:
        class_logits: (Q, E) over the base classes.
        masks: Q masks.
        totals: over the voxels that base masks are compared on.
        learned: number of learned queries, the first of the Q.
        things: T of them.
        thing_class: (T,) int64.
        costs: see there.
    """
    queries = torch.arange(learned, device=class_logits.device)
    cost = costs.class_weight * class_cost(class_logits[queries], thing_class, costs)
    cost += mask_cost(masks, totals, queries, things, costs)
    return cost


def stuff_pairs(query: Tensor, thing: Tensor, targets: Targets, stuff: Tensor, learned: int) -> Assignment:
    """Add the fixed pairs of base stuff to those of things.

    A base stuff class that the frame lacks leaves its query unmatched: a negative for every class, with no mask loss.
    With more things than learned queries, the costliest things stay unmatched.

    Args:
        query, thing: (T,) int64 on the CPU, learned queries and the segments they were matched with.
        targets: the frame's base segments, at most one per stuff class.
        stuff: (S,) int64 on the CPU, base class of each fixed query, behind the learned ones.
        learned: number of learned queries.
    """
    # (present stuff segments) x (stuff classes): the class id need not be contiguous with anything
    segments = (~targets.segment_is_thing).nonzero()[:, 0]
    fits = targets.segment_class[segments][:, None] == stuff
    if not bool(fits.any(dim=1).all()) or bool((fits.sum(dim=0) > 1).any()):
        raise ValueError(
            "targets: a stuff segment of a class that is not base stuff, or two segments of one stuff class"
        )
    row, fixed = fits.nonzero(as_tuple=True)
    return Assignment(torch.cat([query, learned + fixed]), torch.cat([thing, segments[row]]))


def class_cost(class_logits: Tensor, segment_class: Tensor, costs: Costs) -> Tensor:
    """Cost of classes, (Q, S): focal loss if the class were true, less if it were false [mmdet's FocalLossCost].

    Args:
        class_logits: (Q, E).
        segment_class: (S,) int64.
    """
    true, false = (torch.tensor(t, device=class_logits.device) for t in (True, False))
    yes, no = (focal(class_logits, t, costs.class_gamma, costs.alpha) for t in (true, false))
    return (yes - no)[:, segment_class]


def mask_cost(masks: Masks, totals: Totals, queries: Tensor, segments: Members, costs: Costs) -> Tensor:
    """Cost of masks, (F, S): focal cost + dice cost [mmdet's FocalLossCost and DiceCost].

    Args:
        masks: Q masks.
        totals: over the voxels to compare on; all segments lie within.
        queries: (F,) int64, the masks to compare.
        segments: S of them.
    """
    everyone = torch.arange(len(segments.size), device=segments.row.device)
    member = (segments.row[:, None] == everyone).to(masks.logits.dtype)
    there = masks.at(queries[:, None], segments.voxel[None, :])
    focal_cost = (totals.outside[queries, None] + there.if_inside @ member) / totals.size
    overlap = there.probability @ member
    dice_cost = 1 - 2 * overlap / (totals.area[queries, None] + segments.size + 1e-3)
    return costs.focal_weight * focal_cost + costs.dice_weight * dice_cost
