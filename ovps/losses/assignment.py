"""Assignment of queries to base segments."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ovps.losses.mask_loss import Masks, Members, Totals, focal
from ovps.losses.targets import Proposals, Targets


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
    """M matched pairs.

    Attributes:
        query: (M,) int64.
        segment: (M,) int64, row of `Targets`.
    """

    query: Tensor
    segment: Tensor


@torch.no_grad()
def assign(
    class_logits: Tensor, masks: Masks, totals: Totals, targets: Targets, stuff: Tensor, costs: Costs
) -> Assignment:
    """Hungarian matching of learned queries with base things; fixed pairs for base stuff.

    A base stuff class that the frame lacks leaves its query unmatched: a negative for every class, with no mask loss.
    With more things than learned queries, the costliest things stay unmatched.

    Args:
        class_logits: (Q, E) over the base classes.
        masks: Q masks.
        totals: over the voxels that base masks are compared on.
        targets: the frame's base segments, at most one per stuff class.
        stuff: (S,) int64, base class of each fixed query; those are the last S of the Q.
        costs: see there.
    """
    learned = torch.arange(len(class_logits) - len(stuff), device=stuff.device)
    things = targets.segment_is_thing.nonzero()[:, 0]
    cost = costs.class_weight * class_cost(class_logits[learned], targets.segment_class[things], costs)
    inside = Members.of(things, targets.voxel_segment, len(targets.segment_class))
    cost += mask_cost(masks, totals, learned, inside, costs)
    rows, columns = _solve(cost)

    # (present stuff segments) x (stuff classes): the class id need not be contiguous with anything
    stuff_segments = (~targets.segment_is_thing).nonzero()[:, 0]
    fits = targets.segment_class[stuff_segments][:, None] == stuff
    if not bool(fits.any(dim=1).all()) or bool((fits.sum(dim=0) > 1).any()):
        raise ValueError(
            "targets: a stuff segment of a class that is not base stuff, or two segments of one stuff class"
        )
    row, fixed = fits.nonzero(as_tuple=True)
    return Assignment(torch.cat([rows, len(learned) + fixed]), torch.cat([things[columns], stuff_segments[row]]))


@torch.no_grad()
def assign_proposals(masks: Masks, totals: Totals, free: Tensor, proposals: Proposals, costs: Costs) -> Assignment:
    """Hungarian matching of queries that answer for no base segment with proposals, by their masks alone.

    Args:
        masks: Q masks.
        totals: over the voxels that proposals are compared on.
        free: (F,) int64, the queries that may be matched.
        proposals: of the frame; `Assignment.segment` counts these.
        costs: those of the masks.
    """
    everyone = torch.arange(len(proposals.valid), device=free.device)
    inside = Members.of(everyone, proposals.voxel_proposal, len(everyone))
    rows, columns = _solve(mask_cost(masks, totals, free, inside, costs))
    return Assignment(free[rows], columns)


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


def _solve(cost: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(rows).to(cost.device), torch.from_numpy(columns).to(cost.device)
