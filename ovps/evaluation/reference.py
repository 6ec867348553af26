"""Reference rows: what the numbers of a system are to be compared with.

- `random_class`, what chance means: the system's own segments, each given a class drawn uniformly from the entries of
  the vocabulary of its kind (thing or stuff). Segments of stuff that draw the same class become one, as in the merge.
  The row is the mean over `SEEDS` seeds.
- `clip_argmax`: every voxel takes the text nearest to its `F_clip`, without any 3D model; voxels without a CLIP
  feature stay unlabelled. It has no instances: mIoU everywhere, PQ only for stuff.
- `true_masks`, the ceiling of classification: the true segments, each given the text nearest to the mean CLIP feature
  of its points; segments that no camera saw stay unlabelled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import CachedFrame
from ovps.entries import NO_ENTRY
from ovps.inference.segments import segments
from ovps.vocabulary import Vocabulary

SEEDS = 5


def nearest_entry(features: NDArray[np.float32], valid: NDArray[np.bool_], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Find the entry nearest to each feature (M, C), by its best synonym's cosine: (M,) int64, -1 where not valid."""
    similarity = features @ vocabulary.embeddings.T  # the features' length does not change which text is nearest
    nearest = vocabulary.class_index[similarity.argmax(1)] if len(features) else np.zeros(0, np.int64)
    return np.where(valid, nearest, NO_ENTRY)


def clip_argmax(frame: CachedFrame, vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Name each point by its voxel's CLIP feature: entries (N,) int64, -1 where it has none."""
    return nearest_entry(frame.clip, frame.valid, vocabulary)[frame.point_voxel]


def true_masks(
    frame: CachedFrame, semantic: NDArray[np.integer], instance: NDArray[np.integer], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Name the true segments by CLIP.

    Args:
        semantic, instance: (N,) decoded ground truth of the frame.

    Returns:
        (N,) int64 entries, -1 unlabelled, and (N,) int64 instances (0 for stuff).
    """
    if not len(frame.object_class):
        return np.full(len(semantic), NO_ENTRY), np.zeros(len(semantic), np.int64)
    named = nearest_entry(frame.object_embedding, frame.object_seen_points > 0, vocabulary)
    keys = _key(frame.object_class, frame.object_instance)
    order = np.argsort(keys)
    wanted = _key(semantic, instance)
    row = order[np.searchsorted(keys[order], wanted).clip(max=len(keys) - 1)]
    entry = np.where(keys[row] == wanted, named[row], NO_ENTRY)
    return entry, np.where(_is_thing(entry, vocabulary), row + 1, 0)


def random_class(
    entry: NDArray[np.integer], instance: NDArray[np.integer], vocabulary: Vocabulary, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Redraw the classes of predicted segments at random from the entries of the same kind.

    Args:
        entry: (N,) predicted entries, -1 unlabelled.
        instance: (N,) predicted instances.

    Returns:
        (N,) int64 entries and (N,) int64 instances of the same segments (0 for stuff).
    """
    keys, row, _ = segments(entry.astype(np.int64), instance.astype(np.int64))
    drawn = np.full(len(keys), NO_ENTRY)
    for thing in (False, True):
        entries = np.flatnonzero(vocabulary.is_thing == thing)
        of_kind = (keys[:, 0] >= 0) & (_is_thing(keys[:, 0], vocabulary) == thing)
        if len(entries):
            drawn[of_kind] = rng.choice(entries, int(of_kind.sum()))
    number = np.where(_is_thing(drawn, vocabulary), np.arange(len(keys)) + 1, 0)
    return drawn[row], number[row]


def _is_thing(entry: NDArray[np.integer], vocabulary: Vocabulary) -> NDArray[np.bool_]:
    return (entry >= 0) & vocabulary.is_thing[entry]


def _key(semantic: NDArray[np.integer], instance: NDArray[np.integer]) -> NDArray[np.int64]:
    return semantic.astype(np.int64) << 32 | instance.astype(np.int64)
