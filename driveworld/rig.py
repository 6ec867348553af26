"""The sensors of a nuScenes vehicle and how it drives.

Ego frame: x forward, y left, z up, origin on the ground under the rear axle. Quaternions are (w, x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyquaternion import Quaternion

Matrix = NDArray[np.float64]

# Calibration of one nuScenes vehicle; focal length and centre in pixels of a 1600 x 900 image.
_REFERENCE_SIZE = (1600, 900)


@dataclass(frozen=True)
class Sensor:
    """One sensor.

    Attributes:
        translation, rotation: ego from sensor, metres and quaternion.
        delay_us: when it fires, microseconds relative to the LiDAR.
        focal, center: pixels at 1600 x 900; zero for the LiDAR.
    """

    channel: str
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    delay_us: int
    focal: float = 0.0
    center: tuple[float, float] = (0.0, 0.0)

    @property
    def ego_from_sensor(self) -> Matrix:
        """Pose of the sensor in the ego frame, (4, 4), metres."""
        return pose_matrix(self.translation, self.rotation)

    def intrinsics(self, size: tuple[int, int]) -> Matrix:
        """Camera matrix (3, 3), pixels, for an image of (width, height)."""
        sx, sy = size[0] / _REFERENCE_SIZE[0], size[1] / _REFERENCE_SIZE[1]
        return np.array(
            [[self.focal * sx, 0, self.center[0] * sx], [0, self.focal * sy, self.center[1] * sy], [0, 0, 1]]
        )


LIDAR = Sensor("LIDAR_TOP", (0.943713, 0.0, 1.84023), (0.70779551, -0.00649224, 0.01064621, -0.70630729), 0)
CAMERAS: tuple[Sensor, ...] = (
    Sensor(
        "CAM_FRONT",
        (1.700791, 0.015946, 1.510958),
        (0.49980154, -0.50303162, 0.4997798, -0.49737084),
        -35_491,
        1266.4172,
        (816.267, 491.507),
    ),
    Sensor(
        "CAM_FRONT_RIGHT",
        (1.550848, -0.493405, 1.495748),
        (0.20603479, -0.20269405, 0.68245078, -0.67136109),
        -27_612,
        1260.8474,
        (807.968, 495.3344),
    ),
    Sensor(
        "CAM_BACK_RIGHT",
        (1.014878, -0.480568, 1.562395),
        (0.1228098, -0.13240084, -0.70043058, 0.69049603),
        -20_058,
        1259.5137,
        (807.2529, 501.1958),
    ),
    Sensor(
        "CAM_BACK",
        (0.028326, 0.003451, 1.579103),
        (0.50378727, -0.4974025, -0.49418502, 0.50454961),
        -10_426,
        809.221,
        (829.2196, 481.7784),
    ),
    Sensor(
        "CAM_BACK_LEFT",
        (1.035691, 0.484795, 1.59097),
        (0.69241856, -0.70316194, -0.11648343, 0.11203318),
        -504,
        1256.7415,
        (792.1126, 492.7757),
    ),
    Sensor(
        "CAM_FRONT_LEFT",
        (1.523878, 0.494631, 1.509328),
        (0.6757265, -0.67362665, 0.21214015, -0.21122827),
        -43_107,
        1272.5979,
        (826.6155, 479.7517),
    ),
)


def pose_matrix(translation: tuple[float, ...] | Matrix, rotation: tuple[float, ...] | Matrix) -> Matrix:
    """Make a pose (4, 4) from metres and a quaternion."""
    matrix = np.eye(4)
    matrix[:3, :3] = Quaternion(np.asarray(rotation)).normalised.rotation_matrix
    matrix[:3, 3] = translation
    return matrix


@dataclass(frozen=True)
class Drive:
    """The ego vehicle's way: constant speed along x, swaying and turning its head a little.

    Attributes:
        speed: m/s. lane_y: metres. sway: metres. wave: metres along x per radian. phase: radians.
    """

    speed: float
    lane_y: float
    sway: float
    wave: float
    phase: float

    def pose(self, time: float) -> tuple[tuple[float, float, float], float]:
        """Translation (metres) and yaw (radians) in the scene frame at `time` seconds."""
        x = self.speed * time
        y = self.lane_y + self.sway * np.sin(x / self.wave + self.phase)
        yaw = np.arctan2(self.sway * np.cos(x / self.wave + self.phase), self.wave)
        return (float(x), float(y), 0.0), float(yaw)

    def scene_from_ego(self, time: float) -> Matrix:
        """Pose of the ego frame in the scene at `time` seconds, (4, 4), metres."""
        translation, yaw = self.pose(time)
        return pose_matrix(translation, (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)))


def make_drive(rng: np.random.Generator, speed: float, lane_y: float) -> Drive:
    """A random way along the lane."""
    return Drive(
        speed, lane_y, float(rng.uniform(0.1, 0.3)), float(rng.uniform(6.0, 12.0)), float(rng.uniform(0, 6.28))
    )
