"""F = proj(concat(F_lidar, F_clip)) [paper], with a learned stand-in where a voxel has no CLIP feature (ours)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ovps.model.layers import mlp


class Fusion(nn.Module):
    """LiDAR and CLIP features of each voxel to one feature."""

    def __init__(self, clip_dim: int, width: int) -> None:
        super().__init__()
        # The norm lifts CLIP's entries, about 1/sqrt(C), to the scale of the LiDAR features.
        self.clip = nn.Sequential(nn.LayerNorm(clip_dim), nn.Linear(clip_dim, width))
        self.no_clip = nn.Parameter(0.02 * torch.randn(width))
        self.proj = mlp(2 * width + 1, width, width)

    def forward(self, lidar: Tensor, clip: Tensor, valid: Tensor, rows: Tensor) -> Tensor:
        """Fuse lidar (V, D) and clip (V, C), read where it is valid alone, to (V, D).

        Args:
            valid: (V,) bool.
            rows: (n,) int64, the valid ones.
        """
        projected = self.clip(clip[rows])
        # index_put rather than torch.where: what lies in the invalid rows, even NaN, cannot reach a gradient
        filled = self.no_clip.to(projected.dtype).expand(len(lidar), -1).index_put((rows,), projected)
        return self.proj(torch.cat([lidar, filled, valid[:, None].to(lidar.dtype)], dim=1))


class LidarOnly(nn.Module):
    """The same projection without CLIP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = mlp(width, width, width)

    def forward(self, lidar: Tensor, clip: Tensor, valid: Tensor, rows: Tensor) -> Tensor:
        """Project lidar (V, D) to (V, D); the others are ignored."""
        return self.proj(lidar)
