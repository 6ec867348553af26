"""Frames of a bag: which stand still to each other, and how the vehicle moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from ovps.geometry.transforms import transform_along

_STILL = 1e-6


@dataclass
class Link:
    """Place of a frame in its parent: `parent_from_child` (4, 4) at some times, in nanoseconds."""

    parent: str
    times: list[int] = field(default_factory=list)
    matrices: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def still(self) -> bool:
        """Tell whether it never changes."""
        return np.allclose(np.array(self.matrices), self.matrices[0], rtol=0, atol=_STILL)

    @cached_property
    def _in_order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The times, each once, and where the matrix of each stands; asked for when all are noted."""
        return np.unique(np.array(self.times, np.int64), return_index=True)

    def at(self, time: int) -> NDArray[np.float64] | None:
        """`parent_from_child` at a time, between two that are known; None before the first and after the last."""
        times, order = self._in_order
        if not len(times) or not times[0] <= time <= times[-1]:
            return None
        next_ = int(np.searchsorted(times, time))
        if times[next_] == time:
            return self.matrices[order[next_]]
        between = np.array([self.matrices[order[next_ - 1]], self.matrices[order[next_]]])
        share = (time - times[next_ - 1]) / (times[next_] - times[next_ - 1])
        pose = np.eye(4)
        pose[:3, :3] = Slerp([0.0, 1.0], Rotation.from_matrix(between[:, :3, :3]))(share).as_matrix()
        pose[:3, 3] = (1 - share) * between[0, :3, 3] + share * between[1, :3, 3]
        return pose


class Frames:
    """All that /tf and /tf_static of a bag say. A frame has one parent."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}

    def add(self, parent: str, child: str, time: int, matrix: NDArray[np.float64]) -> None:
        """Note one transform; a frame that gets another parent keeps the first."""
        link = self.links.setdefault(child, Link(parent))
        if link.parent == parent:
            link.times.append(time)
            link.matrices.append(matrix)

    def still_between(self, source: str, target: str) -> NDArray[np.float64] | None:
        """Find `target_from_source` (4, 4) along frames that stand still to each other; None if none lead there."""
        steps = ((child, link.parent, link.matrices[0]) for child, link in self._still.items())
        return transform_along(steps, source, target)

    @property
    def _still(self) -> Mapping[str, Link]:
        return {child: link for child, link in self.links.items() if link.still}

    def moving(self, frame: str, world: str | None) -> tuple[str, Link] | None:
        """Find the link by which a frame moves: the first above it that changes, or the one to a certain parent.

        Returns:
            The child of the link, and the link; None if nothing above the frame moves.
        """
        here, seen = frame, {frame}
        while here in self.links:
            link = self.links[here]
            if not link.still if world is None else link.parent == world:
                return here, link
            here = link.parent
            if here in seen:
                return None
            seen.add(here)
        return None
