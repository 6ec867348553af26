"""The CLIP features of segments: means over their points that a camera sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ovps.cache.frame_data import CachedFrame
from ovps.model.clusters import ClusterConfig, clusters
from ovps.viewer.labelling import Labelling, cluster_labelling


def pooled_clip(frame: CachedFrame, labels: Labelling) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Average the features of each segment's seen points: (S, C) float32, zeros where there is none, and (S,) bool."""
    seen = (labels.segment >= 0) & (frame.views > 0) & frame.valid[frame.point_voxel]
    shape = (len(labels.segment_entry), len(frame.clip))
    points = csr_array((np.ones(int(seen.sum())), (labels.segment[seen], frame.point_voxel[seen])), shape)
    count = np.asarray(points.sum(axis=1)).reshape(-1)
    mean = (points @ frame.clip.astype(np.float64)) / np.maximum(count, 1)[:, None]
    return mean.astype(np.float32), count > 0


def label_free(frame: CachedFrame, config: ClusterConfig | None = None) -> Labelling:
    """Cluster what stands on the ground of a frame, without any label and without a run."""
    count = np.bincount(frame.point_voxel, minlength=len(frame.coords))
    position = (
        np.stack([np.bincount(frame.point_voxel, axis, minlength=len(frame.coords)) for axis in frame.xyz.T], axis=1)
        / np.maximum(count, 1)[:, None]
    )
    found = clusters(position, np.ones(len(position), np.bool_), config or ClusterConfig())
    return cluster_labelling(found[frame.point_voxel])
