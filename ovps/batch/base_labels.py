"""Labels of the base classes, and nothing else, as targets.

Two rules keep novel labels out of everything that is learned:
- `base_points` comes first: from then on a point of a novel class is unlabelled and has no instance;
- a voxel's segment is a vote of its points, in which unlabelled points count like all others; ties go to the lowest
  (class, instance), unlabelled being the lowest of all. A voxel mostly of novel points is therefore unlabelled,
  whatever the novel classes are called and whether or not they were ever labelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ovps.cache.frame_data import CachedFrame
from ovps.errors import CacheError
from ovps.losses.targets import Targets
from ovps.taxonomy import UNLABELLED, ClassInfo, Split, Taxonomy


@dataclass(frozen=True)
class ClassSplit:
    """The base classes of a taxonomy, in its order: all that training may know."""

    taxonomy: Taxonomy
    split: Split

    @cached_property
    def classes(self) -> tuple[ClassInfo, ...]:
        return tuple(self.taxonomy.by_id[i] for i in self.split.base_ids(self.taxonomy))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the base classes, (K,)."""
        return np.array([c.id for c in self.classes], np.int64)

    @cached_property
    def is_thing(self) -> NDArray[np.bool_]:
        """Tell of each base class whether it is a thing, (K,) bool."""
        return np.array([c.kind == "thing" for c in self.classes], bool)

    @property
    def stuff(self) -> tuple[int, ...]:
        """Positions of stuff among the base classes; each has a fixed query."""
        return tuple(int(i) for i in np.flatnonzero(~self.is_thing))


def base_points(raw: NDArray[np.uint32], base: ClassSplit) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Turn raw labels (N,) into class ids (N,) int64 and instances (N,) int64, both 0 unless the class is base."""
    semantic, instance = base.taxonomy.decode(raw)
    known = np.isin(semantic, base.ids)
    return np.where(known, semantic, UNLABELLED).astype(np.int64), np.where(known, instance, 0).astype(np.int64)


def vote(point_voxel: NDArray[np.int64], point_segment: NDArray[np.int64], voxels: int) -> NDArray[np.int64]:
    """Choose each voxel's segment by a vote of its points, ties to the lowest; -1 (unlabelled) votes too.

    Args:
        point_voxel: (N,) in 0..voxels-1, every voxel with a point.
        point_segment: (N,) from -1.

    Returns:
        (voxels,) int64.
    """
    span = int(point_segment.max(initial=-1)) + 2
    pairs, votes = np.unique(point_voxel * span + point_segment + 1, return_counts=True)
    voxel, segment = np.divmod(pairs, span)
    order = np.lexsort((segment, -votes, voxel))
    winner = np.full(voxels, -1, np.int64)
    _, first = np.unique(voxel[order], return_index=True)
    winner[voxel[order][first]] = segment[order][first] - 1
    return winner


def make_targets(frame: CachedFrame, point_voxel: NDArray[np.int64], voxels: int, base: ClassSplit) -> Targets:
    """Make the targets of a frame: base segments that win at least one voxel, by ascending (class id, instance).

    Args:
        frame: N points with labels, and the object embeddings of its segments.
        point_voxel: (N,) int64, rows of the training grid's voxels.
        voxels: V, their number.
        base: what may be seen.

    Raises:
        CacheError: the frame has no labels.
    """
    if frame.label is None:
        raise CacheError(
            "a frame without labels cannot be trained on",
            frame=frame.token,
            remedy="Train on a labelled subset: --set data.subsets=[train]",
        )
    semantic, instance = base_points(frame.label, base)
    labelled = semantic != UNLABELLED
    keys, inverse = np.unique(np.stack([semantic, instance], 1)[labelled], axis=0, return_inverse=True)
    point_segment = np.full(len(semantic), -1, np.int64)
    point_segment[labelled] = inverse.reshape(-1)

    voxel_segment = vote(point_voxel, point_segment, voxels)
    kept = np.unique(voxel_segment[voxel_segment >= 0])
    rename = np.full(len(keys) + 1, -1, np.int64)  # the last row is where -1 points
    rename[kept] = np.arange(len(kept))
    embedding, valid = _embeddings(keys[kept], frame)
    ascending = np.argsort(base.ids)
    segment_class = ascending[np.searchsorted(base.ids, keys[kept, 0], sorter=ascending)]
    return Targets(
        voxel_segment=torch.from_numpy(rename[voxel_segment]),
        segment_class=torch.from_numpy(segment_class.astype(np.int64)),
        segment_is_thing=torch.from_numpy(base.is_thing[segment_class]),
        object_embedding=torch.from_numpy(embedding),
        object_valid=torch.from_numpy(valid),
    )


def _embeddings(keys: NDArray[np.int64], frame: CachedFrame) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Object embeddings (S, C) of the segments `keys` (S, 2), class id and instance, and which exist (S,)."""
    ids = zip(frame.object_class.tolist(), frame.object_instance.tolist(), strict=True)
    row_of = {key: row for row, key in enumerate(ids)}
    result = np.zeros((len(keys), frame.object_embedding.shape[1]), np.float32)
    valid = np.zeros(len(keys), bool)
    for segment, (class_id, instance) in enumerate(keys.tolist()):
        row = row_of.get((class_id, instance))
        if row is not None and frame.object_seen_points[row] > 0:
            result[segment], valid[segment] = frame.object_embedding[row], True
    return result, valid
