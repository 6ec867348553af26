"""The length of the rows of a .bin file, told from its values: such a file says nothing of its columns itself.

Columns differ in what values they hold (x and y reach far to both sides, z does not, an intensity is never negative),
so with the right length the place of a value in its row says much of the value, and with another length little. That
is their mutual information, and holds for rows in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 16  # columns that are tried
LOOKED_AT = 2**18  # values: half a sweep of 64 beams with 4 columns
_ENOUGH = 2**12  # values: of fewer the number of bins and places is too large
_BINS = 32
_SAYS = 0.2  # nats that the right length has at least; 0.35 to 1.0 in KITTI, nuScenes and DDAD
_LESS = 0.7  # of the information of the right length, the most a wrong one has; 0.5 there, and a right one has 1.8
_FAR = 1e4  # metres: no coordinates
_ALL = 0.99


def row_length(values: NDArray, columns: Sequence[str]) -> int | None:
    """Tell how many columns a file has, if they are clearly not those that are named; None: they may be right.

    Args:
        values: (M,) floats of the file, one after the other.
        columns: as the calibration file names them, with x, y and z.
    """
    values, named = values[:LOOKED_AT], len(columns)
    if len(values) < _ENOUGH:
        return None
    said = _information(values, named)
    most = max(said, key=lambda length: said[length])
    if said[most] < _SAYS:
        return None
    found = next(n for n in said if most % n == 0 and said[n] > said[most] / 2 and not _alternates(values, n, most))
    if found == named or not _are_coordinates(values, found):
        return None
    if found % named == 0:
        wrong = _alternates(values, named, found, [columns.index(name) for name in "xyz"])
    elif named % found == 0:
        wrong = said[named] < said[found] / _LESS and _repeats(values, found, named)
    else:
        wrong = said[named] < said[found] * _LESS
    return found if wrong else None


def _information(values: NDArray, named: int) -> dict[int, float]:
    """What the place in a row says of a value, in nats, by the length of the row.

    It is the mutual information of place and value, the value in bins of equal counts and frequent values in bins of
    their own, less its bias (Miller, 1955).
    """
    finite = values[np.isfinite(values)]
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(finite) else np.zeros(1)
    bins = np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")
    said = {}
    for length in dict.fromkeys((*range(3, MOST + 1), named)):
        rows = len(values) // length
        flat = np.arange(rows * length) % length * (2 * len(edges) + 1) + bins[: rows * length]
        counts = np.bincount(flat, minlength=length * (2 * len(edges) + 1)).reshape(length, -1)
        share = counts / (rows * length)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = share * np.log(share * length / share.sum(axis=0))
        bias = (np.count_nonzero(counts.any(axis=0)) - 1) * (length - 1) / (2 * rows * length)
        said[length] = float(np.nansum(parts)) - bias
    return said


def _alternates(values: NDArray, short: int, long: int, xyz: Sequence[int] = (0, 1, 2)) -> bool:
    """Tell whether long rows, read as several short ones, have some that are points and some that are none.

    None are those with three "coordinates" that are never negative. (Beams from above and below may alternate too, but
    in height alone. Rows of zeros are pulses without a return.)
    """
    count = len(values) // long
    rows = values[: count * long].reshape(count, long // short, short)[:, :, list(xyz)]
    negative = (rows < 0).mean(axis=0)  # (short rows, 3)
    filled = (rows != 0).any(axis=2).mean(axis=0)
    other = (negative < 1 - _ALL).all(axis=1) & ~np.isnan(rows).any(axis=(0, 2)) & (filled > 0.1)
    points = (negative > 0.05).sum(axis=1) >= 2
    return bool(other.any() and points.any())


def _repeats(values: NDArray, short: int, long: int) -> bool:
    """Tell whether a long row is short ones of different points, not the same point twice (as by its two returns)."""
    count = len(values) // long
    rows = values[: count * long].reshape(count, long // short, short)[:, :, :3].astype(np.float64)
    spread = np.nanquantile(rows, [0.1, 0.3, 0.5, 0.7, 0.9], axis=0)  # (5, short rows, 3)
    alike = np.abs(spread - spread[:, :1]) < 0.1 * np.abs(spread[-1, :1] - spread[0, :1])
    within = np.nanmedian(np.abs(rows[:, 1] - rows[:, 0]), axis=0)
    across = np.nanmedian(np.abs(rows[1:, 0] - rows[:-1, -1]), axis=0)
    return bool(alike.all() and (within > 0.3 * across).all())


def _are_coordinates(values: NDArray, length: int) -> bool:
    rows = values[: len(values) // length * length].reshape(-1, length)[:, :3]
    near = np.abs(rows) < _FAR
    return bool((near | ~np.isfinite(rows)).mean() > _ALL and near.any(axis=1).mean() > 0.1)
