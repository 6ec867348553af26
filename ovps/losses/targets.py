"""What the losses compare with: the base segments of one frame, after novel labels have been hidden."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Targets:
    """Base segments of one frame. S segments, V voxels of this frame.

    Attributes:
        voxel_segment: (V,) int64, row of the voxel's segment, -1: unlabelled (novel, noise and ignored alike).
        segment_class: (S,) int64, position of the class in the list of base classes (vocabulary order).
        segment_is_thing: (S,) bool.
        object_embedding: (S, C) float32, mean CLIP feature over the segment's own points; zeros where not valid.
        object_valid: (S,) bool.
    """

    voxel_segment: Tensor
    segment_class: Tensor
    segment_is_thing: Tensor
    object_embedding: Tensor
    object_valid: Tensor

    def __post_init__(self) -> None:
        s = len(self.segment_class)
        if any(len(t) != s for t in (self.segment_is_thing, self.object_embedding, self.object_valid)):
            raise ValueError(f"targets: arrays of different lengths for {s} segments")
        if self.voxel_segment.numel() and int(self.voxel_segment.max()) >= s:
            raise ValueError(f"targets: a voxel belongs to segment {int(self.voxel_segment.max())} of {s}")

    def masks(self) -> Tensor:
        """(S, V) bool."""
        return (
            self.voxel_segment[None, :]
            == torch.arange(len(self.segment_class), device=self.voxel_segment.device)[:, None]
        )

    def to(self, device: torch.device | str) -> Targets:
        return Targets(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})
