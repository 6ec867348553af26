"""Faults of a sweep: what its points cannot be, whoever has read or made them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FARTHEST_M = 1000.0  # no LiDAR measures so far
NO_RETURN = 0.1  # of the points at (0, 0, 0), the most that is taken; the real sweeps of nuScenes and KITTI have none


def sweep_fault(xyz: NDArray[np.floating], intensity: NDArray[np.floating]) -> str | None:
    """Say what points (N, 3), metres in the LiDAR frame, and intensities (N,) cannot be; None: nothing is wrong."""
    if len(xyz) == 0:
        return "the sweep has no points"
    if not (np.isfinite(xyz).all() and np.isfinite(intensity).all()):
        return "points hold NaN or infinity"
    lost = ~xyz.any(axis=1)
    if lost.mean() > NO_RETURN:
        return f"{lost.sum()} of {len(xyz)} points lie at (0, 0, 0), pulses without a return"
    far = np.abs(xyz).max(axis=1) > FARTHEST_M
    if far.any():
        where = ", ".join(f"{value:.6g}" for value in xyz[far.argmax()])
        return f"{far.sum()} of {len(xyz)} points lie farther than {FARTHEST_M:g} m away, the first at ({where})"
    if intensity.min() < 0 or intensity.max() > 1:
        return f"intensities are {intensity.min():g} to {intensity.max():g}, expected 0 to 1"
    return None
