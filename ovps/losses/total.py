"""L = w_a L_cls + w_b L_mask + w_l L_O + w_g L_V, at every decoder layer [paper]."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ovps.losses.config import PARTS, LossConfig
from ovps.losses.frame_loss import frame_parts, look_at
from ovps.losses.frame_targets import FrameTargets
from ovps.losses.matching import Look, match
from ovps.losses.targets import Targets
from ovps.model.class_text import ClassText
from ovps.model.inputs import LayerOutput, VoxelBatch

BY_VOXELS = [PARTS.index(part) for part in ("voxel", "coverage")]  # what L_V is made of
SUPERVISED = [number for number in range(len(PARTS)) if number not in BY_VOXELS]

# (class embedding (..., C), E classes) -> logits (..., E); `Network.class_logits`
Classify = Callable[[Tensor, ClassText], Tensor]


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


def loss_terms(
    outputs: list[LayerOutput],
    batch: VoxelBatch,
    targets: list[Targets],
    classify: Classify,
    base: ClassText,
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
        mean_l1: see `ovps.batch.statistics.ClipStatistics`; 1.0 leaves L_V in plain units.
        config: weights.
        reduce: over processes: takes the counts and returns their mean over processes (gradients are averaged too).
    """
    frames = [FrameTargets.of(b, batch, t, config.unlabelled) for b, t in enumerate(targets)]
    looks: list[Look] = []
    for output in outputs:
        logits = classify(output.class_embedding, base)
        looks += [look_at(output, logits[b], b, frame, config) for b, frame in enumerate(frames)]
    matches = match(looks, base.stuff, config.costs)

    sums, counts = [], []
    for number, output in enumerate(outputs):
        last = number == len(outputs) - 1
        with_voxels = config.weight("voxel") > 0 and (last or config.voxel_layers == "all")
        found = [
            frame_parts(output, b, looks[i], matches[i], config, with_voxels)
            for b, i in enumerate(range(number * len(frames), (number + 1) * len(frames)))
        ]
        sums.append(torch.stack([torch.stack([parts[part].sum for part in PARTS]) for parts in found]).sum(dim=0))
        counts.append([sum(parts[part].count for parts in found) for part in PARTS])
    # a part that was not computed has neither sum nor count
    parts = torch.stack(sums) / reduce(sums[0].new_tensor(counts)).clamp(min=1e-6)
    parts = parts * parts.new_tensor([1 / mean_l1 if part == "voxel" else 1.0 for part in PARTS])
    weighted = (parts * parts.new_tensor([config.part_weights[part] for part in PARTS])).sum(dim=0)
    of_last_layer = {f"last/{part}": value for part, value in zip(PARTS, parts[-1].detach(), strict=True)}
    supervised, voxel = (weighted[torch.tensor(rows, device=weighted.device)].sum() for rows in (SUPERVISED, BY_VOXELS))
    return LossTerms(supervised, voxel, of_last_layer)


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
