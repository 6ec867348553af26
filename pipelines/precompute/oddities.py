"""Oddities of a data set, looked for before anything of it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from ovps import datasets
from ovps.errors import FrameError, listed
from ovps.frame import Frame, PointCloud
from ovps.geometry.ground import axes_mistake
from pipelines.precompute.options import Resolved

_SWEEPS = 3  # that are read to see where the ground is


def oddities(options: Resolved, frames: Sequence[Frame]) -> tuple[str, ...]:
    """Warn of what is odd in a data set: its folder, its poses, splits without a frame, points whose z is not up.

    Args:
        frames: asked for, at least one.
    """
    dataset = datasets.get(options.dataset)
    found = datasets.warnings_of(dataset, options.dataroot, frames)
    return (*_empty_splits(options, frames), *found, *_axes(options, frames))


def _empty_splits(options: Resolved, frames: Sequence[Frame]) -> list[str]:
    """Those that are meant where nobody names any may be missing: whoever has a part of a data set knows."""
    usual = datasets.usual_subsets(datasets.get(options.dataset), options.version)
    there = {*usual, *(frame.subset for frame in frames)}
    absent = [split for split in options.subsets if split not in there]
    few = options.only or options.limit  # of which a split may have none
    return [] if few or not absent else [f"split {listed(absent)} has no frames here: it goes without"]


def _axes(options: Resolved, frames: Sequence[Frame]) -> list[str]:
    dataset = datasets.at(options.dataset, options.dataroot)
    clouds = []
    for frame in frames[:: -(-len(frames) // _SWEEPS)]:
        with suppress(FrameError):  # whoever computes it says what is wrong
            clouds.append(dataset.points(frame))
    xyz = [cloud.xyz for cloud in clouds if isinstance(cloud, PointCloud)]
    mistake = axes_mistake(np.concatenate(xyz)) if xyz else None
    return [f"by the points of {len(xyz)} frames {mistake}"] if mistake else []
