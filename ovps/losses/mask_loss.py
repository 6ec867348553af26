"""L_mask: focal and dice losses of masks against segments. All return sums; `total` divides by the matched segments.

Two facts save most of the work. Every loss needs the same few functions of each logit, so `Masks` computes them once
for all queries. And a voxel lies in at most one segment: what a mask costs is what it would cost if everything were
outside its segment, corrected on the voxels of that segment alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# mmdet's DiceLoss, as P3Former uses it
_DICE_EPS = 1e-3


def focal(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Sigmoid focal loss, element by element [Lin et al. 2017]. logits, target bool -> same shape.

    With s the logit of being wrong: alpha_t sigmoid(s)^gamma softplus(s).
    """
    wrong = torch.where(target, -logits, logits)
    weight = torch.where(target, alpha, 1 - alpha).to(logits.dtype)
    return weight * _power(wrong.sigmoid(), gamma) * F.softplus(wrong)


def _power(x: Tensor, gamma: float) -> Tensor:
    # a product's gradient costs a quarter of a power's
    return x * x if gamma == 2 else x**gamma


@dataclass(frozen=True)
class Totals:
    """Sums of each of Q masks over one set of voxels.

    Attributes:
        outside: (Q,) focal loss if every voxel should be outside.
        square: (Q,) sum of squared probabilities.
        area: (Q,) sum of probabilities, without gradient.
        size: () number of voxels, at least 1.
    """

    outside: Tensor
    square: Tensor
    area: Tensor
    size: Tensor


@dataclass(frozen=True)
class Masks:
    """The masks of one frame at one layer, and what their losses are made of.

    Attributes:
        logits, probability: (Q, V).
        outside: (Q, V) focal loss of a voxel that should be outside the mask.
        gamma, alpha: of the focal loss.
    """

    logits: Tensor
    probability: Tensor
    outside: Tensor
    gamma: float
    alpha: float

    @classmethod
    def of(cls, logits: Tensor, gamma: float, alpha: float) -> Masks:
        probability = logits.sigmoid()
        return cls(logits, probability, (1 - alpha) * _power(probability, gamma) * F.softplus(logits), gamma, alpha)

    def totals(self, *voxels: Tensor) -> list[Totals]:
        """Sum over each of some sets of voxels, (V,) bool."""
        sets = torch.stack(voxels, dim=1)
        chosen = sets.to(self.logits.dtype)
        outside, square = self.outside @ chosen, (self.probability * self.probability) @ chosen
        area, size = self.probability.detach() @ chosen, sets.sum(dim=0).clamp(min=1)
        return [Totals(*columns) for columns in zip(outside.T, square.T, area.T, size, strict=True)]

    def at(self, query: Tensor, voxel: Tensor) -> Masks:
        """Take these masks at these voxels, index arrays that broadcast."""
        return Masks.of(self.logits[query, voxel], self.gamma, self.alpha)

    @property
    def if_inside(self) -> Tensor:
        """Change of the focal loss of each entry if it should be inside its mask."""
        true = torch.ones((), dtype=torch.bool, device=self.logits.device)
        return focal(self.logits, true, self.gamma, self.alpha) - self.outside


@dataclass(frozen=True)
class Members:
    """The voxels of M chosen segments.

    Attributes:
        voxel: (N,) int64.
        row: (N,) int64, which of the M each belongs to.
        size: (M,) int64, how many each has.
    """

    voxel: Tensor
    row: Tensor
    size: Tensor

    @classmethod
    def of(cls, chosen: Tensor, voxel_segment: Tensor, segments: int) -> Members:
        """Make them of `chosen` (M,), no segment twice, and `voxel_segment` (V,) in -1..segments-1, -1: in none."""
        # the last entry is where -1 points
        row_of = torch.full((segments + 1,), -1, dtype=torch.int64, device=chosen.device)
        row_of[chosen] = torch.arange(len(chosen), device=chosen.device)
        row = row_of[voxel_segment]
        voxel = (row >= 0).nonzero()[:, 0]
        row = row[voxel]
        size = torch.zeros_like(chosen).index_add(0, row, torch.ones_like(row))
        return cls(voxel, row, size)

    def only(self, chosen: Tensor, everyone: bool) -> Members:
        """Take the voxels of `chosen` (M',) of the M segments alone, none of them twice.

        `everyone`: whether they are all of them, in any order; who knows saves the device the search.
        """
        row_of = torch.full_like(self.size, -1)
        row_of[chosen] = torch.arange(len(chosen), device=chosen.device)
        row, voxel = row_of[self.row], self.voxel
        if not everyone:
            kept = (row >= 0).nonzero()[:, 0]
            row, voxel = row[kept], voxel[kept]
        return Members(voxel, row, self.size[chosen])


def mask_losses(masks: Masks, totals: Totals, query: Tensor, segments: Members) -> tuple[Tensor, Tensor]:
    """Compare M masks with M segments: focal loss averaged over voxels, and dice, each summed over masks, () and ().

    Args:
        masks: Q masks.
        totals: over the voxels that count; all segments lie within.
        query: (M,) int64, which mask answers for which segment.
    """
    inside = masks.at(query[segments.row], segments.voxel)
    focal_sum = (totals.outside[query].sum() + inside.if_inside.sum()) / totals.size
    return focal_sum, dice_loss(inside.probability, totals.square[query], segments)


def dice_loss(inside: Tensor, square: Tensor, segments: Members) -> Tensor:
    """Dice loss with squared denominators [Milletari et al. 2016], summed over M masks, ().

    Args:
        inside: (N,) probability of each voxel of the segments in the mask that answers for it.
        square: (M,) sums of squared probabilities over all voxels that count.
    """
    overlap = torch.zeros_like(square).index_add(0, segments.row, inside)
    return (1 - 2 * overlap / (square + segments.size + 2 * _DICE_EPS)).sum()


def exclusion_loss(totals: Totals, unmatched: Tensor) -> Tensor:
    """Focal loss of the masks that answer for no segment on the voxels that have one, averaged over those, summed, ().

    Ours: a voxel of a base segment belongs to no other mask, because base classes are labelled exhaustively.

    Args:
        totals: over the voxels of base segments.
        unmatched: (U,) int64.
    """
    return totals.outside[unmatched].sum() / totals.size
