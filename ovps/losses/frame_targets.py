"""The targets of one frame as every decoder layer is compared with them: made once a step, whatever the layers are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovps.losses.classes import Unlabelled, counted_voxels
from ovps.losses.mask_loss import Members
from ovps.losses.targets import Targets
from ovps.model.inputs import VoxelBatch


@dataclass(frozen=True)
class FrameTargets:
    """Places of the segments and proposals of a frame, on the device of its voxels.

    Attributes:
        targets: of the frame, V voxels.
        labelled: (V,) bool, voxels of a base segment.
        counted: (V,) bool, voxels that base masks are compared on.
        proposed: (V,) bool, voxels of a base segment or of a proposal.
        segments: the voxels of all base segments.
        things: of those that are things, T of them.
        thing: (T,) int64 on the CPU, their rows in `targets`.
        thing_class: (T,) int64, their base classes.
        clusters: of all proposals; None where there are none.
        proposal_valid: (P,) bool on the CPU, which proposals have a CLIP feature.
        clip_rows: (n,) int64, voxels with a CLIP feature.
        clip: (n, C), that feature.
        claimable: (k,) int64, those of them without a label.
    """

    targets: Targets
    labelled: Tensor
    counted: Tensor
    proposed: Tensor
    segments: Members
    things: Members
    thing: Tensor
    thing_class: Tensor
    clusters: Members | None
    proposal_valid: Tensor
    clip_rows: Tensor
    clip: Tensor
    claimable: Tensor

    @classmethod
    def of(cls, b: int, batch: VoxelBatch, targets: Targets, unlabelled: Unlabelled) -> FrameTargets:
        """Make them of frame number `b` of a batch."""
        voxel_segment, device = targets.voxel_segment, targets.voxel_segment.device
        labelled = proposed = voxel_segment >= 0
        segments = len(targets.segment_class)
        thing = targets.segment_is_thing.nonzero()[:, 0]
        clusters, valid = None, torch.zeros(0, dtype=torch.bool)
        if (found := targets.proposals) is not None and len(found.valid):
            valid, everyone = found.valid, torch.arange(len(found.valid), device=device)
            clusters = Members.of(everyone, found.voxel_proposal, len(everyone))
            proposed = labelled | (found.voxel_proposal >= 0)
        rows, clip_rows = batch.voxels_of(b), batch.clip_rows[b]
        return cls(
            targets=targets,
            labelled=labelled,
            counted=counted_voxels(labelled, unlabelled),
            proposed=proposed,
            segments=Members.of(torch.arange(segments, device=device), voxel_segment, segments),
            things=Members.of(thing.to(device), voxel_segment, segments),
            thing=thing,
            thing_class=targets.segment_class[thing].to(device),
            clusters=clusters,
            proposal_valid=valid,
            clip_rows=clip_rows,
            clip=batch.clip[rows][clip_rows],
            claimable=clip_rows[(~labelled[clip_rows]).nonzero()[:, 0]],
        )
