"""Matching of queries for all layers and frames of a step at once.

The Hungarian method runs on the CPU, and the device has to finish before its costs can be read. So they are read twice
a step and not once for each layer of each frame: the costs of things first, those of proposals for who is left then.
What follows for the device, indices whose number the CPU knows, goes back in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ovps.losses.assignment import Assignment, Costs, mask_cost, stuff_pairs, thing_cost
from ovps.losses.frame_targets import FrameTargets
from ovps.losses.mask_loss import Masks, Totals


@dataclass(frozen=True)
class Look:
    """The answers of the queries on one frame at one layer.

    Attributes:
        frame: what they are compared with.
        logits: (Q, E) over the base classes.
        masks: Q of them.
        on_base, on_labelled, on_proposals: totals over the voxels that base masks, the exclusion and proposals are
            compared on.
    """

    frame: FrameTargets
    logits: Tensor
    masks: Masks
    on_base: Totals
    on_labelled: Totals
    on_proposals: Totals


@dataclass(frozen=True)
class Pairs:
    """M matched pairs, on the device.

    Attributes:
        query, segment: (M,) int64; `segment` counts base segments, or proposals.
        seen_query, seen_segment: those of them whose segment has a CLIP feature.
        all: whether every segment has its query.
    """

    query: Tensor
    segment: Tensor
    seen_query: Tensor
    seen_segment: Tensor
    all: bool


@dataclass(frozen=True)
class Matches:
    """Outcome of one look of Q queries, on the device.

    Attributes:
        base: those that answer for a base segment.
        proposals: those that answer for a proposal.
        label: (Q,) int64, base class of the segment, -1: of no base segment.
        off_base: (F,) int64, queries that answer for no base segment.
        unmatched: (U,) int64, queries that answer for nothing.
        excused: (Q,) bool, those that answer for a proposal.
    """

    base: Pairs
    proposals: Pairs
    label: Tensor
    off_base: Tensor
    unmatched: Tensor
    excused: Tensor


@torch.no_grad()
def match(looks: Sequence[Look], stuff: Tensor, costs: Costs) -> list[Matches]:
    """Match base segments with queries, then proposals with the learned queries that are left.

    Args:
        looks: of all layers and frames.
        stuff: (S,) int64 on the CPU, base class of each fixed query; those are the last S of the Q.
        costs: of things; those of masks are of proposals too.
    """
    learned = [len(look.logits) - len(stuff) for look in looks]
    solved = solve(
        [
            thing_cost(look.logits, look.masks, look.on_base, n, look.frame.things, look.frame.thing_class, costs)
            for look, n in zip(looks, learned, strict=True)
        ]
    )
    base = [
        stuff_pairs(rows, look.frame.thing[columns], look.frame.targets, stuff, n)
        for look, (rows, columns), n in zip(looks, solved, learned, strict=True)
    ]
    off_base = [_others(len(look.logits), pairs.query) for look, pairs in zip(looks, base, strict=True)]
    left = [others[others < n] for others, n in zip(off_base, learned, strict=True)]

    asked = [(i, look, look.frame.clusters) for i, look in enumerate(looks) if look.frame.clusters is not None]
    there = _send([left[i] for i, _, _ in asked], looks)
    solved = solve(
        [
            mask_cost(look.masks, look.on_proposals, queries, clusters, costs)
            for (_, look, clusters), queries in zip(asked, there, strict=True)
        ]
    )
    nothing = torch.zeros(0, dtype=torch.int64)
    proposals = [Assignment(nothing, nothing)] * len(looks)
    for (i, _, _), (rows, columns) in zip(asked, solved, strict=True):
        proposals[i] = Assignment(left[i][rows], columns)
    return _on_device(looks, base, off_base, proposals)


@torch.no_grad()
def solve(costs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Assign rows to columns at the lowest cost, as many as there are, in each of some matrices.

    Args:
        costs: (F, S) each, on any device, read in one piece.

    Returns:
        Rows and columns (min(F, S),) int64 of each, on the CPU, rows ascending.
    """
    if not costs:
        return []
    read = torch.cat([cost.flatten() for cost in costs]).cpu().split([cost.numel() for cost in costs])
    found = [linear_sum_assignment(flat.reshape(cost.shape).numpy()) for flat, cost in zip(read, costs, strict=True)]
    return [(torch.from_numpy(rows), torch.from_numpy(columns)) for rows, columns in found]


def _others(queries: int, matched: Tensor) -> Tensor:
    """The queries that are not matched, ascending."""
    left = torch.ones(queries, dtype=torch.bool)
    left[matched] = False
    return left.nonzero()[:, 0]


def _on_device(
    looks: Sequence[Look], base: list[Assignment], off_base: list[Tensor], proposals: list[Assignment]
) -> list[Matches]:
    parts: list[Tensor] = []
    for look, of_base, others, of_proposals in zip(looks, base, off_base, proposals, strict=True):
        targets = look.frame.targets
        label = torch.full((len(look.logits),), -1, dtype=torch.int64)
        label[of_base.query] = targets.segment_class[of_base.segment]
        excused = torch.zeros_like(label)
        excused[of_proposals.query] = 1
        parts += _parts(of_base, targets.object_valid)
        parts += _parts(of_proposals, look.frame.proposal_valid)
        parts += [label, others, others[excused[others] == 0], excused]
    sent = iter(_send(parts, looks))

    def pairs(found: Assignment, segments: int) -> Pairs:
        return Pairs(next(sent), next(sent), next(sent), next(sent), all=len(found.query) == segments)

    return [
        Matches(
            base=pairs(of_base, len(look.frame.targets.segment_class)),
            proposals=pairs(of_proposals, len(look.frame.proposal_valid)),
            label=next(sent),
            off_base=next(sent),
            unmatched=next(sent),
            excused=next(sent).bool(),
        )
        for look, of_base, of_proposals in zip(looks, base, proposals, strict=True)
    ]


def _parts(pairs: Assignment, valid: Tensor) -> list[Tensor]:
    seen = valid[pairs.segment]
    return [pairs.query, pairs.segment, pairs.query[seen], pairs.segment[seen]]


def _send(indices: list[Tensor], looks: Sequence[Look]) -> Sequence[Tensor]:
    """Index arrays of the CPU (n,) int64 to the device of the looks, in one piece."""
    if not indices:
        return []
    device = looks[0].logits.device
    return torch.cat(indices).to(device, non_blocking=True).split([len(part) for part in indices])
