"""Random changes to the points of a frame: a pure function of a random generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovps.batch.settings import AugmentationConfig


def generator(seed: int, epoch: int, frame: int) -> np.random.Generator:
    """Make the random generator of one frame in one epoch. Exact resume relies on it depending on nothing else."""
    return np.random.default_rng([seed, epoch, frame])


def draw_transform(rng: np.random.Generator, config: AugmentationConfig) -> NDArray[np.float64]:
    """Draw a (4, 4) float64 matrix: flips, then rotation about z, scale and shift (metres).

    The same numbers are drawn whatever is switched on, so that switching one part off leaves the others as they were.
    """
    angle = rng.uniform(-np.pi, np.pi)
    flip = rng.random(2) < 0.5
    scale = rng.uniform(-1.0, 1.0)
    shift = rng.standard_normal(3)

    matrix = np.eye(4)
    if config.flip_x and flip[0]:
        matrix[0, 0] = -1.0
    if config.flip_y and flip[1]:
        matrix[1, 1] = -1.0
    if config.rotate:
        cos, sin = np.cos(angle), np.sin(angle)
        matrix[:2, :2] = np.array([[cos, -sin], [sin, cos]]) @ matrix[:2, :2]
    matrix[:3, :3] *= 1.0 + config.scale * scale
    matrix[:3, 3] = config.translate * shift
    return matrix


def transform_points(xyz: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Transform points (N, 3) float32, metres; the identity changes no bit."""
    return (xyz @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
