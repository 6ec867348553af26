"""Grids whose range or cells do not fit the points: they may be in other units."""

from __future__ import annotations

_FAR = 0.25  # of the points beyond the grid's range
_COARSE, _FINE = 0.01, 0.995  # voxels for each point
_SPARSE = 1000  # points, which any grid may tell apart


def odd_grid(points: int, voxels: int, beyond: float, points_median: int, setting: str) -> list[str]:
    """Warn of a grid that many points lie beyond, or whose cells are far too large or too small for them.

    Args:
        points, voxels: of all frames that were looked at.
        beyond: share of the points that stands in the grid's border cells.
        points_median: points of a usual frame.
        setting: where the grid is set, as the user writes it.
    """
    found = []
    if beyond > _FAR:
        found.append(
            f"{beyond:.0%} of the points lie beyond the grid's range and stand in its border cells: choose a wider"
            " grid, if the points are in metres"
        )
    if voxels < _COARSE * points:
        mean = points / max(voxels, 1)
        found.append(f"{mean:,.0f} points share a voxel on average: give a finer {setting}, its cells in metres")
    elif voxels > _FINE * points and points_median >= _SPARSE:
        found.append(f"nearly every point has a voxel of its own: give a coarser {setting}, its cells in metres")
    return found
