"""Inputs and outputs of the network: plain tensors, frames of a batch concatenated."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass
class VoxelBatch:
    """B frames as voxels. V is the number of voxels of all frames, P of all points.

    Attributes:
        coords: (V, 4) int32, frame number in the batch and grid index; frames in order.
        features: (V, D_in) float32, hand-made inputs of the LiDAR encoder (see `ovps.batch.sample`).
        position: (V, 3) float32, mean of the voxel's points, earlier sweeps' too, metres, LiDAR frame.
        clip: (V, C) float32, `F_clip`; zeros where not valid.
        clip_valid: (V,) bool.
        voxel_offsets: (B + 1,) int64, on the CPU wherever the rest is: they are read as numbers.
        point_voxel: (P,) int64, row of each point's voxel in `coords`.
        point_offsets: (B + 1,) int64, on the CPU too.
        cluster: (V,) int64, the voxel's label-free cluster in its frame, the largest is 0, -1: in none; None: the
            network asks for none.
    """

    coords: Tensor
    features: Tensor
    position: Tensor
    clip: Tensor
    clip_valid: Tensor
    voxel_offsets: Tensor
    point_voxel: Tensor
    point_offsets: Tensor
    cluster: Tensor | None = None

    def __post_init__(self) -> None:
        v = len(self.coords)
        shapes = {
            "features": self.features,
            "position": self.position,
            "clip": self.clip,
            "clip_valid": self.clip_valid,
            "cluster": self.cluster,
        }
        wrong = [name for name, tensor in shapes.items() if tensor is not None and len(tensor) != v]
        if wrong or self.coords.shape[1:] != (4,) or int(self.voxel_offsets[-1]) != v:
            raise ValueError(f"voxel batch: {wrong or 'coords or offsets'} do not fit {v} voxels")

    @property
    def frames(self) -> int:
        return len(self.voxel_offsets) - 1

    def voxels_of(self, frame: int) -> slice:
        return slice(int(self.voxel_offsets[frame]), int(self.voxel_offsets[frame + 1]))

    def points_of(self, frame: int) -> slice:
        return slice(int(self.point_offsets[frame]), int(self.point_offsets[frame + 1]))

    @cached_property
    def clip_rows(self) -> list[Tensor]:
        """The voxels of each frame that have a CLIP feature, B x (n_b,) int64, counted within the frame.

        The first who asks makes the host wait for a GPU: `to` asks where the voxels still are on the CPU.
        """
        return [self.clip_valid[self.voxels_of(b)].nonzero()[:, 0] for b in range(self.frames)]

    def to(self, device: torch.device | str) -> VoxelBatch:
        stay = ("voxel_offsets", "point_offsets")
        there = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in stay}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in there.items() if tensor is not None}
        result = replace(self, **moved)
        result.clip_rows = [rows.to(device, non_blocking=True) for rows in self.clip_rows]
        return result


@dataclass
class LayerOutput:
    """The output of the queries after one decoder layer (layer 0: before the first).

    Attributes:
        class_embedding: (B, Q, C) float32, in CLIP space, L2-normalised.
        mask_logits: B tensors (Q, V_b) float32.
        position_logits: the same from the position branch alone, which has a loss of its own; None without it.
    """

    class_embedding: Tensor
    mask_logits: list[Tensor]
    position_logits: list[Tensor] | None = None
