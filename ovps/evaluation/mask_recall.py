"""Share of true segments that any mask covers, whatever its class: what is not segmented cannot be recognised.

Asked of the queries' masks before the merge, where masks overlap, and of the merged segments after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ovps.evaluation.panoptic_quality import CLASSES
from ovps.inference.segments import segments
from ovps.taxonomy import UNLABELLED

COVERED = 0.5  # a segment is found at this point-IoU or more


@dataclass(eq=False)
class RecallCounts:
    """Counts, by class id, of segments and of those that were found, (256,) int64 each."""

    segments: NDArray[np.int64]
    found: NDArray[np.int64]

    @classmethod
    def empty(cls) -> RecallCounts:
        return cls(np.zeros(CLASSES, np.int64), np.zeros(CLASSES, np.int64))

    def add(self, segment_class: NDArray[np.integer], best_iou: NDArray[np.floating]) -> None:
        """Add the segments of a frame: their classes (S,) and the best IoU any mask reaches (S,)."""
        np.add.at(self.segments, segment_class, 1)
        np.add.at(self.found, segment_class[best_iou >= COVERED], 1)


def true_segments(
    semantic: NDArray[np.integer], instance: NDArray[np.integer], *, min_points: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the true segments of at least `min_points` points.

    Args:
        semantic: (N,) class ids, 0 unlabelled.
        instance: (N,) instance keys.

    Returns:
        (S,) their classes, and (N,) each point's segment: row in 0..S-1, -1 in a smaller segment, -2 unlabelled.
    """
    keys, row, size = segments(semantic.astype(np.int64), instance.astype(np.int64))
    kept = (size >= min_points) & (keys[:, 0] != UNLABELLED)
    number = np.full(len(keys), -1)
    number[kept] = np.arange(kept.sum())
    number[keys[:, 0] == UNLABELLED] = -2
    return keys[kept, 0], number[row]


def best_iou(
    point_segment: NDArray[np.integer], count: int, point_voxel: NDArray[np.integer], masks: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Find, for each true segment, the best IoU of any mask, counted in points.

    Unlabelled points count nowhere, as in PQ; labelled points of small segments count as outside.

    Args:
        point_segment: (N,) as `true_segments` gives it, with `count` = S segments.
        point_voxel: (N,) row of each point's voxel.
        masks: (Q, V) bool; they may overlap.

    Returns:
        (S,) float64 in 0..1; 0 where there is no mask.
    """
    if not len(masks) or not count:
        return np.zeros(count)
    labelled = point_segment != -2
    voxels = masks.shape[1]
    inside = point_segment >= 0
    ones = np.ones(int(inside.sum()), np.float64)
    points_of = csr_matrix((ones, (point_segment[inside], point_voxel[inside])), shape=(count, voxels))
    per_voxel = np.bincount(point_voxel[labelled], minlength=voxels).astype(np.float64)
    columns = masks.T.astype(np.float64)
    both = points_of @ columns  # (S, Q)
    size = np.asarray(points_of.sum(1))  # (S, 1)
    area = per_voxel @ columns  # (Q,)
    return (both / (size + area[None, :] - both)).max(1)
