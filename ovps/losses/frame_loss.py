"""Every part of the loss on one frame at one layer: sums, and the counts that they are divided by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovps.losses.assignment import Assignment, assign, assign_proposals
from ovps.losses.classes import class_loss, counted_voxels, takes_part
from ovps.losses.config import LossConfig
from ovps.losses.distillation import coverage_loss, object_loss, voxel_loss
from ovps.losses.mask_loss import Masks, Members, Totals, dice_loss, exclusion_loss, mask_losses
from ovps.losses.targets import Proposals, Targets
from ovps.model.class_text import ClassText
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.masks import mask_probability, mixture


@dataclass(frozen=True)
class Part:
    """One part of the loss: what is added up over the frames of a batch, and what the sum is divided by, both ()."""

    sum: Tensor
    count: Tensor | int


def frame_parts(
    output: LayerOutput,
    logits: Tensor,
    b: int,
    batch: VoxelBatch,
    targets: Targets,
    base: ClassText,
    config: LossConfig,
    with_voxels: bool,
) -> dict[str, Part]:
    """Every part of the loss of one frame at one layer, by its name in `PARTS`.

    Args:
        output: of the layer.
        logits: (Q, E) over the base classes, of this frame.
        b: number of the frame in the batch.
        targets: of this frame.
        base, config: see `ovps.losses.total.loss_terms`.
        with_voxels: whether L_V applies to this layer.
    """
    embedding, proposals = output.class_embedding[b], targets.proposals
    labelled = targets.voxel_segment >= 0
    counted = counted_voxels(labelled, config.unlabelled)
    masks = Masks.of(output.mask_logits[b], config.mask_gamma, config.alpha)
    on_base, on_labelled, on_proposals = masks.totals(counted, labelled, labelled | _proposed(proposals, labelled))
    zero = logits.new_zeros(())

    pairs = assign(logits, masks, on_base, targets, base.stuff, config.costs)
    segments = Members.of(pairs.segment, targets.voxel_segment, len(targets.segment_class))
    position = zero
    if output.position_logits is not None and config.position_weight > 0:
        position = _position_dice(output.position_logits[b], counted, pairs, segments)
    answers = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    answers[pairs.query] = True

    valid = batch.clip_valid[batch.voxels_of(b)]
    novel_or_noise = valid & ~labelled
    voxel = coverage = zero
    if with_voxels:
        softmax = config.voxel_form == "softmax"
        probability = mask_probability(masks.logits, config.voxel_form) if softmax else masks.probability
        weights = mixture(probability, config.voxel_form)
        voxel = voxel_loss(weights, embedding, batch.clip[batch.voxels_of(b)], valid)
        if config.weight("coverage") > 0:
            coverage = coverage_loss(probability, ~answers, novel_or_noise)

    found, proposal_parts = _on_proposals(masks, on_proposals, embedding, ~answers, proposals, base, config)
    answers[found] = True
    exclusion = exclusion_loss(on_labelled, ~answers) if config.weight("exclusion") > 0 else zero
    valid_object = targets.object_valid[pairs.segment]
    matched = len(pairs.query)
    focal_sum, dice_sum = mask_losses(masks, on_base, pairs.query, segments)
    return {
        # the negatives of a frame without any base segment count too, so that frame counts as one
        "class": Part(_class_sum(logits, masks, labelled, targets, pairs, found, config), max(matched, 1)),
        "mask_focal": Part(focal_sum, matched),
        "mask_dice": Part(dice_sum, matched),
        "exclusion": Part(exclusion, 1),
        "position": Part(position, matched),
        "object": Part(
            object_loss(embedding[pairs.query], targets.object_embedding[pairs.segment], valid_object),
            valid_object.sum(),
        ),
        "voxel": Part(voxel, valid.sum()),
        "coverage": Part(coverage, novel_or_noise.sum()),
        **proposal_parts,
    }


def _proposed(proposals: Proposals | None, labelled: Tensor) -> Tensor:
    return torch.zeros_like(labelled) if proposals is None else proposals.voxel_proposal >= 0


def _position_dice(logits: Tensor, counted: Tensor, pairs: Assignment, segments: Members) -> Tensor:
    """Of the position branch on its own."""
    probability = logits[pairs.query].sigmoid()
    square = (probability * probability) @ counted.to(logits.dtype)
    return dice_loss(probability[segments.row, segments.voxel], square, segments)


def _on_proposals(
    masks: Masks,
    totals: Totals,
    embedding: Tensor,
    free: Tensor,
    proposals: Proposals | None,
    base: ClassText,
    config: LossConfig,
) -> tuple[Tensor, dict[str, Part]]:
    """Queries matched with proposals, and what is asked of them: focal, dice, L_O.

    Base voxels and other proposals are outside a proposal. The other unlabelled voxels, those at the ground, may belong
    to it or not: they count for nothing.
    """
    zero, learned = embedding.new_zeros(()), len(embedding) - len(base.stuff)
    unmatched = free[:learned].nonzero()[:, 0]
    if proposals is None or not len(proposals.valid):
        nothing = Part(zero, 0)
        return unmatched[:0], {f"proposal_{name}": nothing for name in ("focal", "dice", "object")}
    pairs = assign_proposals(masks, totals, unmatched, proposals, config.costs)
    clusters = Members.of(pairs.segment, proposals.voxel_proposal, len(proposals.valid))
    valid = proposals.valid[pairs.segment]
    focal_sum, dice_sum = mask_losses(masks, totals, pairs.query, clusters)
    object_sum = object_loss(embedding[pairs.query], proposals.embedding[pairs.segment], valid)
    return pairs.query, {
        "proposal_focal": Part(focal_sum, len(pairs.query)),
        "proposal_dice": Part(dice_sum, len(pairs.query)),
        "proposal_object": Part(object_sum, valid.sum()),
    }


def _class_sum(
    logits: Tensor,
    masks: Masks,
    labelled: Tensor,
    targets: Targets,
    pairs: Assignment,
    found: Tensor,
    config: LossConfig,
) -> Tensor:
    label = torch.full((len(logits),), -1, dtype=torch.int64, device=logits.device)
    label[pairs.query] = targets.segment_class[pairs.segment]
    part = takes_part(masks.logits, labelled, pairs.query)
    part[found] = False  # a proposal may be a novel object: it is no negative
    return class_loss(logits, label, part, config.class_gamma, config.alpha)
