"""What the loss consists of, and how much of each."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ovps.losses.assignment import Costs
from ovps.losses.classes import Unlabelled
from ovps.model.masks import MaskForm

PARTS = (
    *("class", "mask_focal", "mask_dice", "exclusion", "position", "object", "voxel", "coverage"),
    *("proposal_focal", "proposal_dice", "proposal_object"),
)


class LossConfig(BaseModel):
    """Weights and choices of the loss.

    Attributes:
        class_weight, mask_weight: w_a, w_b; the mask loss is focal + 2 dice [P3Former].
        object_weight: w_l; 0 switches L_O off.
        voxel_weight: w_g; 0 switches L_V off. 0.3, with the coverage term, gave gradient ratios of 0.14 to 0.92 on
            the drive world (median 0.3; three runs; 2 at the first step).
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

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
