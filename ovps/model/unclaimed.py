"""Label-free proposals: what stands on the ground and no segment claims, cluster by cluster (ours).

A class can only be recognised where something is segmented, and masks learned from base classes leave novel objects
out. The clusters use no label and no text; they are called by the text nearest to their mean CLIP feature. The same for
every system with queries, and a row of their own in its tables.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ovps.entries import NO_ENTRY
from ovps.model.class_text import ClassText
from ovps.model.classify import class_cosines
from ovps.model.clusters import ClusterConfig, clusters
from ovps.model.panoptic import Panoptic


def add_proposals(
    panoptic: Panoptic,
    clip: Tensor,
    valid: Tensor,
    classes: ClassText,
    position: Tensor,
    config: ClusterConfig,
) -> Panoptic:
    """Give the clusters of unclaimed voxels off the ground a class, and an instance each if that is a thing.

    Clusters that no camera sees stay unlabelled.

    Args:
        panoptic: what the merge gave.
        clip: (V, C), `F_clip`.
        valid: (V,) bool, where it exists.
        classes: to choose from.
        position: (V, 3), metres, LiDAR frame.
        config: of the clusters.
    """
    free = (panoptic.voxel_class == NO_ENTRY).cpu().numpy()
    found = clusters(position.cpu().numpy(), free, config)
    if found.max(initial=-1) < 0:
        return panoptic
    cluster = torch.from_numpy(found).to(clip.device)
    row = cluster.clamp(min=0)
    pooled, seen = mean_features(cluster, clip, valid)
    named = class_cosines(pooled, classes).argmax(dim=1)
    named = torch.where(seen, named, NO_ENTRY)
    new = (cluster >= 0) & (named[row] != NO_ENTRY)
    instance = torch.where(classes.is_thing[named[row].clamp(min=0)], row + 1 + panoptic.voxel_instance.max(), 0)
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
