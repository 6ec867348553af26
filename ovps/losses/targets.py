"""Targets of the losses: the base segments of one frame, after novel labels have been hidden."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass
class Proposals:
    """Places where objects without a label may be, found without any: P clusters of unlabelled voxels of one frame.

    Attributes:
        voxel_proposal: (V,) int64, row of the voxel's cluster, -1: in none.
        embedding: (P, C) float32, mean `F_clip` over the cluster's valid voxels; zeros where not valid.
        valid: (P,) bool, on the CPU wherever the rest is, as `Targets.object_valid`.
    """

    voxel_proposal: Tensor
    embedding: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        p = len(self.embedding)
        if len(self.valid) != p or (self.voxel_proposal.numel() and int(self.voxel_proposal.max()) >= p):
            raise ValueError(f"proposals: arrays that do not fit {p} clusters")

    def to(self, device: torch.device | str) -> Proposals:
        return _moved(self, device, ("voxel_proposal", "embedding"))


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
        segment_class: (S,) int64, position of the class in the list of base classes (vocabulary order). On the CPU
            wherever the rest is, like the two below: matching, which happens there, asks for them.
        segment_is_thing: (S,) bool, on the CPU.
        object_embedding: (S, C) float32, mean CLIP feature over the segment's own points; zeros where not valid.
        object_valid: (S,) bool, on the CPU.
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
        moved = _moved(self, device, ("voxel_segment", "object_embedding"))
        moved.proposals = self.proposals and self.proposals.to(device)
        return moved


def _moved(value: T, device: torch.device | str, names: tuple[str, ...]) -> T:
    """A copy with these tensors on the device; it is not checked again, which would make the host wait."""
    moved = copy(value)
    for name in names:
        setattr(moved, name, getattr(value, name).to(device, non_blocking=True))
    return moved
