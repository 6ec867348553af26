"""Object-level embeddings: the mean CLIP feature of each labelled segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ovps.taxonomy import UNLABELLED, Taxonomy


@dataclass(frozen=True, eq=False)
class Objects:
    """S segments of one frame, sorted by class, then instance; fields as in `CachedFrame.object_*`."""

    classes: NDArray[np.uint8]
    instance: NDArray[np.uint32]
    points: NDArray[np.int32]
    seen_points: NDArray[np.int32]
    embedding: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by the names under which they are stored."""
        return {
            "objects/class": self.classes,
            "objects/instance": self.instance,
            "objects/points": self.points,
            "objects/seen_points": self.seen_points,
            "objects/embedding": self.embedding,
        }


def no_objects(clip_dim: int) -> Objects:
    """Objects of a frame without labels: none."""
    none = np.zeros(0, np.int32)
    return Objects(none.astype(np.uint8), none.astype(np.uint32), none, none, np.zeros((0, clip_dim), np.float32))


def count_objects(label: NDArray[np.uint32], taxonomy: Taxonomy) -> int:
    """Count the segments that `find_objects` finds in the raw labels (N,) of a frame."""
    return len(np.unique(_segment_keys(label, taxonomy)[1]))


def _segment_keys(label: NDArray[np.uint32], taxonomy: Taxonomy) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    """Which points (N,) have a class, and of these (M,) the class above the instance: a number for each segment."""
    semantic, instance = taxonomy.decode(label)
    labelled = semantic != UNLABELLED
    return labelled, semantic[labelled].astype(np.uint64) << np.uint64(32) | instance[labelled]


def find_objects(
    label: NDArray[np.uint32],
    taxonomy: Taxonomy,
    point_weights: csr_array,
    views: NDArray[np.uint8],
    cells: NDArray[np.float32],
) -> Objects:
    """Segments of a labelled frame. A segment's embedding depends on its own points and on nothing else.

    Args:
        label: (N,) raw labels.
        point_weights: (N, K) CSR float32, feature of a point = weights @ cells.
        views: (N,) uint8, 0 where the point has no feature.
        cells: (K, C) float32.
    """
    labelled, keys = _segment_keys(label, taxonomy)
    segments, segment_of = np.unique(keys, return_inverse=True)
    count = len(segments)
    seen = views[labelled] > 0
    seen_points = np.bincount(segment_of[seen], minlength=count)

    # One row of means per segment, made of its own seen points in their order: other labels cannot change its bits.
    members = np.flatnonzero(labelled)[seen]
    row = segment_of[seen]
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(seen_points)])
    share = (1.0 / np.maximum(seen_points, 1))[row[order]]
    mean = csr_array((share, members[order], indptr), shape=(count, len(label)))
    embedding = (mean @ point_weights.astype(np.float64)).tocsr()
    embedding.sort_indices()
    used, columns = np.unique(embedding.indices, return_inverse=True)  # the product makes all of them float64
    embedding = csr_array((embedding.data, columns, embedding.indptr), shape=(count, len(used)))
    return Objects(
        classes=(segments >> np.uint64(32)).astype(np.uint8),
        instance=(segments & np.uint64(0xFFFFFFFF)).astype(np.uint32),
        points=np.bincount(segment_of, minlength=count).astype(np.int32),
        seen_points=seen_points.astype(np.int32),
        embedding=np.asarray(embedding @ cells[used], dtype=np.float32).reshape(count, cells.shape[1]),
    )
