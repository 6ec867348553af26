"""Label-free proposals: what stands on the ground and no segment claims, cluster by cluster (ours).

A class can only be recognised where something is segmented, and masks learned from base classes leave novel objects
out. The clusters use no label and no text; they are called by the text nearest to their mean CLIP feature. The same for
every system with queries, and a row of their own in its tables.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovps.model.classify import class_cosines
from ovps.model.panoptic import UNLABELLED, MergeConfig, Panoptic, components

COLUMN = 2.0  # side of the columns that the ground is sought in, metres
CLEARANCE = 0.3  # what is nearer to the lowest voxel around is ground, metres
SMALLEST = 4  # voxels of a cluster


def add_proposals(
    panoptic: Panoptic,
    clip: Tensor,
    valid: Tensor,
    text: Tensor,
    class_index: Tensor,
    is_thing: Tensor,
    position: Tensor,
    config: MergeConfig,
) -> Panoptic:
    """Give the clusters of unclaimed voxels off the ground a class, and an instance each if that is a thing.

    Clusters that no camera sees stay unlabelled.

    Args:
        panoptic: what the merge gave.
        clip: (V, C), `F_clip`.
        valid: (V,) bool, where it exists.
        text, class_index: see `ovps.model.classify`.
        is_thing, position, config: as in `ovps.model.panoptic.merge`.
    """
    free = (panoptic.voxel_class == UNLABELLED).cpu().numpy()
    found = clusters(position.cpu().numpy(), free, config)
    if found.max(initial=-1) < 0:
        return panoptic
    cluster = torch.from_numpy(found).to(clip.device)
    row = cluster.clamp(min=0)
    pooled, seen = mean_features(cluster, clip, valid)
    named = class_cosines(pooled, text, class_index, len(is_thing)).argmax(dim=1)
    named = torch.where(seen, named, UNLABELLED)
    new = (cluster >= 0) & (named[row] != UNLABELLED)
    instance = torch.where(is_thing[named[row].clamp(min=0)], row + 1 + panoptic.voxel_instance.max(), 0)
    return Panoptic(
        torch.where(new, named[row], panoptic.voxel_class),
        torch.where(new, instance, panoptic.voxel_instance),
        panoptic.voxel_query,
    )


def mean_features(cluster: Tensor, clip: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `F_clip` (K, C) over the valid voxels of each cluster, zeros where it has none; whether it has any (K,).

    Args:
        cluster: (V,) int64 in 0..K-1, -1: in none.
        clip: (V, C).
        valid: (V,) bool.
    """
    used = (cluster >= 0) & valid
    number = cluster[used]
    count = int(cluster.max()) + 1 if len(cluster) else 0
    total = clip.new_zeros(count, clip.shape[1]).index_add_(0, number, clip[used])
    size = torch.bincount(number, minlength=count)
    return total / size.clamp(min=1)[:, None], size > 0


def clusters(position: NDArray[np.floating], free: NDArray[np.bool_], config: MergeConfig) -> NDArray[np.int64]:
    """Cluster of each voxel (V,) from 0, -1 for none: the connected pieces of the free voxels off the ground.

    Args:
        position: (V, 3), metres, LiDAR frame.
        free: (V,) bool, voxels that no segment claims.
        config: gaps, the same that part the pieces of a thing.
    """
    result = np.full(len(position), -1)
    rows = np.flatnonzero(free & (height_above_ground(position) > CLEARANCE))
    if not len(rows):
        return result
    piece = components(position[rows], config)
    size = np.bincount(piece)
    number = np.where(size >= SMALLEST, np.cumsum(size >= SMALLEST) - 1, -1)
    result[rows] = number[piece]
    return result


def height_above_ground(position: NDArray[np.floating]) -> NDArray[np.floating]:
    """(V, 3) to (V,) metres above the lowest voxel of the column that it stands in."""
    cell = np.floor(position[:, :2] / COLUMN).astype(np.int64)
    _, column = np.unique(cell, axis=0, return_inverse=True)
    column = column.reshape(-1)
    lowest = np.full(column.max(initial=-1) + 1, np.inf)
    np.minimum.at(lowest, column, position[:, 2])
    return position[:, 2] - lowest[column]
