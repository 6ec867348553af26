"""Points to segments: what one class and one instance have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovps.taxonomy import Taxonomy


def segments(
    semantic: NDArray[np.integer], instance: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group points into segments: pairs (class, instance) (S, 2) in order, each point's row (N,), their sizes (S,)."""
    distinct, small = np.unique(instance, return_inverse=True)  # instances may use all 32 bits: number them first
    _, first, row, size = np.unique(
        semantic * max(len(distinct), 1) + small.reshape(-1), return_index=True, return_inverse=True, return_counts=True
    )
    return np.stack([semantic[first], instance[first]], 1), row.reshape(-1), size


def numbered(
    semantic: NDArray[np.integer], instance: NDArray[np.integer], taxonomy: Taxonomy
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Number the things of each class from 1, as submissions do; stuff is one segment a class, of number 0.

    Args:
        semantic, instance: (N,) class ids and instances, any numbers.

    Returns:
        Class (S,) and number (S,) of each segment, in order of the classes, and each point's row (N,).
    """
    semantic = np.asarray(semantic, np.int64)
    is_thing = np.isin(semantic, taxonomy.thing_ids)
    keys, row, _ = segments(semantic, np.where(is_thing, instance, 0).astype(np.int64))
    first = np.searchsorted(keys[:, 0], keys[:, 0])
    number = np.where(np.isin(keys[:, 0], taxonomy.thing_ids), np.arange(len(keys)) - first + 1, 0)
    return keys[:, 0], number, row
