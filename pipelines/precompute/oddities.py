"""Oddities of a data set, looked for before anything of it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ovps import datasets
from ovps.errors import counted, listed
from ovps.frame import Frame, PointCloud
from ovps.geometry.ground import axes_mistake
from ovps.geometry.mistakes import lies_elsewhere
from pipelines.precompute.flow import tried
from pipelines.precompute.options import Resolved

_FAINT = 0.02
_BEGINNING = 0.25  # of the frames, which may be the first of their scenes
_SWEEPS = 3  # that are read to see where the ground is


def oddities(options: Resolved, frames: Sequence[Frame]) -> tuple[str, ...]:
    """Warn of what is odd in a data set: its folder, poses, splits without a frame, earlier sweeps, points of some.

    Args:
        frames: asked for, at least one.
    """
    dataset = datasets.get(options.dataset)
    found = datasets.warnings_of(dataset, options.dataroot, frames)
    return (*_empty_splits(options, frames), *found, *_few_sweeps(options.sweeps, frames), *_points(options, frames))


def _empty_splits(options: Resolved, frames: Sequence[Frame]) -> list[str]:
    """Those that are meant where nobody names any may be missing: whoever has a part of a data set knows."""
    usual = datasets.usual_subsets(datasets.get(options.dataset), options.version)
    there = {*usual, *(frame.subset for frame in frames)}
    absent = [split for split in options.subsets if split not in there]
    few = options.only or options.limit  # of which a split may have none
    return [] if few or not absent else [f"split {listed(absent)} has no frames here: it goes without"]


def _few_sweeps(asked: int, frames: Sequence[Frame]) -> list[str]:
    """Frames at the beginning of a scene have fewer earlier sweeps than were asked for; many have lost them."""
    few = sum(len(frame.earlier) < asked for frame in frames)
    none = sum(not frame.earlier for frame in frames)
    if few <= _BEGINNING * len(frames):
        return []
    return [
        f"{few} of {len(frames)} frames have fewer than the {counted(asked, 'earlier sweep')} that were asked for,"
        f" {none} of them none: do the tables hold what lies between key frames?"
    ]


def _points(options: Resolved, frames: Sequence[Frame]) -> list[str]:
    """Those that lie elsewhere than around the LiDAR, whose z is not up, or with odd intensities."""
    dataset = datasets.at(options.dataset, options.dataroot)
    some = frames[:: -(-len(frames) // _SWEEPS)]
    read = [tried(frame, partial(dataset.points, frame)) for frame in some]
    clouds = [cloud for cloud in read if isinstance(cloud, PointCloud)]  # whoever computes another says what is wrong
    if not clouds:
        return []
    found = [text for cloud in clouds if (text := lies_elsewhere(cloud.xyz))][:1]
    if mistake := axes_mistake(np.concatenate([cloud.xyz for cloud in clouds])):
        found.append(f"by the points of {len(clouds)} frames {mistake}")
    if odd := odd_intensities(np.concatenate([cloud.intensity for cloud in clouds])):
        found.append(odd)
    return found


def odd_intensities(intensity: NDArray[np.floating]) -> str | None:
    """Say what is odd about the intensities (N,) of points, which are 0 to 1; None if nothing is."""
    most = intensity.max(initial=0)
    if most == 0:
        return "no point has an intensity: a network that was trained with intensities misses them"
    if most < _FAINT:
        return f"no intensity is above {most:.3g}, and 1 is the most: is `intensity_max` too large?"
    return None
