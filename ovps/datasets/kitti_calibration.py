"""`calib.txt`, `poses.txt` and `times.txt` of a KITTI odometry sequence.

calib.txt has a line `NAME: 12 numbers` for each of P0..P3, the (3, 4) projections of the rectified cameras from the
frame of camera 0, and for Tr, the (3, 4) transform from the LiDAR to camera 0. P = K [I | t]: the cameras of a
rectified rig look the same way, and t is where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.clocks import MOST_US
from ovps.errors import DatasetError
from ovps.geometry.calibration import rigid_fault
from ovps.shortage import faults

Matrix = NDArray[np.float64]

AGAIN = "Take calib.txt again from data_odometry_calib.zip, which has P0 to P3 and Tr for every sequence"
_RAW = {
    "Tr_velo_to_cam": "calibrations of KITTI's object benchmark, which names it Tr_velo_to_cam",
    "calib_time": "a calibration of KITTI raw",
}


@dataclass(frozen=True, eq=False)
class Pinhole:
    """A camera of the rig.

    Attributes:
        intrinsics: (3, 3), pixels.
        camera_from_lidar: (4, 4), metres.
    """

    intrinsics: Matrix
    camera_from_lidar: Matrix


@dataclass(frozen=True, eq=False)
class Calibration:
    """All cameras of a sequence.

    Attributes:
        cameras: by number, 0 to 3; those that the file names.
        camera0_from_lidar: (4, 4), metres.
    """

    cameras: dict[int, Pinhole]
    camera0_from_lidar: Matrix


def read_calibration(path: Path) -> Calibration:
    """Read a calib.txt.

    Raises:
        DatasetError: missing or not text; no Tr, which is no rotation; lines without twelve numbers.
    """
    values: dict[str, Matrix] = {}
    names = []
    for number, line in read_lines(path, AGAIN):
        name, _, numbers = line.partition(":")
        names.append(name.strip())
        if name.strip() not in ("P0", "P1", "P2", "P3", "Tr"):
            continue
        if name.strip() in values:
            raise DatasetError(f"line {number} is a second {name.strip()}", path=path, remedy=AGAIN)
        values[name.strip()] = _matrix(numbers, path, f"{name.strip()}, line {number},", AGAIN)
    if "Tr" not in values:
        found = next((f": it is of {what}" for key, what in _RAW.items() if key in names), "")
        raise DatasetError(
            f"the calibration has no line Tr, from the LiDAR to camera 0{found}",
            path=path,
            remedy=f"{AGAIN}. Of your own, add `Tr:` and the 12 numbers of R_rect @ [R | t] of the LiDAR",
        )
    camera0_from_lidar = homogeneous(values["Tr"])
    fault = rigid_fault(camera0_from_lidar)
    if fault:
        raise DatasetError(f"Tr {fault}", path=path, remedy=AGAIN)
    cameras = {}
    for name, projection in values.items():
        if name != "Tr":
            cameras[int(name[1])] = _pinhole(projection, camera0_from_lidar, path, name)
    return Calibration(cameras, camera0_from_lidar)


def read_poses(path: Path) -> list[Matrix]:
    """Read a poses.txt: one (4, 4) a line, metres, from camera 0 of that scan to camera 0 of the first.

    Raises:
        DatasetError: unreadable, a line without twelve numbers, or one that is no pose.
    """
    again = "Take poses.txt again from data_odometry_poses.zip or from data_odometry_labels.zip, or remove it"
    poses = []
    for number, line in read_lines(path, again):
        pose = homogeneous(_matrix(line, path, f"line {number}", again))
        fault = rigid_fault(pose)
        if fault:
            raise DatasetError(f"the pose in line {number} {fault}", path=path, remedy=again)
        poses.append(pose)
    return poses


def read_times(path: Path) -> list[tuple[int, int]]:
    """Read a times.txt: the number of each line in the file, from 1, and its microseconds.

    Raises:
        DatasetError: unreadable, or a line without a number of seconds that a clock may say.
    """
    again = "Take times.txt again from data_odometry_calib.zip, or remove it"
    times = []
    for number, line in read_lines(path, again):
        try:
            time_us = round(float(line) * 1e6)
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"line {number} is no number of seconds", path=path, remedy=again) from error
        if abs(time_us) >= MOST_US:
            raise DatasetError(f"line {number} is {line.strip()} seconds, no time of a scan", path=path, remedy=again)
        times.append((number, time_us))
    return times


def read_lines(path: Path, again: str) -> list[tuple[int, str]]:
    """Read the lines of a small text file that are not blank, and their numbers from 1.

    A byte order mark and other line ends are no matter.

    Raises:
        DatasetError: missing, a folder, not to be read, or no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except faults(OSError) as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}", path=path, remedy=again) from error
    except UnicodeDecodeError as error:
        raise DatasetError("not text", path=path, remedy=again) from error
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def homogeneous(matrix: Matrix) -> Matrix:
    """Complete a (3, 4) to a (4, 4)."""
    return np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])


def _matrix(text: str, path: Path, what: str, again: str) -> Matrix:
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError as error:
        raise DatasetError(f"{what} holds something that is no number", path=path, remedy=again) from error
    if values.shape != (12,) or not np.isfinite(values).all():
        raise DatasetError(f"{what} has {values.size} numbers, expected 12 finite ones", path=path, remedy=again)
    return values.reshape(3, 4)


def _pinhole(projection: Matrix, camera0_from_lidar: Matrix, path: Path, name: str) -> Pinhole:
    """K [I | t] taken apart."""
    intrinsics = projection[:, :3]
    if abs(np.linalg.det(intrinsics)) < 1e-6:
        raise DatasetError(f"{name} is no projection: its left part cannot be inverted", path=path, remedy=AGAIN)
    camera_from_camera0 = np.eye(4)
    camera_from_camera0[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
    return Pinhole(intrinsics, camera_from_camera0 @ camera0_from_lidar)
