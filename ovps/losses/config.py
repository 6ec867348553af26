"""Settings of the loss: its terms and their weights."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from ovps.losses.assignment import Costs
from ovps.losses.classes import Unlabelled
from ovps.model.clusters import ClusterConfig
from ovps.model.ground import GroundConfig
from ovps.model.masks import MaskForm

Term = Literal["object", "voxel", "coverage", "exclusion", "proposal"]

PARTS = (
    *("class", "mask_focal", "mask_dice", "exclusion", "position", "object", "voxel", "coverage"),
    *("proposal_focal", "proposal_dice", "proposal_object"),
)


class ProposalConfig(ClusterConfig, frozen=True, extra="forbid", allow_inf_nan=False):
    """Settings of label-free proposals: clusters of unlabelled voxels off the ground, regions of those at it.

    Attributes:
        at_ground: whether regions are proposed.
        ground: of the regions.
    """

    at_ground: bool = True
    ground: GroundConfig = GroundConfig()


class LossConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Terms, weights and choices of the loss. L_cls and L_mask are always there; the defaults are those of `ovps`.

    Attributes:
        terms: what a system adds to L_cls and L_mask, each with a weight of its own below:
            `object`: L_O [paper]; `voxel`: L_V [paper]; `coverage`: within L_V, some mask that answers for no base
            segment should claim each unlabelled voxel (ours); `exclusion`: the focal loss that keeps unmatched masks
            off voxels of base segments (ours): base classes are labelled exhaustively, so what no base segment is
            matched with has no business there; `proposal`: the same mask loss, and L_O, for the unmatched queries that
            fit proposals best: clusters of unlabelled voxels off the ground, which may be novel objects, and regions of
            those at it, which may be novel stuff (ours).
        class_weight, mask_weight: w_a, w_b; the mask loss is focal + 2 dice [P3Former].
        object_weight: w_l.
        voxel_weight: w_g. 0.3, with the coverage term, gave gradient ratios of 0.14 to 0.92 on the drive world
            (median 0.3; three runs; 2 at the first step).
        focal_weight, dice_weight: within the mask loss, and in the costs of matching.
        coverage_weight, exclusion_weight, proposal_weight: of our terms. The form `sigmoid_normalised` needs coverage:
            its weights say nothing of how full masks are.
        position_weight: of the dice loss of the position branch on its own [P3Former].
        class_gamma, mask_gamma, alpha: of the focal losses, and in the costs of matching.
        unlabelled: whether base masks count unlabelled voxels as outside them or not at all (ours).
        voxel_form: how the masks are normalised over queries in L_V (ours).
        voxel_layers: where L_V applies; `last` saves time.
        proposals: what is proposed.
    """

    terms: tuple[Term, ...] = ("object", "voxel", "coverage", "exclusion", "proposal")
    class_weight: float = Field(1.0, ge=0)
    mask_weight: float = Field(1.0, ge=0)
    object_weight: float = Field(1.0, ge=0)
    voxel_weight: float = Field(0.3, ge=0)
    focal_weight: float = Field(1.0, ge=0)
    dice_weight: float = Field(2.0, ge=0)
    coverage_weight: float = Field(1.0, ge=0)
    exclusion_weight: float = Field(1.0, ge=0)
    proposal_weight: float = Field(1.0, ge=0)
    position_weight: float = Field(0.2, ge=0)
    class_gamma: float = Field(4.0, ge=0)
    mask_gamma: float = Field(2.0, ge=0)
    alpha: float = Field(0.25, gt=0, lt=1)
    unlabelled: Unlabelled = "negative"
    voxel_form: MaskForm = "sigmoid"
    voxel_layers: Literal["all", "last"] = "all"
    proposals: ProposalConfig = ProposalConfig()

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        if len(set(self.terms)) < len(self.terms):
            raise ValueError(f"terms names one twice: {', '.join(self.terms)}")
        if "coverage" in self.terms and "voxel" not in self.terms:
            raise ValueError("terms: coverage is a part of voxel, and cannot be without it")
        return self

    def weight(self, term: Term) -> float:
        """The weight of a term, 0 where it is none of `terms`."""
        return getattr(self, f"{term}_weight") if term in self.terms else 0.0

    @property
    def costs(self) -> Costs:
        """Costs of matching: its own weights [P3Former], and the focal exponents of the loss."""
        return Costs(
            class_weight=1.0,
            focal_weight=self.focal_weight,
            dice_weight=self.dice_weight,
            class_gamma=self.class_gamma,
            mask_gamma=self.mask_gamma,
            alpha=self.alpha,
        )

    @property
    def part_weights(self) -> dict[str, float]:
        """Weight of each of PARTS in the total."""
        mask, objects, voxel, proposal = (
            self.mask_weight,
            self.weight("object"),
            self.weight("voxel"),
            self.weight("proposal"),
        )
        weights = {
            "class": self.class_weight,
            "mask_focal": mask * self.focal_weight,
            "mask_dice": mask * self.dice_weight,
            "exclusion": mask * self.weight("exclusion"),
            "position": mask * self.dice_weight * self.position_weight,
            "object": objects,
            "voxel": voxel,
            "coverage": voxel * self.weight("coverage"),
            "proposal_focal": proposal * mask * self.focal_weight,
            "proposal_dice": proposal * mask * self.dice_weight,
            "proposal_object": proposal * objects,
        }
        return {part: weights[part] for part in PARTS}
