"""Every part of the loss on one frame at one layer: sums, and the counts that they are divided by."""

from __future__ import annotations

import torch
from torch import Tensor

from ovps.losses.assignment import Assignment, assign, assign_proposals
from ovps.losses.base import BaseClasses
from ovps.losses.config import LossConfig
from ovps.losses.distillation import coverage_loss, object_loss, voxel_loss
from ovps.losses.panoptic import class_loss, exclusion_loss, mask_dice, mask_focal, takes_part, voxel_weight
from ovps.losses.targets import Targets
from ovps.model.inputs import LayerOutput, VoxelBatch


def frame_parts(
    output: LayerOutput,
    logits: Tensor,
    b: int,
    batch: VoxelBatch,
    targets: Targets,
    base: BaseClasses,
    config: LossConfig,
    with_voxels: bool,
) -> tuple[Tensor, Tensor]:
    """Sums and counts, (PARTS,) each, of one frame at one layer."""
    masks, embedding = output.mask_logits[b], output.class_embedding[b]
    labelled = targets.voxel_segment >= 0
    weight = voxel_weight(labelled, config.unlabelled)
    pairs = assign(logits, masks, targets, base.stuff, weight, config.costs)
    truth = targets.masks()[pairs.segment]
    zero = masks.new_zeros(())

    position = zero
    if output.position_logits is not None and config.position_weight > 0:
        position = mask_dice(output.position_logits[b][pairs.query], truth, weight)
    answers = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    answers[pairs.query] = True
    frame = batch.voxels_of(b)
    valid = batch.clip_valid[frame]
    novel_or_noise = valid & ~labelled
    voxel = coverage = zero
    if with_voxels:
        voxel = voxel_loss(masks, embedding, batch.clip[frame], valid, config.voxel_form)
        if config.coverage_weight > 0:
            coverage = coverage_loss(masks, ~answers, novel_or_noise, config.voxel_form)
    found, found_sums, found_counts = _on_proposals(masks, embedding, ~answers, labelled, targets, base, config)
    answers[found] = True
    exclusion = zero
    if config.exclusion_weight > 0:
        exclusion = exclusion_loss(masks[~answers], labelled, config.mask_gamma, config.alpha)
    valid_object = targets.object_valid[pairs.segment]
    sums = torch.stack(
        [
            _class_sum(logits, masks, labelled, targets, pairs, found, config),
            mask_focal(masks[pairs.query], truth, weight, config.mask_gamma, config.alpha),
            mask_dice(masks[pairs.query], truth, weight),
            exclusion,
            position,
            object_loss(embedding[pairs.query], targets.object_embedding[pairs.segment], valid_object),
            voxel,
            coverage,
            *found_sums,
        ]
    )
    # the negatives of a frame without any base segment count too, so that frame counts as one
    matched = len(pairs.query)
    counts = [
        *(max(matched, 1), matched, matched, 1, matched),
        *(valid_object.sum(), valid.sum(), novel_or_noise.sum()),
        *found_counts,
    ]
    return sums, torch.stack([torch.as_tensor(c, dtype=sums.dtype, device=sums.device) for c in counts])


def _on_proposals(
    masks: Tensor,
    embedding: Tensor,
    free: Tensor,
    labelled: Tensor,
    targets: Targets,
    base: BaseClasses,
    config: LossConfig,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor | int, ...]]:
    """Queries matched with proposals, then sums and counts of what is asked of them: focal, dice, L_O.

    Base voxels and other proposals are outside a proposal. The other unlabelled voxels, those at the ground, may belong
    to it or not: they count for nothing.
    """
    proposals, zero = targets.proposals, masks.new_zeros(())
    learned = len(masks) - len(base.stuff)
    free = free[:learned].nonzero()[:, 0]
    if proposals is None or not len(proposals.valid):
        return free[:0], (zero, zero, zero), (0, 0, 0)
    clusters = proposals.masks()
    weight = (labelled | (proposals.voxel_proposal >= 0)).to(masks.dtype)
    pairs = assign_proposals(masks, free, clusters, weight, config.costs)
    truth, valid = clusters[pairs.segment], proposals.valid[pairs.segment]
    sums = (
        mask_focal(masks[pairs.query], truth, weight, config.mask_gamma, config.alpha),
        mask_dice(masks[pairs.query], truth, weight),
        object_loss(embedding[pairs.query], proposals.embedding[pairs.segment], valid),
    )
    return pairs.query, sums, (len(pairs.query), len(pairs.query), valid.sum())


def _class_sum(
    logits: Tensor,
    masks: Tensor,
    labelled: Tensor,
    targets: Targets,
    pairs: Assignment,
    found: Tensor,
    config: LossConfig,
) -> Tensor:
    label = torch.full((len(logits),), -1, dtype=torch.int64, device=logits.device)
    label[pairs.query] = targets.segment_class[pairs.segment]
    part = takes_part(masks, labelled, pairs.query)
    part[found] = False  # a proposal may be a novel object: it is no negative
    return class_loss(logits, label, part, config.class_gamma, config.alpha)
