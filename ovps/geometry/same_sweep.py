"""Comparison of two clouds: one sweep of a LiDAR that was read by two rules, or two sweeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ALIKE = 1e-3  # metres


def is_same_sweep(before: NDArray[np.floating], now: NDArray[np.floating]) -> bool:
    """Tell whether points (N, 3) and (M, 3), metres, may be one sweep in other units, axes or columns, or without some.

    Then most of the fewer points are among the others, or, of as many, some coordinate is an affine function of those
    before in every point. Two sweeps have neither in common, wherever the LiDAR stands.
    """
    some, others = _places(before), _places(now)
    if len(some & others) > 0.5 * min(len(some), len(others)):
        return True
    if len(before) != len(now):
        return False
    known = np.column_stack([before.astype(np.float64), np.ones(len(before))])
    wanted = now.astype(np.float64)
    apart = np.abs(known @ np.linalg.lstsq(known, wanted, rcond=None)[0] - wanted).max(axis=0)
    return bool(((apart < _ALIKE) & (np.ptp(wanted, axis=0) > _ALIKE)).any())


def _places(xyz: NDArray[np.floating]) -> set[tuple[int, ...]]:
    """Where points (N, 3) are, in whole millimetres."""
    return set(map(tuple, np.round(xyz / _ALIKE).astype(np.int64).tolist()))
