"""Every sweep with its nearest images, and why others are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovps.errors import DatasetError
from pipelines.bag.index import Index
from pipelines.bag.topics import CameraTopic
from pipelines.bag.transforms import Motion


@dataclass(frozen=True)
class Matched:
    """A sweep and its images: time stamps in nanoseconds, by the name of the camera."""

    time: int
    images: dict[str, int]


def match(
    index: Index,
    clouds: str,
    cameras: Sequence[CameraTopic],
    moving: Motion | None,
    apart_ms: float,
    every: int,
    limit: int | None,
) -> tuple[list[Matched], dict[str, int]]:
    """Give every sweep the nearest image of each camera.

    Args:
        index: of the bag.
        clouds: topic of the sweeps.
        moving: how the vehicle moves: what has no pose is left out. None: nothing moves.
        apart_ms: an image that is farther from its sweep is not used.
        every: only each so manieth sweep.
        limit: of sweeps.

    Returns:
        Sweeps in order of time, and how many were left out, by the reason.
    """
    stamps = {camera.name: np.unique(index.times(camera.images)) for camera in cameras}
    matched: list[Matched] = []
    sweeps = index.times(clouds)
    once = np.unique(sweeps)
    left_out = dict(index.sweeps_left_out)
    if len(once) < len(sweeps):
        left_out["another has their time"] = len(sweeps) - len(once)
    for time in once[::every].tolist():
        if limit is not None and len(matched) == limit:
            break
        images = {}
        for name, times in stamps.items():
            if not len(times):
                continue
            nearest = int(times[np.abs(times - time).argmin()])
            if abs(nearest - time) <= apart_ms * 1e6:
                images[name] = nearest
        if moving is not None:
            images = {name: at for name, at in images.items() if moving.at(at) is not None}
        if not images:
            reason = f"no image within {apart_ms:g} ms" + (" with a known pose" if moving else "")
        elif moving is not None and moving.at(time) is None:
            reason = f"the pose of {moving.frame} is not known at their time"
        else:
            matched.append(Matched(time, images))
            continue
        left_out[reason] = left_out.get(reason, 0) + 1
    return matched, left_out


def nothing_left(
    clouds: str,
    left_out: dict[str, int],
    index: Index,
    path: Path,
    remedy: str = "Choose other topics: --list shows all",
) -> DatasetError:
    """Say why no sweep of a topic can be used: reasons with their counts, then what the index warns of."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none in the bag"
    return DatasetError(
        "; ".join([f"no sweep of {clouds} can be used: {reasons}", *index.warnings()]), path=path, remedy=remedy
    )


def nothing_matched(
    clouds: str,
    cameras: Sequence[CameraTopic],
    moving: Motion | None,
    apart_ms: float,
    left_out: dict[str, int],
    index: Index,
    path: Path,
) -> DatasetError:
    """Say why no sweep has an image: the time between them, or poses that are known at other times."""
    nearest = _nearest_ms(index, clouds, cameras)
    if nearest is None:
        return nothing_left(clouds, left_out, index, path)
    if nearest <= apart_ms:
        if moving is None:
            return nothing_left(clouds, left_out, index, path)
        (first, last), sweeps = moving.known, index.times(clouds)
        remedy = (
            f"Poses of {moving.frame} are known from {first / 1e9:.3f} to {last / 1e9:.3f} s, sweeps are from"
            f" {sweeps.min() / 1e9:.3f} to {sweeps.max() / 1e9:.3f} s: the clocks of transforms and sensors differ, or"
            " one of them has no times, and their time stamps are to be set right"
        )
        return nothing_left(clouds, left_out, index, path, remedy)
    remedy = (
        f"The nearest image and sweep are {nearest:,.0f} ms apart: --apart-ms allows more; if it is seconds, the clocks"
        " of the two differ, and their time stamps are to be set right. Other topics: --list shows all"
    )
    return nothing_left(clouds, left_out, index, path, remedy)


def _nearest_ms(index: Index, clouds: str, cameras: Sequence[CameraTopic]) -> float | None:
    """Milliseconds between the sweep and the image that are nearest to each other; None if there are no images."""
    images = np.concatenate([np.empty(0, np.int64), *(index.times(camera.images) for camera in cameras)])
    if not len(images):
        return None
    return min(float(np.abs(images - time).min()) for time in index.times(clouds)) / 1e6
