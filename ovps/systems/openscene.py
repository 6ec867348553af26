"""`openscene`: every voxel learns its own CLIP feature; classes come from the nearest text, instances from clustering.

ovps train --cache ./zarr --system openscene --out runs/openscene

Distillation with a cosine loss and the 2D-3D ensemble are OpenScene's [Peng et al. 2023]; no label is used. It has
no instances: voxels of one thing class are clustered as the pieces of a split thing are in every other system.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovps.model.classify import class_cosines
from ovps.model.config import ModelConfig
from ovps.model.encoder import SparseUNet
from ovps.model.inputs import VoxelBatch
from ovps.model.layers import mlp
from ovps.model.panoptic import NO_ENTRY, MergeConfig, Panoptic, fill_uncovered


class VoxelNetwork(nn.Module):
    """LiDAR voxels to points in CLIP space."""

    def __init__(self, config: ModelConfig, input_dim: int, clip_dim: int) -> None:
        super().__init__()
        self.encoder = SparseUNet(config.encoder, input_dim, config.width)
        self.out = mlp(config.width, config.width, clip_dim)

    def forward(self, batch: VoxelBatch) -> Tensor:
        """(V, C) float32, any length."""
        return self.out(self.encoder(batch.coords, batch.features)).float()


def distillation_loss(
    features: Tensor,
    clip: Tensor,
    valid: Tensor,
    reduce: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Tensor:
    """1 - cos, averaged over the voxels that have a CLIP feature, ().

    Args:
        features, clip: (V, C).
        valid: (V,) bool.
        reduce: over processes, as in `ovps.losses.total.loss_terms`.
    """
    distance = 1 - F.cosine_similarity(features[valid], clip[valid], dim=1)
    # without any such voxel there is no sum either
    return distance.sum() / reduce(valid.sum().to(distance.dtype)).clamp(min=1e-6)


def ensemble_features(features: Tensor, batch: VoxelBatch, text: Tensor, class_index: Tensor, classes: int) -> Tensor:
    """2D-3D ensemble: of its own feature and F_clip a voxel keeps the one that is nearer to some text, (V, C)."""
    own = class_cosines(features, text, class_index, classes).amax(dim=1)
    clip = class_cosines(batch.clip, text, class_index, classes).amax(dim=1)
    return torch.where((batch.clip_valid & (clip > own))[:, None], batch.clip, features)


def segment(
    features: Tensor, batch: VoxelBatch, text: Tensor, class_index: Tensor, is_thing: Tensor, config: MergeConfig
) -> Panoptic:
    """Each voxel takes the nearest text; things are the connected pieces of a class. Arguments as `fill_uncovered`."""
    chosen = ensemble_features(features, batch, text, class_index, len(is_thing))
    nobody = torch.full((len(features),), NO_ENTRY, dtype=torch.int64, device=features.device)
    empty = Panoptic(nobody, torch.zeros_like(nobody), nobody)
    everywhere = torch.ones_like(nobody, dtype=torch.bool)
    return fill_uncovered(empty, chosen, everywhere, text, class_index, is_thing, batch.position, config)
