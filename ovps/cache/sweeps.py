"""Statistics of the sweeps of a store, and warnings about what is unusual in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cache_schemas import CameraRow
from ovps.geometry.mistakes import is_upright
from ovps.geometry.odd_grid import odd_grid

_ENOUGH = 5  # frames from which a spread can be told
_OUTLIER = 9.0  # median absolute deviations, six standard deviations of a normal distribution
_LEAST_LOSS = 0.02  # of the median
_TILT = 30.0  # degrees between the LiDAR's axis in two places; the steepest street has 20
_SAME = 1e-3  # metres, and entries of a rotation, between two cameras in one place


class Sweep(Protocol):
    """The part of a frame that warnings look at; a `FrameRow` is one."""

    @property
    def token(self) -> str: ...
    @property
    def points(self) -> int: ...
    @property
    def voxels(self) -> int: ...
    @property
    def beyond_range(self) -> int: ...
    @property
    def global_from_lidar(self) -> tuple[float, ...]: ...
    @property
    def cameras(self) -> tuple[CameraRow, ...]: ...
    @property
    def labelled(self) -> bool: ...
    @property
    def objects(self) -> int: ...


class SweepStatistics(BaseModel, frozen=True):
    """Some sweeps in numbers.

    Attributes:
        frames: that the numbers are of.
        points_least, points_median: points a frame.
        points_least_frame: the token of the frame with the least.
        seen_share: of all points of the frames with that camera, the share that it sees, by channel.
        beyond_range_share: of all points, those beyond the grid's range, which stand in its border cells.
    """

    frames: int
    points_least: int
    points_median: int
    points_least_frame: str
    seen_share: dict[str, float]
    beyond_range_share: float


def sweep_statistics(sweeps: Sequence[Sweep]) -> SweepStatistics | None:
    """The numbers of some sweeps; None of none."""
    if not sweeps:
        return None
    points, seen = Counter[str](), Counter[str]()
    for sweep in sweeps:
        for camera in sweep.cameras:
            points[camera.channel] += sweep.points
            seen[camera.channel] += camera.seen
    least = min(sweeps, key=lambda sweep: sweep.points)
    return SweepStatistics(
        frames=len(sweeps),
        points_least=least.points,
        points_median=int(np.median([sweep.points for sweep in sweeps])),
        points_least_frame=least.token,
        seen_share={channel: seen[channel] / total if total else 0.0 for channel, total in points.items()},
        beyond_range_share=sum(sweep.beyond_range for sweep in sweeps) / max(sum(s.points for s in sweeps), 1),
    )


def sweep_warnings(sweeps: Sequence[Sweep]) -> tuple[str, ...]:
    """Warn of what should be looked into, one sentence for each kind, however many frames it is of."""
    found = sweep_statistics(sweeps)
    if found is None:
        return ()
    blind = Counter(camera.channel for sweep in sweeps for camera in sweep.cameras if camera.seen == 0)
    warnings = [
        f"{channel} sees no point in {count} of {found.frames} frames: its calibration may be wrong, it looks where the"
        " LiDAR does not, or its images are of one colour"
        for channel, count in blind.items()
    ]
    lying = Counter(
        camera.channel
        for sweep in sweeps
        for camera in sweep.cameras
        if camera.seen and not is_upright(np.reshape(camera.camera_from_lidar, (4, 4)))
    )
    warnings += [
        f"{channel} lies on its side or its head in {count} of {found.frames} frames: its pose may be wrong, the"
        " inverse of the one that is meant or a quaternion (x, y, z, w) in place of (w, x, y, z) for example"
        for channel, count in lying.items()
    ]
    together = Counter(pair for sweep in sweeps for pair in _in_one_place(sweep.cameras))
    warnings += [
        f"{one} and {other} stand in one place and look the same way in {count} of {found.frames} frames: the"
        " calibration of one may be a copy of the other's"
        for (one, other), count in together.items()
    ]
    warnings += cut_off({sweep.token: sweep.points for sweep in sweeps})
    if tilted := int((_tilts(sweeps) > _TILT).sum()):
        warnings.append(
            f"{tilted} of {found.frames} frames have a LiDAR that is tilted by more than {_TILT:.0f} degrees against"
            " the rest: their poses may be wrong, quaternions (x, y, z, w) in place of (w, x, y, z) for example"
        )
    points, voxels = sum(sweep.points for sweep in sweeps), sum(sweep.voxels for sweep in sweeps)
    warnings += odd_grid(points, voxels, found.beyond_range_share, found.points_median, "--grid")
    return (*warnings, *label_warnings(sweeps))


def cut_off(points: Mapping[str, int]) -> list[str]:
    """Warn of sweeps that have clearly fewer points than others, in one sentence, or none.

    Args:
        points: of each sweep, by the token of its frame.
    """
    if len(points) < _ENOUGH:
        return []
    counts = np.array(list(points.values()))
    median, least = int(np.median(counts)), min(points, key=lambda token: points[token])
    spread = max(_OUTLIER * float(np.median(np.abs(counts - np.median(counts)))), _LEAST_LOSS * median)
    few = int((counts < median - spread).sum())
    if not few:
        return []
    return [
        f"{few} of {len(points)} frames have clearly fewer points than the median of {median:,}, the least has"
        f" {points[least]:,} (frame {least}): is its point file cut off?"
    ]


def label_warnings(sweeps: Sequence[Sweep]) -> tuple[str, ...]:
    """Warn of frames that have labels, none of which is of a class."""
    labelled = [sweep for sweep in sweeps if sweep.labelled]
    empty = [sweep.token for sweep in labelled if not sweep.objects]
    if not empty:
        return ()
    if len(empty) < len(labelled):
        return (
            f"{len(empty)} of {len(labelled)} frames with labels have not one labelled point, the first is {empty[0]}:"
            " are their raw classes others than those that the taxonomy names, or without its `instance_divisor`?",
        )
    return (
        f"not one point of {len(labelled)} frames with labels is labelled, and nothing can be learned from them: does"
        " `raw_to_id` of the taxonomy name the raw classes of the label files, and is `instance_divisor` or"
        " `class_modulus` that of their labels?",
    )


def _in_one_place(cameras: Sequence[CameraRow]) -> list[tuple[str, str]]:
    """Pairs of cameras nearer than two lenses can be, that look the same way."""
    pose = {camera.channel: np.array(camera.camera_from_lidar) for camera in cameras}
    return [pair for pair in combinations(pose, 2) if np.allclose(pose[pair[0]], pose[pair[1]], rtol=0, atol=_SAME)]


def _tilts(sweeps: Sequence[Sweep]) -> NDArray[np.float64]:
    """Angles (F,) in degrees between the LiDAR's z axis in each frame and its mean: whatever way up the world is."""
    axes = np.array([sweep.global_from_lidar for sweep in sweeps], np.float64).reshape(-1, 4, 4)[:, :3, 2]
    mean = axes.mean(0)
    cosine = axes @ mean / max(float(np.linalg.norm(mean)), 1e-9)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))
