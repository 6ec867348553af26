"""L_O and L_V: the queries learn CLIP's features of objects and of voxels [paper]. Sums; `total` divides."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def object_loss(class_embedding: Tensor, object_embedding: Tensor) -> Tensor:
    """1 - cos summed over matched segments that have a CLIP feature, ().

    Args:
        class_embedding: (M, C), of the matched queries.
        object_embedding: (M, C), of their segments.
    """
    return (1 - F.cosine_similarity(class_embedding, object_embedding, dim=1)).sum()


def voxel_loss(weights: Tensor, class_embedding: Tensor, clip: Tensor, rows: Tensor) -> Tensor:
    """L1 between reconstructed and cached CLIP features, summed over channels and valid voxels, ().

    F_clip's rows are at most 1 long (means of unit vectors) and E's rows are 1 long, so a voxel with one full mask is
    reconstructed at about the right length; overlapping sigmoid masks overshoot, which this loss itself pulls down.

    Args:
        weights: (Q, V), M of the paper: see `ovps.model.masks.mixture`.
        class_embedding: (Q, C), L2-normalised.
        clip: (n, C), of the valid voxels.
        rows: (n,) int64, which voxels are.
    """
    return ((weights.T @ class_embedding)[rows] - clip).abs().sum()


def coverage_loss(probability: Tensor, free: Tensor, claimable: Tensor) -> Tensor:
    """1 - the largest probability of a free mask, summed over voxels, (): one of them should claim each voxel.

    Ours: a plain sigmoid's share in the gradient of L_V vanishes where every mask is empty.

    Args:
        probability: (Q, V).
        free: (F,) int64, masks that answer for no base segment.
        claimable: (n,) int64.
    """
    masks = probability[:, claimable][free]
    return (1 - masks.amax(dim=0)).sum() if len(masks) else probability.new_zeros(())
