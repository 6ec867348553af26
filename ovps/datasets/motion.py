"""Poses that no vehicle has: most come from a rotation whose numbers stand in another order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.clocks import odd_unit
from ovps.errors import listed
from ovps.frame import Frame

STEP = 1.0  # metres that a sensor moves before its direction is judged: positions of one that stands tremble
UPWARDS = 0.5  # share of its way along its own z axis, of a sensor that moves up or down
TIPPED = 60.0  # degrees between two of its z axes, of a sensor that falls over
FASTEST = 100.0  # metres a second, of a vehicle
_TICK = 1e-3  # seconds: time stamps that are alike may be that far apart


def odd_motion(frames: Sequence[Frame]) -> list[str]:
    """Warn of scenes in which sensors move as on no vehicle: along their z axis, tipping over, or too fast.

    Whatever frame the world is in, a vehicle moves across the z axis of its LiDAR, and does not fall over. Handheld and
    flying sensors may.

    Args:
        frames: scene after scene, each in its order.
    """
    odd = [
        scene
        for scene, members in groupby(frames, key=lambda frame: frame.scene)
        if _is_odd(np.array([frame.global_from_lidar for frame in members]))
    ]
    tipped = [
        f"in {listed(odd)} the LiDAR moves along its own z axis, or its z axis tips over, as on no vehicle: are"
        " rotations written w, x, y, z, and are poses from the sensor to the world?"
    ]
    return (tipped if odd else []) + leaps(frames) + _jumps(frames)


def leaps(frames: Sequence[Frame]) -> list[str]:
    """Warn of sweeps between which no vehicle gets so far in their time, in one sentence, or none.

    Times tremble: a step counts as long as the usual one of its scene at least. Where all of them are of another unit
    nothing is said.

    Args:
        frames: scene after scene, each in its order.
    """
    found: list[tuple[float, float, Frame, Frame]] = []  # metres, metres a second
    steps = 0
    for _, members in groupby(frames, key=lambda frame: frame.scene):
        drive = list(members)
        times = np.diff([frame.timestamp_us for frame in drive]) / 1e6
        steps += len(times)
        if not len(times) or np.median(times) <= 0 or odd_unit(drive):
            continue
        way = np.linalg.norm(np.diff([frame.global_from_lidar[:3, 3] for frame in drive], axis=0), axis=1)
        speed = way / np.maximum(times, np.median(times))
        pairs = zip(way, speed, pairwise(drive), strict=True)
        found += [(float(far), float(fast), *pair) for far, fast, pair in pairs if far > STEP and fast > FASTEST]
    if not found:
        return []
    far, _, one, other = found[0]
    return [
        f"in {listed(dict.fromkeys(frame.scene for *_, frame in found))} the vehicle would drive at up to"
        f" {max(fast for _, fast, *_ in found):,.0f} m/s, in {len(found)} of {steps} steps between sweeps, the first of"
        f" {far:,.3g} m from {one.token} to {other.token}: are poses in metres, times in the right unit, and all of one"
        " source?"
    ]


def _jumps(frames: Sequence[Frame]) -> list[str]:
    """Warn of cameras that are elsewhere for some of the images than the time since the sweep allows."""
    seen: dict[tuple[str, str], list[tuple[float, NDArray[np.float64]]]] = {}
    for frame in frames:
        for camera in frame.cameras:
            pose, apart = camera.camera_from_lidar, abs(camera.timestamp_us - frame.timestamp_us) / 1e6
            place = -pose[:3, :3].T @ pose[:3, 3]  # of the camera, as the LiDAR sees it
            seen.setdefault((frame.scene, camera.channel), []).append((apart, place))
    found = []
    for (scene, channel), known in seen.items():
        places = np.array([place for _, place in known])
        way = np.linalg.norm(places - np.median(places, axis=0), axis=1)
        fast = (way > STEP) & (way > FASTEST * np.maximum([apart for apart, _ in known], _TICK))
        if fast.any():
            found.append(
                f"in {scene} the vehicle jumps between sweep and image of {channel} in {fast.sum()} of {len(known)}"
                f" frames, by up to {way[fast].max():.3g} m: some poses may be of another time or source"
            )
    return found


def _is_odd(poses: NDArray[np.float64]) -> bool:
    up, place = poses[:, :3, 2], poses[:, :3, 3]
    tip = np.degrees(np.arccos(np.clip(up @ up[0], -1, 1))).max()
    way = along = 0.0
    last = 0
    for number in range(1, len(poses)):
        step = place[number] - place[last]
        if (length := float(np.linalg.norm(step))) >= STEP:
            way, along, last = way + length, along + abs(float(step @ up[last])), number
    return bool(tip > TIPPED or along > UPWARDS * way)
