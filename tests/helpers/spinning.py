"""A sweep of a spinning LiDAR: beams over flat ground, inside walls of uneven distance."""

from __future__ import annotations

import numpy as np

BEAMS = 16


def spinning_sweep(turns: int = 120, alternating: bool = False) -> np.ndarray:
    """Rows (16 * turns, 4) float32, x, y, z, intensity of 0..1, pulse after pulse, all beams of each.

    Args:
        turns: pulses of each beam.
        alternating: the beams fire upper and lower ones in turn, as some LiDARs do.
    """
    rng = np.random.default_rng(0)
    tilt = np.radians(np.linspace(-15, 9, BEAMS))
    if alternating:
        tilt = tilt.reshape(2, -1).T.ravel()
    azimuth = np.linspace(-np.pi, np.pi, turns, endpoint=False)[:, None]
    wall = rng.uniform(8, 30, (turns, 1)) + rng.uniform(0, 1, (turns, BEAMS))
    ground = 1.8 / np.maximum(np.tan(-tilt), 0.01)
    far = np.minimum(wall, ground)
    xyz = [far * np.cos(azimuth), far * np.sin(azimuth), far * np.tan(tilt)]
    return np.stack([*xyz, rng.beta(1, 3, far.shape)], axis=-1).reshape(-1, 4).astype(np.float32)
