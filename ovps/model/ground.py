"""Regions of the ground that look alike to CLIP, found without any label: where stuff of the ground may be (ours).

Clusters stand off the ground, so nothing would offer a mask to terrain or a pavement that nobody labelled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.spatial import cKDTree

from ovps.model.clusters import ClusterConfig, height_above_ground

_COMPARED = 1500  # voxels that are compared with each other, of a frame; the others follow the one most like them


class GroundConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Settings of regions of the ground.

    Attributes:
        radius: metres around a voxel over which features are averaged before they are compared.
        distance: cosine distance that parts two regions, the mean over all pairs of their voxels (average linkage).
        smallest: voxels that a region has at least.
    """

    radius: float = Field(1.5, gt=0)
    distance: float = Field(0.4, gt=0, lt=2)
    smallest: PositiveInt = 15


def ground_regions(
    position: NDArray[np.floating],
    clip: NDArray[np.floating],
    valid: NDArray[np.bool_],
    free: NDArray[np.bool_],
    standing: ClusterConfig,
    config: GroundConfig,
) -> NDArray[np.int64]:
    """Number the regions of free voxels at the ground that CLIP sees alike: (V,) from 0, -1 for none.

    A region need not hang together, as a class of stuff need not. What lies as near to a free voxel off the ground as
    voxels of one cluster do is the foot of something, and in no region.

    Args:
        position: (V, 3), metres, LiDAR frame.
        clip: (V, C), `F_clip`.
        valid: (V,) bool, where it exists.
        free: (V,) bool, voxels that may belong to a region; all of them tell where the ground is.
        standing: what is off the ground, and how near a foot is.
        config: see there.
    """
    result = np.full(len(position), -1)
    off = height_above_ground(position, standing.column) > standing.clearance
    rows = np.flatnonzero(free & valid & ~off)
    rows = rows[~_near(position[rows, :2], position[free & off, :2], standing)]
    if len(rows) < max(config.smallest, 2):
        return result
    region = _alike(_smoothed(position[rows], clip[rows], config.radius), config.distance)
    size = np.bincount(region)
    number = np.where(size >= config.smallest, np.cumsum(size >= config.smallest) - 1, -1)
    result[rows] = number[region]
    return result


def _near(plane: NDArray[np.floating], others: NDArray[np.floating], standing: ClusterConfig) -> NDArray[np.bool_]:
    """Which of `plane` (N, 2) lie within the gap of clusters of some of `others` (M, 2), metres, seen from above."""
    if not len(others):
        return np.zeros(len(plane), np.bool_)
    reach = np.maximum(standing.gap, standing.gap_per_metre * np.linalg.norm(plane, axis=1))
    return cKDTree(others).query(plane)[0] <= reach


def _smoothed(position: NDArray[np.floating], clip: NDArray[np.floating], radius: float) -> NDArray[np.floating]:
    """Unit means (N, C) of the unit features within a radius of each of N voxels."""
    near, far = cKDTree(position).query_pairs(radius, output_type="ndarray").T
    n = len(position)
    adjacent = coo_array((np.ones(len(near), np.float32), (near, far)), shape=(n, n)).tocsr()
    unit = _unit(clip)
    return _unit(unit + adjacent @ unit + adjacent.T @ unit)


def _alike(feature: NDArray[np.floating], distance: float) -> NDArray[np.int64]:
    """Regions (N,) from 0 of unit features (N, C), by average linkage of some of them."""
    some = feature[:: -(-len(feature) // _COMPARED)]
    region = fcluster(linkage(some, "average", metric="cosine"), distance, "distance") - 1
    return region[np.argmax(feature @ some.T, axis=1)].astype(np.int64)


def _unit(feature: NDArray[np.floating]) -> NDArray[np.floating]:
    return feature / np.maximum(np.linalg.norm(feature, axis=1, keepdims=True), 1e-9)
