"""Likely mistakes of a calibration under which a camera sees next to nothing, or lies on its side.

Each common mistake has a transform that would be right if it had been made. One that makes the camera stand upright and
see clearly more of the points is named. That is a guess for people to check, never a correction.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ovps.frame import Camera
from ovps.geometry.projection import project

NOTHING = 0.01  # of the points: what a camera sees that sees nothing
_ENOUGH = 0.02  # of the points: the least that any camera beside a LiDAR sees
_UPRIGHT = 0.7  # cosine between the camera's down and the LiDAR's
_AS_STRAIGHT = 0.02  # of that cosine
_AWAY_M = 10.0  # no camera of a car or a lorry is farther from its LiDAR
_NAMED = 3
_CAMERA_FROM_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])

INVERSE = "the transform is the inverse of the one that is meant: exchange `from` and `to`"
AXES = "the camera's axes are swapped, x forward, y left, z up: a camera has x right, y down, z forward"
BOTH = "the transform is the inverse of the one that is meant, and the camera's axes are x forward, y left, z up"
QUATERNION = "the quaternion is written x, y, z, w: w comes first"
MILLIMETRES = "the translation is in millimetres"
BEHIND = "the camera looks the other way: every point lies behind it"


def seen_share(xyz: NDArray[np.floating], camera: Camera) -> float:
    """Share of the points (N, 3) that lie inside the image, hidden ones too."""
    return float(project(xyz, camera).inside.mean())


def stands_upright(camera: Camera) -> bool:
    """Tell whether the camera's down is the LiDAR's, as that of a camera on a vehicle is."""
    return is_upright(camera.camera_from_lidar)


def is_upright(camera_from_lidar: NDArray[np.floating]) -> bool:
    """Tell of a transform (4, 4) from a LiDAR with z up whether it is that of a camera that stands upright."""
    return bool(-camera_from_lidar[1, 2] > _UPRIGHT)


def likely_mistake(xyz: NDArray[np.floating], camera: Camera) -> str | None:
    """Say what is likely wrong with the pose of a camera; None if it sees points, stands upright and not far away.

    Mistakes that would explain it equally well are all named: a rig may be symmetric.

    Args:
        xyz: (N, 3), metres, LiDAR frame with z up.
    """
    share, distance = seen_share(xyz, camera), float(np.linalg.norm(camera.camera_from_lidar[:3, 3]))
    if share <= NOTHING:
        state = "sees next to nothing"
    elif not stands_upright(camera):
        state = "lies on its side or its head"
    elif distance > _AWAY_M:
        state = f"stands {distance:.0f} m from the LiDAR"
    else:
        return None
    others = {
        name: replace(camera, camera_from_lidar=matrix)
        for name, matrix in _if_mistaken(camera.camera_from_lidar).items()
    }
    shares = {name: seen_share(xyz, other) for name, other in others.items() if stands_upright(other)}
    straight = max((-others[name].camera_from_lidar[1, 2] for name in shares), default=0.0)
    named = [
        f"{name} (it would then see {share:.0%} of the points)"
        for name, share in shares.items()
        if share > _ENOUGH and -others[name].camera_from_lidar[1, 2] > straight - _AS_STRAIGHT
    ]
    if named:
        return f"it {state}. Likely {'; or '.join(named[:_NAMED])}"
    if not (project(xyz, camera).depth > 0).any():
        return f"it {state}. Likely {BEHIND}"
    return f"it {state}, and no common mistake explains it: compare its transform with the rig"


def _if_mistaken(given: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The transform that would be right, by the mistake that was made."""
    turned = np.linalg.inv(given)
    small = given.copy()
    small[:3, 3] /= 1000
    far = {MILLIMETRES: small} if np.linalg.norm(given[:3, 3]) > _AWAY_M else {}
    return far | {
        INVERSE: turned,
        AXES: _CAMERA_FROM_BODY @ given,
        QUATERNION: _reordered(given),
        BOTH: _CAMERA_FROM_BODY @ turned,
    }


def _reordered(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transform (4, 4) whose quaternion, written x, y, z, w, was read as w, x, y, z."""
    x, y, z, w = Rotation.from_matrix(given[:3, :3]).as_quat()
    right = given.copy()
    right[:3, :3] = Rotation.from_quat([w, x, y, z]).as_matrix()  # read w, x, y, z; meant x, y, z, w
    return right
