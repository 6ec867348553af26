"""Every part of the loss on one frame at one layer: sums, and the counts that they are divided by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ovps.losses.classes import class_loss, takes_part
from ovps.losses.config import LossConfig
from ovps.losses.distillation import coverage_loss, object_loss, voxel_loss
from ovps.losses.frame_targets import FrameTargets
from ovps.losses.mask_loss import Masks, Members, dice_loss, exclusion_loss, mask_losses
from ovps.losses.matching import Look, Matches, Pairs
from ovps.model.inputs import LayerOutput
from ovps.model.masks import mask_probability, mixture


@dataclass(frozen=True)
class Part:
    """One part of the loss: what is added up over the frames of a batch, (), and what the sum is divided by."""

    sum: Tensor
    count: int


def look_at(output: LayerOutput, logits: Tensor, b: int, frame: FrameTargets, config: LossConfig) -> Look:
    """Look at frame number `b` at one layer, whose logits over the base classes are (Q, E)."""
    masks = Masks.of(output.mask_logits[b], config.mask_gamma, config.alpha)
    return Look(frame, logits, masks, *masks.totals(frame.counted, frame.labelled, frame.proposed))


def frame_parts(
    output: LayerOutput, b: int, look: Look, matches: Matches, config: LossConfig, with_voxels: bool
) -> dict[str, Part]:
    """Every part of the loss of one frame at one layer, by its name in `PARTS`.

    Args:
        output: of the layer.
        b: number of the frame in the batch.
        look: at it.
        matches: of its queries.
        config: see `ovps.losses.total.loss_terms`.
        with_voxels: whether L_V applies to this layer.
    """
    frame, masks, pairs = look.frame, look.masks, matches.base
    embedding, targets = output.class_embedding[b], frame.targets
    zero = look.logits.new_zeros(())

    segments = frame.segments.only(pairs.segment, pairs.all)
    position = zero
    if output.position_logits is not None and config.position_weight > 0:
        position = _position_dice(output.position_logits[b], frame.counted, pairs, segments)

    voxel = coverage = zero
    if with_voxels:
        softmax = config.voxel_form == "softmax"
        probability = mask_probability(masks.logits, config.voxel_form) if softmax else masks.probability
        weights = mixture(probability, config.voxel_form)
        voxel = voxel_loss(weights, embedding, frame.clip, frame.clip_rows)
        if config.weight("coverage") > 0:
            coverage = coverage_loss(probability, matches.off_base, frame.claimable)

    proposal_parts = _on_proposals(look, embedding, matches.proposals)
    exclusion = exclusion_loss(look.on_labelled, matches.unmatched) if config.weight("exclusion") > 0 else zero
    matched = len(pairs.query)
    focal_sum, dice_sum = mask_losses(masks, look.on_base, pairs.query, segments)
    return {
        # the negatives of a frame without any base segment count too, so that frame counts as one
        "class": Part(_class_sum(look, matches, config), max(matched, 1)),
        "mask_focal": Part(focal_sum, matched),
        "mask_dice": Part(dice_sum, matched),
        "exclusion": Part(exclusion, 1),
        "position": Part(position, matched),
        "object": _object_part(embedding, targets.object_embedding, pairs),
        "voxel": Part(voxel, len(frame.clip_rows)),
        "coverage": Part(coverage, len(frame.claimable)),
        **proposal_parts,
    }


def _object_part(embedding: Tensor, of_segments: Tensor, pairs: Pairs) -> Part:
    found = object_loss(embedding[pairs.seen_query], of_segments[pairs.seen_segment])
    return Part(found, len(pairs.seen_query))


def _position_dice(logits: Tensor, counted: Tensor, pairs: Pairs, segments: Members) -> Tensor:
    """Of the position branch on its own."""
    probability = logits[pairs.query].sigmoid()
    square = (probability * probability) @ counted.to(logits.dtype)
    return dice_loss(probability[segments.row, segments.voxel], square, segments)


def _on_proposals(look: Look, embedding: Tensor, pairs: Pairs) -> dict[str, Part]:
    """What is asked of queries that are matched with proposals: focal, dice, L_O.

    Base voxels and other proposals are outside a proposal. The other unlabelled voxels, those at the ground, may belong
    to it or not: they count for nothing.
    """
    proposals = look.frame.targets.proposals
    if proposals is None or look.frame.clusters is None:
        nothing = Part(embedding.new_zeros(()), 0)
        return {f"proposal_{name}": nothing for name in ("focal", "dice", "object")}
    clusters = look.frame.clusters.only(pairs.segment, pairs.all)
    focal_sum, dice_sum = mask_losses(look.masks, look.on_proposals, pairs.query, clusters)
    return {
        "proposal_focal": Part(focal_sum, len(pairs.query)),
        "proposal_dice": Part(dice_sum, len(pairs.query)),
        "proposal_object": _object_part(embedding, proposals.embedding, pairs),
    }


def _class_sum(look: Look, matches: Matches, config: LossConfig) -> Tensor:
    part = takes_part(look.masks.logits, look.frame.labelled, matches.label >= 0)
    part &= ~matches.excused  # a proposal may be a novel object: it is no negative
    return class_loss(look.logits, matches.label, part, config.class_gamma, config.alpha)
