"""Targets of the losses: the base segments of one frame, after novel labels have been hidden."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Proposals:
    """Places where objects without a label may be, found without any: P clusters of unlabelled voxels of one frame.

    Attributes:
        voxel_proposal: (V,) int64, row of the voxel's cluster, -1: in none.
        embedding: (P, C) float32, mean `F_clip` over the cluster's valid voxels; zeros where not valid.
        valid: (P,) bool.
    """

    voxel_proposal: Tensor
    embedding: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        p = len(self.embedding)
        if len(self.valid) != p or (self.voxel_proposal.numel() and int(self.voxel_proposal.max()) >= p):
            raise ValueError(f"proposals: arrays that do not fit {p} clusters")

    def to(self, device: torch.device | str) -> Proposals:
        return Proposals(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


def no_segments(voxels: int, clip_dim: int) -> Targets:
    """Targets of a frame of V voxels in which nothing is labelled."""
    nothing = torch.zeros(0, dtype=torch.int64)
    everywhere = torch.full((voxels,), -1, dtype=torch.int64)
    return Targets(everywhere, nothing, nothing.bool(), torch.zeros(0, clip_dim), nothing.bool())


@dataclass
class Targets:
    """Base segments of one frame. S segments, V voxels of this frame.

    Attributes:
        voxel_segment: (V,) int64, row of the voxel's segment, -1: unlabelled (novel, noise and ignored alike).
        segment_class: (S,) int64, position of the class in the list of base classes (vocabulary order).
        segment_is_thing: (S,) bool.
        object_embedding: (S, C) float32, mean CLIP feature over the segment's own points; zeros where not valid.
        object_valid: (S,) bool.
        proposals: what may be objects among the unlabelled voxels; None: not asked for.
    """

    voxel_segment: Tensor
    segment_class: Tensor
    segment_is_thing: Tensor
    object_embedding: Tensor
    object_valid: Tensor
    proposals: Proposals | None = None

    def __post_init__(self) -> None:
        s = len(self.segment_class)
        if any(len(t) != s for t in (self.segment_is_thing, self.object_embedding, self.object_valid)):
            raise ValueError(f"targets: arrays of different lengths for {s} segments")
        if self.voxel_segment.numel() and int(self.voxel_segment.max()) >= s:
            raise ValueError(f"targets: a voxel belongs to segment {int(self.voxel_segment.max())} of {s}")

    def to(self, device: torch.device | str) -> Targets:
        tensors = [f.name for f in fields(self) if f.name != "proposals"]
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in tensors}
        return Targets(**moved, proposals=self.proposals and self.proposals.to(device))
