"""Poses that no vehicle has: most come from a rotation whose numbers stand in another order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ovps.errors import listed
from ovps.frame import Frame

STEP = 1.0  # metres that a sensor moves before its direction is judged: positions of one that stands tremble
UPWARDS = 0.5  # share of its way along its own z axis, of a sensor that moves up or down
TIPPED = 60.0  # degrees between two of its z axes, of a sensor that falls over


def odd_motion(frames: Sequence[Frame]) -> list[str]:
    """Warn of scenes in which the LiDAR moves along its own z axis, or its z axis tips over; one sentence, or none.

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
    if not odd:
        return []
    return [
        f"in {listed(odd)} the LiDAR moves along its own z axis, or its z axis tips over, as on no vehicle: are"
        " rotations written w, x, y, z, and are poses from the sensor to the world?"
    ]


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
