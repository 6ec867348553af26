"""Points to segments: what one class and one instance have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def segments(
    semantic: NDArray[np.integer], instance: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group points into segments: pairs (class, instance) (S, 2) in order, each point's row (N,), their sizes (S,)."""
    distinct, small = np.unique(instance, return_inverse=True)  # instances may use all 32 bits: number them first
    _, first, row, size = np.unique(
        semantic * max(len(distinct), 1) + small.reshape(-1), return_index=True, return_inverse=True, return_counts=True
    )
    return np.stack([semantic[first], instance[first]], 1), row.reshape(-1), size
