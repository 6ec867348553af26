"""Frames of a bag: which stand still to each other, and how the vehicle moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from ovps.datasets.motion import FASTEST
from ovps.errors import counted
from ovps.geometry.transforms import transform_along

_STILL = 1e-4  # metres, and in the axes: what is left of a standing transform that is published again and again
# Two poses that are further apart than this, and than so many times the usual, have a dropout between them ...
_DROPOUT_NS, _DROPOUT_TIMES = 5 * 10**8, 3.0
_DROPOUT_M, _DROPOUT_RAD = 0.2, 0.02  # ... if the frame has moved or turned by more meanwhile
_JUMP_M = 1.0  # less may be noise between time stamps that are next to each other


@dataclass
class Link:
    """Place of a frame in its parent: `parent_from_child` (4, 4) at some times, in nanoseconds."""

    parent: str
    times: list[int] = field(default_factory=list)
    matrices: list[NDArray[np.float64]] = field(default_factory=list)
    static: bool = False  # said on /tf_static, where what comes later is a correction and no movement

    @property
    def still(self) -> bool:
        """Tell whether it never changes."""
        return self.static or self.apart <= _STILL

    @cached_property
    def apart(self) -> float:
        """Largest difference between any of the matrices and the first; asked for when all are noted."""
        return float(np.abs(np.array(self.matrices) - self.matrices[0]).max())

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The one that holds of a frame that stands still: the last one, as in ROS."""
        return self.matrices[-1]

    @cached_property
    def in_order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The times, each once, and where the matrix of each stands; asked for when all are noted."""
        return np.unique(np.array(self.times, np.int64), return_index=True)

    @cached_property
    def _usual(self) -> float:
        """Nanoseconds between two poses."""
        return float(np.median(np.diff(self.in_order[0])))

    def at(self, time: int) -> NDArray[np.float64] | None:
        """Interpolate `parent_from_child` (4, 4) at a time, in nanoseconds, between the two that are known around it.

        None before the first and after the last, and in a dropout: where these two are far apart in time, compared with
        others, and the frame has moved or turned meanwhile, nobody knows along which way.
        """
        times, order = self.in_order
        if not len(times) or not times[0] <= time <= times[-1]:
            return None
        next_ = int(np.searchsorted(times, time))
        if times[next_] == time:
            return self.matrices[order[next_]]
        between = np.array([self.matrices[order[next_ - 1]], self.matrices[order[next_]]])
        if times[next_] - times[next_ - 1] > max(_DROPOUT_NS, _DROPOUT_TIMES * self._usual) and _moved(*between):
            return None
        share = (time - times[next_ - 1]) / (times[next_] - times[next_ - 1])
        pose = np.eye(4)
        pose[:3, :3] = Slerp([0.0, 1.0], Rotation.from_matrix(between[:, :3, :3]))(share).as_matrix()
        pose[:3, 3] = (1 - share) * between[0, :3, 3] + share * between[1, :3, 3]
        return pose


@dataclass(frozen=True)
class Motion:
    """Movement of a vehicle.

    Attributes:
        frame: of the vehicle.
        links: from it to the frame that it moves in, each from the parent of the one before.
    """

    frame: str
    links: tuple[Link, ...]

    @property
    def world(self) -> str:
        """The frame that it moves in."""
        return self.links[-1].parent

    @property
    def still(self) -> bool:
        """Tell whether it never moves."""
        return all(link.still for link in self.links)

    @property
    def known(self) -> tuple[int, int]:
        """The first and the last time at which the place is known, in nanoseconds."""
        times = [link.times for link in self.links if not link.still]
        return max(map(min, times)), min(map(max, times))

    def at(self, time: int) -> NDArray[np.float64] | None:
        """Find `world_from_frame` (4, 4) at a time, in nanoseconds; None where a link has none, see `Link.at`."""
        pose = np.eye(4)
        for link in self.links:
            step = link.matrix if link.still else link.at(time)
            if step is None:
                return None
            pose = step @ pose
        return pose

    def warnings(self) -> list[str]:
        """Warn of links that jump, as no vehicle drives."""
        return [
            f"poses in {link.parent} jump {counted(jumps, 'time')}, by up to {most:.3g} m from one to the next: two"
            " nodes may publish them, or localisation was lost"
            for link in self.links
            for jumps, most in [_jumps(link)]
            if jumps
        ]


def _jumps(link: Link) -> tuple[int, float]:
    """How often the frame of a link is suddenly elsewhere, and the metres of the longest of these steps."""
    times, order = link.in_order
    places = np.array([link.matrices[number][:3, 3] for number in order])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    jumps = (steps > _JUMP_M) & (steps > FASTEST * np.diff(times) / 1e9)
    return int(jumps.sum()), float(steps[jumps].max(initial=0.0))


class Frames:
    """All that /tf and /tf_static of a bag say. A frame has one parent."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self._unused: dict[tuple[str, str], float] = {}  # by child and parent: how far from what is used, if that says

    def add(self, parent: str, child: str, time: int, matrix: NDArray[np.float64], *, static: bool = False) -> None:
        """Note one transform; a frame that gets another parent keeps the first.

        Args:
            static: it was said on /tf_static. Of a frame of which this is said, nothing else is noted.
        """
        link = self.links.setdefault(child, Link(parent, static=static))
        if link.parent != parent:
            self._unused.setdefault((child, parent), np.inf)
            return
        if link.static and not static:
            apart = float(np.abs(matrix - link.matrix).max())
            self._unused[child, parent] = max(self._unused.get((child, parent), 0.0), apart)
            return
        if static and not link.static:
            link = self.links[child] = Link(parent, static=True)
        link.times.append(time)
        link.matrices.append(matrix)

    def warnings(self) -> list[str]:
        """Warn of frames that have several parents, or that stand now here, now there."""
        unused = [
            f"{child} has a place in {parent} and one in {self.links[child].parent}: the latter is taken"
            if parent != self.links[child].parent
            else f"/tf places {child} in {parent} elsewhere than /tf_static, up to {apart:.3g} apart (metres, or in an"
            " axis): /tf_static is taken"
            for (child, parent), apart in self._unused.items()
            if apart > _STILL
        ]
        return unused + [
            f"/tf_static places {child} in {link.parent} now here, now there, up to {link.apart:.3g} apart (metres, or"
            " in an axis): the last is taken"
            for child, link in self.links.items()
            if link.static and link.apart > _STILL
        ]

    def still_between(self, source: str, target: str) -> NDArray[np.float64] | None:
        """Find `target_from_source` (4, 4) along frames that stand still to each other; None if none lead there."""
        steps = ((child, link.parent, link.matrix) for child, link in self._still.items())
        return transform_along(steps, source, target)

    @property
    def _still(self) -> Mapping[str, Link]:
        return {child: link for child, link in self.links.items() if link.still}

    def moving(self, frame: str, world: str | None) -> Motion | None:
        """Find how a frame moves: the first above it that changes, in its parent, or in a certain frame above that.

        Returns:
            Its movement, which stands still where nothing moves below `world`; None if nothing above the frame moves,
            or `world` is not above it.
        """
        here, seen, links, vehicle = frame, {frame}, list[Link](), frame
        while here in self.links:
            link = self.links[here]
            if not links and (not link.still or link.parent == world):
                vehicle = here
            if links or not link.still or link.parent == world:
                links.append(link)
                if world in (None, link.parent):
                    return Motion(vehicle, tuple(links))
            here = link.parent
            if here in seen:
                return None
            seen.add(here)
        return None


def _moved(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    turned = Rotation.from_matrix(before[:3, :3].T @ after[:3, :3]).magnitude()
    return bool(np.linalg.norm(after[:3, 3] - before[:3, 3]) > _DROPOUT_M or turned > _DROPOUT_RAD)
