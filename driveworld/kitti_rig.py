"""The sensors of a KITTI car: a LiDAR of 64 beams on the roof and one colour camera that looks ahead.

LiDAR frame: x forward, y left, z up. Camera frame: x right, y down, z forward.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from driveworld.rig import Matrix, pose_matrix

# the upper 32 beams a third of a degree apart, the lower 32 half a degree
BEAMS: NDArray[np.float64] = np.deg2rad(np.concatenate([np.linspace(-24.9, -8.9, 32), np.linspace(-8.5, 2.0, 32)]))
IMAGE_SIZE = (960, 290)
"""Width and height, of KITTI's shape; a pixel is as wide an angle as in the drive world in nuScenes format."""

_FOCAL = 721.5377 / 1242  # of the image's width
_CENTER = (609.5593 / 1242, 172.854 / 375)
_BASELINE_M = 0.06  # camera 2 stands to the left of camera 0

EGO_FROM_LIDAR: Matrix = pose_matrix((0.76, 0.0, 1.73), (0.99998, 0.001, -0.005, 0.002))
EGO_FROM_CAMERA0: Matrix = pose_matrix((1.03, -0.06, 1.65), (0.5, -0.5, 0.5, -0.5))
CAMERA0_FROM_LIDAR: Matrix = np.linalg.inv(EGO_FROM_CAMERA0) @ EGO_FROM_LIDAR


def intrinsics(size: tuple[int, int]) -> Matrix:
    """Camera matrix (3, 3), pixels, for an image of (width, height)."""
    focal = _FOCAL * size[0]
    return np.array([[focal, 0, _CENTER[0] * size[0]], [0, focal, _CENTER[1] * size[1]], [0, 0, 1]])


def ego_from_camera2() -> Matrix:
    """Pose of camera 2 in the ego frame, (4, 4), metres."""
    camera0_from_camera2 = np.eye(4)
    camera0_from_camera2[0, 3] = -_BASELINE_M
    return EGO_FROM_CAMERA0 @ camera0_from_camera2


def calibration(size: tuple[int, int]) -> str:
    """The text of calib.txt: P0 to P3 and Tr; cameras 1 and 3, which take no pictures, stand 0.5 m to the right."""
    matrix = intrinsics(size)
    lines = []
    for number, x in enumerate((0.0, -0.5, _BASELINE_M, _BASELINE_M - 0.5)):
        projection = matrix @ np.array([[1, 0, 0, x], [0, 1, 0, 0], [0, 0, 1, 0]])
        lines.append(f"P{number}: {numbers(projection)}")
    return "\n".join([*lines, f"Tr: {numbers(CAMERA0_FROM_LIDAR[:3])}"]) + "\n"


def numbers(matrix: Matrix) -> str:
    """The numbers of a matrix, row by row, as KITTI writes them."""
    return " ".join(f"{value:.12e}" for value in matrix.ravel())
