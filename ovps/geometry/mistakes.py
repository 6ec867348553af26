"""Likely mistakes of a calibration under which a camera sees next to nothing, or lies on its side.

Each common mistake has a transform that would be right if it had been made. One that makes the camera stand upright and
see clearly more of the points is named. That is a guess for people to check, never a correction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
_HALF_WITHIN_M, _HALF_BEYOND_M = 3.0, 300.0  # of the points: 5 to 20 m from a LiDAR on a vehicle
_ELSEWHERE_M = 15.0  # from the LiDAR
_ELSEWHERE = 4.0  # times what half of the points lie within; 2.4 where all are in front
_CAMERA_FROM_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])

INVERSE = "the transform is the inverse of the one that is meant: exchange `from` and `to`"
AXES = "the camera's axes are swapped, x forward, y left, z up: a camera has x right, y down, z forward"
BOTH = "the transform is the inverse of the one that is meant, and the camera's axes are x forward, y left, z up"
QUATERNION = "the quaternion is written x, y, z, w: w comes first"
MILLIMETRES = "the translation is in millimetres: divide it by 1000"
BEHIND = "the camera looks the other way: every point lies behind it"


@dataclass(frozen=True, eq=False)
class Mount:
    """The transform of a camera as a file has it, which is where mistakes are made; others may follow on it.

    Attributes:
        mount_from_lidar: (4, 4), metres: from the points to the frame at the transform's other end.
        from_camera: it takes coordinates in the camera to that frame; False: from there to the camera.
        quaternion: its rotation is written as one.
    """

    mount_from_lidar: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    from_camera: bool = False
    quaternion: bool = True


def seen_share(xyz: NDArray[np.floating], camera: Camera) -> float:
    """Share of the points (N, 3) that lie inside the image, hidden ones too."""
    return float(project(xyz, camera).inside.mean())


def stands_upright(camera: Camera) -> bool:
    """Tell whether the camera's down is the LiDAR's, as that of a camera on a vehicle is."""
    return is_upright(camera.camera_from_lidar)


def is_upright(camera_from_lidar: NDArray[np.floating]) -> bool:
    """Tell of a transform (4, 4) from a LiDAR with z up whether it is that of a camera that stands upright."""
    return bool(-camera_from_lidar[1, 2] > _UPRIGHT)


def likely_mistake(xyz: NDArray[np.floating], camera: Camera, mount: Mount | None = None) -> str | None:
    """Say what is likely wrong with the pose of a camera; None if it sees points, stands upright and not far away.

    Mistakes that would explain it equally well are all named: a rig may be symmetric.

    Args:
        xyz: (N, 3), metres, LiDAR frame with z up.
        mount: how the camera's transform is written; None: from the LiDAR to the camera.
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
        for name, matrix in _if_mistaken(camera.camera_from_lidar, mount or Mount()).items()
    }
    shares = {name: seen_share(xyz, other) for name, other in others.items() if stands_upright(other)}
    straight = max((-others[name].camera_from_lidar[1, 2] for name in shares), default=0.0)
    named = [
        f"{name} ({share:.0%} of the points would then lie inside its image)"
        for name, share in shares.items()
        if share > _ENOUGH and -others[name].camera_from_lidar[1, 2] > straight - _AS_STRAIGHT
    ]
    if named:
        return f"it {state}. Likely {'; or '.join(named[:_NAMED])}"
    if not (project(xyz, camera).depth > 0).any():
        return f"it {state}. Likely {BEHIND}"
    return f"it {state}, and no common mistake explains it: compare its transform with the rig"


def _if_mistaken(camera_from_lidar: NDArray[np.float64], mount: Mount) -> dict[str, NDArray[np.float64]]:
    """The `camera_from_lidar` that would be right, by the mistake that was made."""
    given = camera_from_lidar @ np.linalg.inv(mount.mount_from_lidar)
    written = np.linalg.inv(given) if mount.from_camera else given

    def read(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.linalg.inv(matrix) if mount.from_camera else matrix

    small = written.copy()
    small[:3, 3] /= 1000
    meant: dict[str, NDArray[np.float64]] = (
        {MILLIMETRES: read(small)} if np.linalg.norm(written[:3, 3]) > _AWAY_M else {}
    )
    meant |= {INVERSE: np.linalg.inv(given), AXES: np.asarray(_CAMERA_FROM_BODY @ given, np.float64)}
    meant |= {QUATERNION: read(_reordered(written))} if mount.quaternion else {}
    meant |= {BOTH: _CAMERA_FROM_BODY @ np.linalg.inv(given)}
    return {name: matrix @ mount.mount_from_lidar for name, matrix in meant.items()}


def _reordered(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transform (4, 4) whose quaternion, written x, y, z, w, was read as w, x, y, z."""
    x, y, z, w = Rotation.from_matrix(given[:3, :3]).as_quat()
    right = given.copy()
    right[:3, :3] = Rotation.from_quat([w, x, y, z]).as_matrix()  # read w, x, y, z; meant x, y, z, w
    return right


def lies_elsewhere(xyz: NDArray[np.floating]) -> str | None:
    """Say that the points (N, 3) of a sweep, in metres, lie around another place than the origin; None if they do not.

    Those of a LiDAR lie around it, or before it, most of them near. In a frame of a map they lie around a place in it.
    """
    flat = xyz[np.isfinite(xyz).all(axis=1), :2].astype(np.float64)
    if not len(flat):
        return None
    place = np.median(flat, axis=0)
    away, within = float(np.hypot(*place)), float(np.median(np.hypot(*(flat - place).T)))
    if away < max(_ELSEWHERE_M, _ELSEWHERE * within):
        return None
    return (
        f"half of the points of a sweep lie within {within:.0f} m of ({place[0]:.0f}, {place[1]:.0f}), {away:,.0f} m"
        " from the origin: they seem to be in the frame of a map, or of the drive's start, and are to be in the"
        " LiDAR's own. Take each sweep back by the LiDAR's pose at its time"
    )


def likely_unit(xyz: NDArray[np.floating]) -> str | None:
    """Say of points (N, 3) that cannot be in metres what they are likely in; None if they can."""
    finite = xyz[np.isfinite(xyz).all(axis=1)].astype(np.float64)
    usual = float(np.median(np.linalg.norm(finite, axis=1))) if len(finite) else 0.0
    for factor, unit in ((1000, "millimetres"), (100, "centimetres")):
        if usual > _HALF_BEYOND_M and usual / factor > _HALF_WITHIN_M:
            return f"half of the points lie within {usual:,.0f}, as if they were in {unit}: divide x, y, z by {factor}"
    return None
