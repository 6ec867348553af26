"""Boxes around things, as nuScenes annotates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from driveworld.raycast import Caster
from driveworld.scene import SceneObject

MARGIN = 0.06
"""Metres added around a mesh on all sides: range noise would otherwise push points out of their box."""


@dataclass(frozen=True)
class Pose:
    """A rigid pose as the tables store it: metres and quaternion (w, x, y, z)."""

    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotation:
    """One box in the global frame.

    Attributes:
        pose: centre and heading. size: width, length, height in metres.
        lidar_points: points inside, by the devkit's `points_in_box`.
        visibility: nuScenes visibility token, 1 (below 40 %) to 4 (80 % and more).
    """

    pose: Pose
    size: tuple[float, float, float]
    lidar_points: int
    visibility: int


def global_box(item: SceneObject, time: float, global_from_scene: Pose) -> tuple[Pose, tuple[float, float, float]]:
    """Pose and (width, length, height) of an object's box at `time` seconds."""
    low, high = item.mesh.bounds.astype(float)
    center, extent = (low + high) / 2, high - low + 2 * MARGIN
    turn = Quaternion(axis=(0, 0, 1), radians=item.yaw)
    base = np.add(item.xyz, (item.velocity * time, 0.0, 0.0))
    place = Quaternion(global_from_scene.rotation)
    middle = place.rotate(base + turn.rotate(center)) + np.array(global_from_scene.translation)
    q = (place * turn).elements
    pose = Pose(
        (float(middle[0]), float(middle[1]), float(middle[2])), (float(q[0]), float(q[1]), float(q[2]), float(q[3]))
    )
    return pose, (float(extent[1]), float(extent[0]), float(extent[2]))


def count_points(
    pose: Pose, size: tuple[float, float, float], points: NDArray[np.float32], ego: Pose, sensor: Pose
) -> int:
    """Points (N, 3+) in the LiDAR frame inside a global box, computed as the devkit does: box to sensor frame."""
    box = Box(list(pose.translation), list(size), Quaternion(pose.rotation))
    for frame in (ego, sensor):
        box.translate(-np.array(frame.translation))
        box.rotate(Quaternion(frame.rotation).inverse)
    return int(points_in_box(box, points[:, :3].T).sum())


def visibility(
    caster: Caster, index: int, eye: NDArray[np.float32], rng: np.random.Generator, samples: int = 24
) -> int:
    """Compute nuScenes' visibility token from rays from the eye (3,) to random face centres of object `index`."""
    faces = np.flatnonzero(caster.snapshot.face_object == index)
    rays = caster.centers[rng.choice(faces, samples)] - eye
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    hit = caster.cast(eye[None], rays).face
    share = float(np.mean((hit >= 0) & (caster.snapshot.face_object[hit] == index)))
    return 1 + int(np.searchsorted([0.4, 0.6, 0.8], share, side="right"))
