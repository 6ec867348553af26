"""Label-free proposals as targets: where training finds what may be objects of classes that it has no labels of."""

from __future__ import annotations

import torch
from torch import Tensor

from ovps.losses.targets import Proposals
from ovps.model.clusters import ClusterConfig, clusters
from ovps.model.inputs import VoxelBatch
from ovps.model.unclaimed import mean_features


def make_proposals(voxels: VoxelBatch, voxel_segment: Tensor, config: ClusterConfig) -> Proposals:
    """Cluster the unlabelled voxels off the ground, as inference does with unclaimed voxels.

    Args:
        voxels: one frame of V voxels.
        voxel_segment: (V,) int64, of the base segments, -1: unlabelled. Nothing else is known of any label.
        config: of the clusters, a setting of the loss: what was learned stays the same whatever an evaluation uses.
    """
    found = torch.from_numpy(clusters(voxels.position.numpy(), (voxel_segment < 0).numpy(), config))
    embedding, valid = mean_features(found, voxels.clip, voxels.clip_valid)
    return Proposals(found, embedding, valid)
