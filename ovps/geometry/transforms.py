"""Ways from one frame to another along transforms that are known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Step = tuple[str, str, NDArray[np.float64]]


def transform_along(steps: Iterable[Step], source: str, target: str) -> NDArray[np.float64] | None:
    """Find `target_from_source` (4, 4), metres, along the fewest transforms, each taken in either direction.

    Args:
        steps: frames (start, end), and `end_from_start` (4, 4), metres.

    Returns:
        None if none lead there.
    """
    forth = list(steps)
    both = [*forth, *((end, start, inverse(step)) for start, end, step in forth)]
    found, queue = {source: np.eye(4)}, deque([source])
    while queue:
        here = queue.popleft()
        for start, end, step in both:
            if start == here and end not in found:
                found[end] = step @ found[here]
                queue.append(end)
    return found.get(target)


def inverse(rigid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert a rotation and translation (4, 4)."""
    turned = np.eye(4)
    turned[:3, :3] = rigid[:3, :3].T
    turned[:3, 3] = -rigid[:3, :3].T @ rigid[:3, 3]
    return turned
