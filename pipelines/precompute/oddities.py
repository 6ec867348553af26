"""Oddities of a data set, looked for before anything of it is computed, and of what an encoder has made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ovps import datasets
from ovps.cache.manifest import read_manifest
from ovps.cache.object_numbers import odd_things
from ovps.cache.partition import Partition
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.clip.asked import alike
from ovps.errors import DatasetError, OvpsError, counted, listed
from ovps.frame import Frame, PointCloud
from ovps.geometry.ground import axes_mistake
from ovps.geometry.mistakes import lies_elsewhere
from pipelines.precompute.compute_frame import read_cloud, read_labels
from pipelines.precompute.flow import tried
from pipelines.precompute.held import Held
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
    return (
        *_empty_splits(options, frames),
        *found,
        *_few_sweeps(options.sweeps, frames),
        *_points(options, frames),
        *_labels(options, frames),
    )


def _empty_splits(options: Resolved, frames: Sequence[Frame]) -> list[str]:
    """Those that are meant where nobody names any may be missing: whoever has a part of a data set knows."""
    usual = datasets.usual_subsets(datasets.get(options.dataset), options.version)
    there = {*usual, *(frame.subset for frame in frames)}
    absent = [split for split in options.subsets if split not in there]
    few = options.only or options.limit  # of which a split may have none
    return [] if few or not absent else [f"split {listed(absent)} has no frames here: it goes without"]


def moved_away(options: Resolved, frames: Sequence[Frame], held: Mapping[str, Held]) -> list[str]:
    """Warn of frames that a store holds under a split that was asked for, and that are of another one now.

    Who asks for that one too has them moved; until then they are trained on, or scored, as what they were.

    Args:
        frames: asked for.
        held: by the store.
    """
    asked = {frame.token for frame in frames}
    rows = {token: one.row for token, one in held.items() if one.row is not None}
    stale = {token for token, row in rows.items() if row.subset in options.subsets and token not in asked}
    dataset = datasets.get(options.dataset)
    usual = datasets.usual_subsets(dataset, options.version)
    others = tuple(dict.fromkeys((*usual, *(row.subset for row in rows.values()))))
    others = tuple(split for split in others if split not in options.subsets)
    if not stale or not others:
        return []
    try:
        found, _ = datasets.frames_there(dataset, options.dataroot, options.version, others)
    except DatasetError:  # it has none of them
        return []
    moved = {frame.token: frame.subset for frame in found if frame.token in stale}
    if not moved:
        return []
    before, now = dict.fromkeys(rows[token].subset for token in moved), dict.fromkeys(moved.values())
    return [
        f"the store holds {counted(len(moved), 'frame')} of split {listed(before)} that the data set has in"
        f" {listed(now)} now, the first is {next(iter(moved))}: run `ovps precompute` with"
        f" --split {','.join((*options.subsets, *now))}, which moves them"
    ]


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
    read = [tried(frame, partial(read_cloud, frame, dataset)) for frame in some]
    clouds = [cloud for cloud in read if isinstance(cloud, PointCloud)]  # whoever computes another says what is wrong
    if not clouds:
        return []
    found = [text for cloud in clouds if (text := lies_elsewhere(cloud.xyz))][:1]
    if mistake := axes_mistake(np.concatenate([cloud.xyz for cloud in clouds])):
        found.append(f"by the points of {len(clouds)} frames {mistake}")
    if odd := odd_intensities(np.concatenate([cloud.intensity for cloud in clouds])):
        found.append(odd)
    return found


def _labels(options: Resolved, frames: Sequence[Frame]) -> list[str]:
    """Those of some frames, in which no object has a number."""
    dataset = datasets.at(options.dataset, options.dataroot)
    labelled = [frame for frame in frames if frame.labels_path is not None]
    some = labelled[:: -(-len(labelled) // _SWEEPS) or 1]
    read = [tried(frame, partial(read_labels, frame, dataset)) for frame in some]
    odd = odd_things(dataset.taxonomy, [label for label in read if isinstance(label, np.ndarray)])
    return [odd] if odd else []


def alike_features(storage: Storage, held: Iterable[Held]) -> list[str]:
    """Warn of an encoder that makes the same of whatever it is shown, by the first frame that has features."""
    for one in held:
        if one.row is None or one.row.valid_voxels < 2:
            continue
        try:
            row, provenance = read_manifest(storage, one.partition), read_info(storage).provenance
            frame = Partition.open(storage, row, provenance).read(one.row.token)
        except OvpsError:  # told by whoever needs the frame
            return []
        if not alike(frame.clip[frame.valid]):
            return []
        return [
            f"encoder {provenance.encoder} gives one and the same feature for all {one.row.valid_voxels:,} voxels that"
            f" cameras see in frame {frame.token}: look at its `encode`, its weights and the images"
        ]
    return []


def odd_intensities(intensity: NDArray[np.floating]) -> str | None:
    """Say what is odd about the intensities (N,) of points, which are 0 to 1; None if nothing is."""
    most = intensity.max(initial=0)
    if most == 0:
        return "no point has an intensity: a network that was trained with intensities misses them"
    if most < _FAINT:
        return f"no intensity is above {most:.3g}, and 1 is the most: is `intensity_max` too large?"
    return None
