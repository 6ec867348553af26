"""Comparison of two clouds: one sweep of a LiDAR that was read by two rules, or two sweeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ALIKE = 1e-3  # metres


def same_sweep(before: NDArray[np.floating], now: NDArray[np.floating]) -> bool:
    """Tell whether points (N, 3) and (M, 3), metres, are those of one sweep, whatever the rules and the order."""
    return rows_correspond(before, now) or share_points(before, now)


def rows_correspond(before: NDArray[np.floating], now: NDArray[np.floating]) -> bool:
    """Tell whether each of (N, 3) points, metres, is the one in its row of others: in other units, axes or columns.

    Some coordinate is then an affine function of those before. Those of two sweeps have nothing to do with each other,
    wherever the LiDAR stands.
    """
    if len(before) != len(now):
        return False
    known = np.column_stack([before.astype(np.float64), np.ones(len(before))])
    wanted = now.astype(np.float64)
    apart = np.abs(known @ np.linalg.lstsq(known, wanted, rcond=None)[0] - wanted).max(axis=0)
    return bool(((apart < _ALIKE) & (np.ptp(wanted, axis=0) > _ALIKE)).any())


def share_points(before: NDArray[np.floating], now: NDArray[np.floating]) -> bool:
    """Tell whether most of the fewer points, of (N, 3) and (M, 3), metres, are among the others, in whatever order."""
    some, others = _places(before), _places(now)
    return len(some & others) > 0.5 * min(len(some), len(others))


def _places(xyz: NDArray[np.floating]) -> set[tuple[int, ...]]:
    """Where points (N, 3) are, in whole millimetres."""
    return set(map(tuple, np.round(xyz / _ALIKE).astype(np.int64).tolist()))
