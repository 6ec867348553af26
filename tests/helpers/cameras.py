"""Cameras that exist only as numbers."""

from __future__ import annotations

import numpy as np

from ovps.frame import Camera

# rows: camera axes (x right, y down, z forward) in a LiDAR frame with x right, y front, z up
LOOKING_AHEAD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def make_camera(
    position: tuple[float, float, float] = (0.0, 0.0, 0.0),
    yaw_deg: float = 0.0,
    width: int = 1600,
    height: int = 900,
    focal: float = 1266.0,
    image_path: str = "none.jpg",
) -> Camera:
    """A pinhole camera at `position` in the LiDAR frame, looking `yaw_deg` to the left of y (front)."""
    c, s = np.cos(np.deg2rad(yaw_deg)), np.sin(np.deg2rad(yaw_deg))
    lidar_from_yawed = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = LOOKING_AHEAD @ lidar_from_yawed.T
    matrix[:3, 3] = -matrix[:3, :3] @ np.array(position)
    intrinsics = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Camera("CAM_FRONT", image_path, width, height, intrinsics, matrix, 0)
