"""The one contract between data sets and the rest of ovps.

A `Frame` is a plain, picklable record of where one key frame's files lie and how its sensors
stood. A data set (`ovps.datasets`) makes frames and reads what they point to.

Coordinate frames: LiDAR frame in metres, as the data set gives it (nuScenes: x right, y front, z up).
Camera frame: x right, y down, z forward. Pixel (u, v) is the centre of column u, row v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.errors import FrameError


@dataclass(frozen=True, eq=False)
class Camera:
    """One image and its calibration.

    Attributes:
        channel: sensor name, e.g. `CAM_FRONT`.
        image_path: absolute path of the image.
        width, height: pixels.
        intrinsics: (3, 3) float64, pixels.
        camera_from_lidar: (4, 4) float64, metres; LiDAR frame at the LiDAR's time stamp to camera
            frame at the camera's time stamp, through each sensor's own ego pose.
        timestamp_us: microseconds.
        undistorted: the intrinsics are those that the image is brought to, not those that were calibrated.
    """

    channel: str
    image_path: str
    width: int
    height: int
    intrinsics: NDArray[np.float64]
    camera_from_lidar: NDArray[np.float64]
    timestamp_us: int
    undistorted: bool = False

    def __post_init__(self) -> None:
        if self.intrinsics.shape != (3, 3) or self.camera_from_lidar.shape != (4, 4):
            raise FrameError(
                f"calibration of {self.channel} has shapes {self.intrinsics.shape} and {self.camera_from_lidar.shape},"
                " expected (3, 3) and (4, 4)",
                path=self.image_path,
            )


@dataclass(frozen=True, eq=False)
class EarlierSweep:
    """A sweep of the same LiDAR before that of a frame.

    Attributes:
        points_path: absolute path of the point file.
        lidar_from_earlier: (4, 4) float64, metres; from the LiDAR at the time of this sweep to the LiDAR at the time of
            the frame, through the ego poses of both.
        timestamp_us: microseconds.
    """

    points_path: str
    lidar_from_earlier: NDArray[np.float64]
    timestamp_us: int


@dataclass(frozen=True, eq=False)
class Frame:
    """One key frame: files and calibration, nothing loaded.

    Attributes:
        dataset: its name, e.g. `nuscenes`.
        version: of the data set, e.g. `v1.0-trainval`.
        subset: the data set's own split this frame belongs to, e.g. `train` or `val`.
        scene: name of the drive; frames of one scene are consecutive by `index`.
        token: unique id within the data set (nuScenes: the LiDAR's sample_data token).
        index: position within the scene.
        timestamp_us: of the LiDAR.
        points_path: absolute path of the point file.
        labels_path: absolute path of the panoptic labels, None where there are none.
        cameras: in the data set's order.
        global_from_lidar: (4, 4) float64, metres.
        earlier: sweeps to join to the frame's own as input, the latest first; fewer than asked for, or none, where a
            scene begins.
    """

    dataset: str
    version: str
    subset: str
    scene: str
    token: str
    index: int
    timestamp_us: int
    points_path: str
    labels_path: str | None
    cameras: tuple[Camera, ...]
    global_from_lidar: NDArray[np.float64]
    earlier: tuple[EarlierSweep, ...] = ()


@dataclass(frozen=True, eq=False)
class PointCloud:
    """One sweep in the LiDAR frame.

    Attributes:
        xyz: (N, 3) float32, metres.
        intensity: (N,) float32 in 0..1.
    """

    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.xyz)
        if self.xyz.shape != (n, 3) or self.intensity.shape != (n,):
            raise FrameError(f"points {self.xyz.shape} and intensities {self.intensity.shape}, expected (N, 3), (N,)")

    def __len__(self) -> int:
        return len(self.xyz)
