"""LiDAR points as pixels: the pinhole model, by the rules of nuscenes-devkit's `map_pointcloud_to_image`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.frame import Camera

MIN_DEPTH_M = 1.0  # the devkit's: nearer returns are of the car that carries the sensors
BORDER_PX = 1.0  # the devkit's margin


@dataclass(frozen=True, eq=False)
class Projection:
    """N points seen by one camera.

    Attributes:
        uv: (N, 2) float64, pixels; NaN for points in or behind the camera's plane.
        depth: (N,) float64, metres along the camera's axis.
        inside: (N,) bool: deeper than 1 m and more than 1 px inside the image. Occlusion is not looked at.
    """

    uv: NDArray[np.float64]
    depth: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def far_to_near(self, seen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Order the rows of the points that are seen, (N,) bool, as they are painted: the nearest last."""
        rows = np.flatnonzero(seen)
        return rows[np.argsort(-self.depth[rows], kind="stable")]


def project(xyz: NDArray[np.floating], camera: Camera) -> Projection:
    """Project points (N, 3), LiDAR frame, metres, into an image; computed in float64.

    Raises:
        ValueError: `xyz` is not (N, 3).
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(f"points of shape {xyz.shape}, expected (N, 3)")
    rotation, translation = camera.camera_from_lidar[:3, :3], camera.camera_from_lidar[:3, 3]
    in_camera = xyz.astype(np.float64) @ rotation.T + translation
    depth = in_camera[:, 2]
    in_front = depth > 0
    uv = np.full((len(xyz), 2), np.nan)
    uv[in_front] = (in_camera[in_front] @ camera.intrinsics.T)[:, :2] / depth[in_front, None]
    # comparisons with NaN are false: what is behind the camera is not inside
    low, high = BORDER_PX, np.array([camera.width, camera.height]) - BORDER_PX
    inside = (depth > MIN_DEPTH_M) & ((uv > low) & (uv < high)).all(axis=1)
    return Projection(uv, depth, inside)
