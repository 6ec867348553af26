"""One revolution of a spinning LiDAR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driveworld.raycast import Caster

BEAMS: NDArray[np.float64] = np.linspace(np.deg2rad(-30.0), np.deg2rad(10.0), 32)
"""Elevations of the beams of nuScenes' LiDAR, radians."""
MAX_RANGE = 80.0
MIN_RANGE = 1.0
RANGE_NOISE = 0.02


@dataclass(frozen=True, eq=False)
class Sweep:
    """The returns of one revolution.

    Attributes:
        points: (N, 5) float32: x, y, z in metres in the LiDAR frame (z up), intensity 0..255, ring.
        objects: (N,) int32 index into the scene's objects.
    """

    points: NDArray[np.float32]
    objects: NDArray[np.int32]


def sweep(
    caster: Caster,
    scene_from_lidar: NDArray[np.float64],
    azimuth_steps: int,
    rng: np.random.Generator,
    beams: NDArray[np.float64] = BEAMS,
) -> Sweep:
    """Cast one revolution from one pose (as nuScenes, whose sweeps are compensated for the ego motion).

    Args:
        caster: of a snapshot around the sensor.
        scene_from_lidar: (4, 4) metres.
        azimuth_steps: rays per beam.
        beams: (B,) elevations, radians, from the lowest.
    """
    azimuth = (np.arange(azimuth_steps) + rng.uniform()) * 2 * np.pi / azimuth_steps
    a, e = (g.ravel() for g in np.meshgrid(azimuth, beams, indexing="ij"))
    local = np.stack([np.cos(e) * np.sin(a), np.cos(e) * np.cos(a), np.sin(e)], -1)
    rays = (local @ scene_from_lidar[:3, :3].T).astype(np.float32)
    hits = caster.cast(scene_from_lidar[:3, 3].astype(np.float32)[None], rays)
    cosine = np.abs(np.einsum("nk,nk->n", caster.normals[hits.face], rays))
    strength = caster.snapshot.mesh.reflectance[hits.face] * (0.45 + 0.55 * cosine)
    # Weak and far returns are lost more often than others.
    lost = 0.02 + 0.25 * np.minimum(hits.distance / MAX_RANGE, 1) ** 2 * (1.2 - strength)
    kept = (hits.face >= 0) & (hits.distance < MAX_RANGE) & (hits.distance > MIN_RANGE)
    kept &= rng.random(len(rays)) > np.clip(lost, 0, 0.9)
    distance = hits.distance + rng.normal(0, RANGE_NOISE, len(rays))
    intensity = np.clip(255 * strength * rng.uniform(0.85, 1.15, len(rays)), 1, 255).round()
    ring = np.tile(np.arange(len(beams)), azimuth_steps)
    points = np.concatenate([local * distance[:, None], intensity[:, None], ring[:, None]], 1)[kept]
    return Sweep(points.astype(np.float32), caster.snapshot.face_object[hits.face[kept]])
