"""Clusters of what stands on the ground, found without any label: where objects may be (ours).

Queries start from them (`ovps.model.queries`), training makes targets of them (`ovps.batch.proposals`), inference
further segments (`ovps.model.unclaimed`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


class ClusterConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Settings of clusters: what is off the ground, and what parts one from another.

    Attributes:
        gap: metres that part two clusters, seen from above.
        gap_per_metre: the gap also grows with the distance from the sensor, see `components`; 0: `gap` everywhere.
        column: side of the square columns that the ground is sought in, metres.
        clearance: what is nearer to the lowest voxel of its column is ground, metres.
        smallest: voxels that a cluster has at least.
    """

    gap: float = Field(0.5, gt=0)
    gap_per_metre: float = Field(0.02, ge=0)
    column: float = Field(2.0, gt=0)
    clearance: float = Field(0.3, ge=0)
    smallest: PositiveInt = 4


def clusters(position: NDArray[np.floating], free: NDArray[np.bool_], config: ClusterConfig) -> NDArray[np.int64]:
    """Number the connected pieces of the free voxels off the ground: cluster of each voxel (V,) from 0, -1 for none.

    Args:
        position: (V, 3), metres, LiDAR frame.
        free: (V,) bool, voxels that may belong to a cluster; all of them tell where the ground is.
        config: see there.
    """
    result = np.full(len(position), -1)
    rows = np.flatnonzero(free & (height_above_ground(position, config.column) > config.clearance))
    if not len(rows):
        return result
    piece = components(position[rows], config.gap, config.gap_per_metre)
    size = np.bincount(piece)
    number = np.where(size >= config.smallest, np.cumsum(size >= config.smallest) - 1, -1)
    result[rows] = number[piece]
    return result


def clusters_by_size(position: NDArray[np.floating], config: ClusterConfig) -> NDArray[np.int64]:
    """Number the clusters of all voxels, labelled or not, the largest first: (V,) from 0, -1 for none.

    Args:
        position: (V, 3), metres, LiDAR frame.
        config: see there.
    """
    found = clusters(position, np.ones(len(position), np.bool_), config)
    order = np.argsort(-np.bincount(found[found >= 0]), kind="stable")
    rank = np.full(len(order) + 1, -1)  # the last entry is where -1 points
    rank[order] = np.arange(len(order))
    return rank[found]


def height_above_ground(position: NDArray[np.floating], column: float) -> NDArray[np.floating]:
    """Heights (V,) above the lowest voxel of the square column of side `column` that each voxel stands in, metres.

    Args:
        position: (V, 3), metres, LiDAR frame.
        column: metres.
    """
    cell = np.floor(position[:, :2] / column).astype(np.int64)
    _, number = np.unique(cell, axis=0, return_inverse=True)
    number = number.reshape(-1)
    lowest = np.full(number.max(initial=-1) + 1, np.inf)
    np.minimum.at(lowest, number, position[:, 2])
    return position[:, 2] - lowest[number]


def components(position: NDArray[np.floating], gap: float, gap_per_metre: float) -> NDArray[np.int64]:
    """Number the pieces (N,) from 0 that points at `position` (N, 3), metres, fall into.

    Seen from above: the rings of a LiDAR lie over a metre apart on one car at 50 m, but not in the plane, and nothing
    on a road hovers over another thing. Two points are one piece if they lie no farther apart than the larger of `gap`
    and `gap_per_metre` times the distance of the nearer one from the sensor: the spacing of points grows like that.
    """
    plane = position[:, :2]
    reach = np.maximum(gap, gap_per_metre * np.linalg.norm(plane, axis=1))
    found = [_pairs(plane, reach, least) for least in _doubled(reach.min(initial=np.inf), reach.max(initial=0))]
    near, far = np.concatenate([np.empty((0, 2), np.int64), *found]).T
    graph = coo_array((np.ones(len(near), np.bool_), (near, far)), shape=(len(plane), len(plane)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _doubled(least: float, most: float) -> Iterator[float]:
    while least <= most:
        yield least
        least *= 2


def _pairs(plane: NDArray[np.floating], reach: NDArray[np.floating], least: float) -> NDArray[np.int64]:
    """Pairs (P, 2) of points within the lesser of their reaches, at least all whose lesser is `least` to its double.

    All at once would take memory for the square of the points that one far return could reach.
    """
    asked = np.flatnonzero(reach >= least)
    pairs = asked[cKDTree(plane[asked]).query_pairs(min(2 * least, reach.max()), output_type="ndarray")]
    near, far = pairs.T
    distance = np.linalg.norm(plane[near] - plane[far], axis=1)
    return pairs[distance <= np.minimum(reach[near], reach[far])]


def rejoined(position: NDArray[np.floating], piece: NDArray[np.integer], length: float) -> NDArray[np.int64]:
    """Join pieces of one thing that lie no farther apart than `length` times the longer of them is long.

    Seen from above; what was joined is as long as both together, until no two are near enough. So the ends of a lorry
    are one thing across a gap at which people are several.

    Args:
        position: (N, 3), metres.
        piece: (N,) from 0, as `components` gives them.
        length: a factor, 0 to join none.

    Returns:
        (N,) pieces, from 0.
    """
    plane, joined = position[:, :2], piece.astype(np.int64)
    low, high = np.full((joined.max(initial=-1) + 1, 2), np.inf), np.full((joined.max(initial=-1) + 1, 2), -np.inf)
    np.minimum.at(low, joined, plane)
    np.maximum.at(high, joined, plane)
    # What may be joined may be joined still when pieces have grown, so the order is free: the longest first, once each
    # unless it grows. Of any two it is the longer one's reach that decides.
    long = np.linalg.norm(high - low, axis=1)
    while length and long.max(initial=0.0) > 0:
        longest = long.argmax()
        reach = np.nextafter(length * long[longest], np.inf)  # the bound itself is within
        apart = cKDTree(plane[joined == longest]).query(plane, distance_upper_bound=reach)[0]
        near = np.unique(joined[np.isfinite(apart)])
        first = near[0]
        joined[np.isin(joined, near)] = first
        low[first], high[first] = low[near].min(axis=0), high[near].max(axis=0)
        long[near] = 0.0
        if len(near) > 1:
            long[first] = np.linalg.norm(high[first] - low[first])
    return np.unique(joined, return_inverse=True)[1].reshape(-1).astype(np.int64)
