"""L = w_a L_cls + w_b L_mask + w_l L_O + w_g L_V, at every decoder layer [paper]."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ovps.losses.assignment import Assignment, Costs, assign, assign_proposals
from ovps.losses.base import BaseClasses
from ovps.losses.distillation import coverage_loss, object_loss, voxel_loss
from ovps.losses.panoptic import (
    Unlabelled,
    class_loss,
    exclusion_loss,
    mask_dice,
    mask_focal,
    takes_part,
    voxel_weight,
)
from ovps.losses.targets import Targets
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.masks import MaskForm

# (class embedding (..., C), text (T, C), class index (T,), classes E) -> logits (..., E); `Network.class_logits`
Classify = Callable[[Tensor, Tensor, Tensor, int], Tensor]

PARTS = (
    *("class", "mask_focal", "mask_dice", "exclusion", "position", "object", "voxel", "coverage"),
    *("proposal_focal", "proposal_dice", "proposal_object"),
)


class LossConfig(BaseModel):
    """Weights and choices of the loss.

    Attributes:
        class_weight, mask_weight: w_a, w_b; the mask loss is focal + 2 dice [P3Former].
        object_weight: w_l; 0 switches L_O off.
        voxel_weight: w_g; 0 switches L_V off. 0.3, with the coverage term, gave gradient ratios of 0.2 to 1.0 on the
            drive world (median 0.5).
        position_weight: of the dice loss of the position branch on its own [P3Former].
        unlabelled: whether base masks count unlabelled voxels as outside them or not at all (ours).
        voxel_form: how the masks are normalised over queries in L_V (ours).
        coverage_weight: within L_V, of the term that some unmatched mask should claim each unlabelled voxel (ours); 0
            switches it off. The form `sigmoid_normalised` needs it: its weights say nothing of how full masks are.
        exclusion_weight: of the focal loss that keeps unmatched masks off voxels of base segments (ours). Base classes
            are labelled exhaustively: what no base segment is matched with has no business there.
        proposal_weight: of the same mask loss, and of L_O, for the unmatched queries that fit proposals best: clusters
            of unlabelled voxels off the ground, which may be novel objects (ours). 0 switches it off.
        voxel_layers: where L_V applies; `last` saves time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_weight: float = Field(1.0, ge=0)
    mask_weight: float = Field(1.0, ge=0)
    object_weight: float = Field(1.0, ge=0)
    voxel_weight: float = Field(0.3, ge=0)
    focal_weight: float = Field(1.0, ge=0)
    exclusion_weight: float = Field(0.0, ge=0)
    dice_weight: float = Field(2.0, ge=0)
    position_weight: float = Field(0.2, ge=0)
    coverage_weight: float = Field(0.0, ge=0)
    proposal_weight: float = Field(0.0, ge=0)
    class_gamma: float = Field(4.0, ge=0)
    mask_gamma: float = Field(2.0, ge=0)
    alpha: float = Field(0.25, gt=0, lt=1)
    unlabelled: Unlabelled = "negative"
    voxel_form: MaskForm = "sigmoid"
    voxel_layers: Literal["all", "last"] = "all"

    @property
    def costs(self) -> Costs:
        return Costs(1.0, self.focal_weight, self.dice_weight, self.class_gamma, self.mask_gamma, self.alpha)

    @property
    def part_weights(self) -> dict[str, float]:
        """Weight of each of PARTS in the total."""
        mask, voxel = self.mask_weight, self.voxel_weight
        proposal = self.proposal_weight
        weights = (
            self.class_weight,
            mask * self.focal_weight,
            mask * self.dice_weight,
            mask * self.exclusion_weight,
            mask * self.dice_weight * self.position_weight,
            self.object_weight,
            voxel,
            voxel * self.coverage_weight,
            proposal * mask * self.focal_weight,
            proposal * mask * self.dice_weight,
            proposal * self.object_weight,
        )
        return dict(zip(PARTS, weights, strict=True))


@dataclass
class LossTerms:
    """The loss in pieces that still carry gradients.

    Attributes:
        supervised: everything but L_V, weighted, summed over layers.
        voxel: w_g L_V, weighted, summed over layers.
        parts: detached scalars to log, unweighted.
    """

    supervised: Tensor
    voxel: Tensor
    parts: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        return self.supervised + self.voxel

    def log(self) -> dict[str, Tensor]:
        """Detached scalars: the parts, and the weighted sums."""
        sums = {"supervised": self.supervised.detach(), "voxel": self.voxel.detach(), "total": self.total.detach()}
        return self.parts | sums


def total_loss(
    outputs: list[LayerOutput],
    batch: VoxelBatch,
    targets: list[Targets],
    classify: Classify,
    base: BaseClasses,
    mean_l1: float,
    config: LossConfig,
    reduce: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The scalar to differentiate, and what to log. Arguments as in `loss_terms`."""
    terms = loss_terms(outputs, batch, targets, classify, base, mean_l1, config, reduce)
    return terms.total, terms.log()


def loss_terms(
    outputs: list[LayerOutput],
    batch: VoxelBatch,
    targets: list[Targets],
    classify: Classify,
    base: BaseClasses,
    mean_l1: float,
    config: LossConfig,
    reduce: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> LossTerms:
    """Every layer is matched anew and adds its whole loss [P3Former: the sum, not the mean, over layers].

    Each part is a sum over the batch divided by a count over the batch, so that a batch of two frames is one loss
    and not the mean of two: classes and masks by matched segments, exclusion by frames, L_O by matched segments with a
    CLIP feature, L_V by valid voxels and by `mean_l1`, coverage by the valid voxels that are unlabelled, what is asked
    of proposals by matched proposals. Call it outside autocast.

    Args:
        outputs: of the network, L + 1 of them.
        batch: its input.
        targets: B of them.
        classify: the network's class head.
        base: the base classes.
        mean_l1: see `ovps.losses.distillation.mean_l1`; 1.0 leaves L_V in plain units.
        config: weights.
        reduce: over processes: takes the counts and returns their mean over processes (gradients are averaged too).
    """
    sums, counts = [], []
    for number, output in enumerate(outputs):
        last = number == len(outputs) - 1
        with_voxels = config.voxel_weight > 0 and (last or config.voxel_layers == "all")
        logits = classify(output.class_embedding, base.text, base.class_index, len(base))
        frames = [
            _frame(output, logits[b], b, batch, targets[b], base, config, with_voxels) for b in range(len(targets))
        ]
        sums.append(torch.stack([s for s, _ in frames]).sum(dim=0))
        counts.append(torch.stack([c for _, c in frames]).sum(dim=0))
    # a part that was not computed has neither sum nor count
    parts = torch.stack(sums) / reduce(torch.stack(counts)).clamp(min=1e-6)
    parts = parts * parts.new_tensor([1 / mean_l1 if part == "voxel" else 1.0 for part in PARTS])
    weighted = (parts * parts.new_tensor([config.part_weights[part] for part in PARTS])).sum(dim=0)
    by_voxels = torch.tensor([part in ("voxel", "coverage") for part in PARTS], device=parts.device)
    of_last_layer = {f"last/{part}": value for part, value in zip(PARTS, parts[-1].detach(), strict=True)}
    return LossTerms(weighted[~by_voxels].sum(), weighted[by_voxels].sum(), of_last_layer)


def gradient_ratio(
    terms: LossTerms, parameters: Iterable[Tensor], reduce: Callable[[Tensor], Tensor] = lambda gradient: gradient
) -> float:
    """Norm of the gradient of w_g L_V over the norm of the rest's, on shared parameters; aim at 0.1 to 0.5.

    Measure it early: near an optimum the two gradients cancel and the ratio tends to 1 whatever the weight.
    Keeps the graph, for the backward pass that follows. Costs two backward passes: once in a while is enough.
    `reduce` takes each gradient to its mean over processes.
    """
    shared = [p for p in parameters if p.requires_grad]
    norms = []
    for term in (terms.voxel, terms.supervised):
        if not term.requires_grad:
            norms.append(0.0)
            continue
        gradients = torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True)
        norms.append(float(torch.stack([reduce(g).norm() for g in gradients if g is not None]).norm()))
    return norms[0] / max(norms[1], 1e-12)


def _frame(
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
