"""Label-free proposals as targets: where training finds what may be of classes that it has no labels of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ovps.losses.config import ProposalConfig
from ovps.losses.targets import Proposals
from ovps.model.clusters import clusters
from ovps.model.ground import ground_regions
from ovps.model.inputs import VoxelBatch
from ovps.model.unclaimed import mean_features


def make_proposals(voxels: VoxelBatch, voxel_segment: Tensor, config: ProposalConfig) -> Proposals:
    """Cluster the unlabelled voxels off the ground, as inference does with unclaimed voxels, and those at the ground.

    Args:
        voxels: one frame of V voxels.
        voxel_segment: (V,) int64, of the base segments, -1: unlabelled. Nothing else is known of any label.
        config: a setting of the loss: what was learned stays the same whatever an evaluation uses.
    """
    position, free = voxels.position.numpy(), (voxel_segment < 0).numpy()
    found = clusters(position, free, config)
    if config.at_ground:
        clip, valid = voxels.clip.numpy(), voxels.clip_valid.numpy()
        region = ground_regions(position, clip, valid, free, config, config.ground)
        found = np.where(region >= 0, region + found.max(initial=-1) + 1, found)
    proposal = torch.from_numpy(found)
    return Proposals(proposal, *mean_features(proposal, voxels.clip, voxels.clip_valid))
