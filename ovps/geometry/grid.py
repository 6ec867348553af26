"""Voxel grids: which cell a point falls into.

Cylindrical 480 x 360 x 32 over rho 0..50 m, phi and z is P3Former's (after Cylinder3D); Cartesian is the alternative.
Points beyond the range are clamped into the border cells, never dropped: every point is evaluated.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, model_validator
from scipy.sparse import csr_array

from ovps.errors import ConfigError

_DEFAULT_RANGE = {
    "cylinder": {"rho": (0.0, 50.0), "z": (-5.0, 3.0)},
    "cartesian": {"x": (-50.0, 50.0), "y": (-50.0, 50.0), "z": (-5.0, 3.0)},
}
_FULL_TURN = (-math.pi, math.pi)
_DIGITS = 6  # of sizes and ranges in metres: enough for a micrometre, few enough to print what was typed
_REMEDY = (
    "Write cylinder, cylinder:480x360x32, cartesian:0.1, or with a range: cylinder:480x360x32:rho=0..50,z=-5..3,"
    " cartesian:0.1:x=-50..50,y=-50..50,z=-5..3"
)


class Grid(BaseModel, frozen=True, extra="forbid"):
    """A voxel grid in the LiDAR frame.

    Attributes:
        kind: `cylinder` has axes rho (m), phi (rad, -pi..pi, no wrapping), z (m); `cartesian` x, y, z (m).
        shape: cells along each axis.
        low, high: range of each axis.
    """

    kind: Literal["cylinder", "cartesian"]
    shape: tuple[int, int, int]
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @model_validator(mode="after")
    def _is_a_grid(self) -> Grid:
        if min(self.shape) < 1 or math.prod(self.shape) >= 2**62:
            raise ValueError(f"{self.shape} is not a number of cells")
        if not all(math.isfinite(a) and math.isfinite(b) and a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"the range {self.low} to {self.high} is empty or not finite")
        if self.kind == "cylinder" and (self.low[0] < 0 or (self.low[1], self.high[1]) != _FULL_TURN):
            raise ValueError("a cylinder has rho >= 0 and phi from -pi to pi")
        if self.kind == "cartesian" and not np.allclose(self.cell, self.cell[0], rtol=0, atol=1e-5):
            raise ValueError(f"Cartesian cells are cubes, not {self.cell}")
        return self

    @property
    def cell(self) -> tuple[float, float, float]:
        """Size of a cell along each axis."""
        (a, b, c), (d, e, f), (k, m, n) = self.low, self.high, self.shape
        return (d - a) / k, (e - b) / m, (f - c) / n

    @classmethod
    def parse(cls, text: str) -> Grid:
        """Read `cylinder[:RHOxPHIxZ]` or `cartesian:SIZE`, either followed by `:axis=low..high,...`.

        A Cartesian range that SIZE does not divide grows at its upper end.

        >>> str(Grid.parse("cylinder"))
        'cylinder:480x360x32:rho=0..50,z=-5..3'

        Raises:
            ConfigError: anything else.
        """
        kind, _, rest = text.strip().partition(":")
        cells, _, ranges = rest.partition(":")
        try:
            limits = _parse_ranges(kind, ranges)
            if kind == "cylinder":
                parts = [int(n) for n in (cells or "480x360x32").split("x")]
                rho, z = limits["rho"], limits["z"]
                return cls(
                    kind="cylinder",
                    shape=(parts[0], parts[1], parts[2]) if len(parts) == 3 else (0, 0, 0),
                    low=(rho[0], _FULL_TURN[0], z[0]),
                    high=(rho[1], _FULL_TURN[1], z[1]),
                )
            size = round(float(cells), _DIGITS)
            axes = (limits["x"], limits["y"], limits["z"])
            shape = [math.ceil(round((high - low) / size, _DIGITS)) for low, high in axes]
            low, high = zip(
                *((low, round(low + n * size, _DIGITS)) for (low, _), n in zip(axes, shape, strict=True)), strict=True
            )
            return cls(kind="cartesian", shape=(shape[0], shape[1], shape[2]), low=low, high=high)
        except (KeyError, ValueError, ZeroDivisionError, OverflowError) as error:
            raise ConfigError(f"{text!r} is not a voxel grid", remedy=_REMEDY) from error

    def __str__(self) -> str:
        """What `parse` reads back to an equal grid, range included."""
        cylinder = self.kind == "cylinder"
        size = "x".join(map(str, self.shape)) if cylinder else _number(self.cell[0])
        names = {0: "rho", 2: "z"} if cylinder else {0: "x", 1: "y", 2: "z"}
        ranges = ",".join(f"{name}={_number(self.low[i])}..{_number(self.high[i])}" for i, name in names.items())
        return f"{self.kind}:{size}:{ranges}"

    def index(self, xyz: NDArray[np.floating]) -> NDArray[np.int32]:
        """Cell (N, 3) int32 of each point (N, 3), metres; clamped to the grid.

        Raises:
            ValueError: `xyz` is not (N, 3), or holds NaN or infinity.
        """
        cells = np.floor((self._positions(xyz) - self.low) / self.cell)
        return np.clip(cells, 0, np.array(self.shape) - 1).astype(np.int32)

    def beyond(self, xyz: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Find points (N, 3), metres, that lie outside the grid's range, (N,) bool: `index` clamps those.

        Raises:
            ValueError: `xyz` is not (N, 3), or holds NaN or infinity.
        """
        positions = self._positions(xyz)
        outside = (positions < self.low) | (positions > self.high)
        if self.kind == "cylinder":
            outside[:, 1] = False  # an angle is never outside, whatever its last digit
        return outside.any(axis=1)

    def _positions(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points (N, 3) along the axes of the grid."""
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ValueError(f"points of shape {xyz.shape}, expected (N, 3)")
        points = xyz.astype(np.float64)
        if not np.isfinite(points).all():
            raise ValueError("points with NaN or infinite coordinates have no voxel")
        if self.kind == "cylinder":
            x, y, z = points.T
            points = np.stack([np.hypot(x, y), np.arctan2(y, x), z], axis=1)
        return points


def fitting_grid(xyz: NDArray[np.floating]) -> Grid:
    """Choose a cylinder that holds nearly all of some points (N, 3), metres, with cells as large as the default's.

    Its radius is that of the nearest 99.5 % of the points, rounded up to 10 m; its height leaves out a thousandth below
    and above, and is rounded to whole metres. It is never smaller than the default, so that networks see as much.
    """
    default = Grid.parse("cylinder")
    rho = np.quantile(np.hypot(xyz[:, 0], xyz[:, 1]), 0.995)
    low, high = np.quantile(xyz[:, 2], [0.001, 0.999])
    reach = max(math.ceil(rho / 10) * 10, int(default.high[0]))
    bottom, top = min(math.floor(low), int(default.low[2])), max(math.ceil(high), int(default.high[2]))
    rings, layers = round(reach / default.cell[0]), round((top - bottom) / default.cell[2])
    return Grid.parse(f"cylinder:{rings}x{default.shape[1]}x{layers}:rho=0..{reach},z={bottom}..{top}")


def voxelise(xyz: NDArray[np.floating], grid: Grid) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The occupied cells and each point's place among them.

    Args:
        xyz: (N, 3), metres, LiDAR frame.

    Returns:
        coords (V, 3) int32, unique, sorted by their first, then second, then third index;
        point_voxel (N,) int64, row of each point's cell in `coords`.
    """
    cells = grid.index(xyz).astype(np.int64)
    flat = np.ravel_multi_index((cells[:, 0], cells[:, 1], cells[:, 2]), grid.shape)
    occupied, point_voxel = np.unique(flat, return_inverse=True)
    coords = np.stack(np.unravel_index(occupied, grid.shape), axis=1).astype(np.int32)
    return coords, point_voxel.astype(np.int64)


def mean_matrix(point_voxel: NDArray[np.int64], voxels: int, use: NDArray[np.bool_] | None = None) -> csr_array:
    """The mean over each voxel's points as a matrix (voxels, N) float64.

    Args:
        point_voxel: (N,) int64 in 0..voxels-1.
        use: (N,) bool, the points that take part; None: all. Rows of voxels without any are empty.
    """
    points = np.arange(len(point_voxel)) if use is None else np.flatnonzero(use)
    rows = point_voxel[points]
    if len(rows) and not 0 <= rows.min() <= rows.max() < voxels:
        raise ValueError(f"voxel numbers {rows.min()} to {rows.max()}, expected 0 to {voxels - 1}")
    share = 1.0 / np.bincount(rows, minlength=voxels)[rows]
    return csr_array((share, (rows, points)), shape=(voxels, len(point_voxel)))


def _parse_ranges(kind: str, text: str) -> dict[str, tuple[float, float]]:
    limits = dict(_DEFAULT_RANGE[kind])
    for item in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*(\w+)=(.+)\.\.(.+)", item)
        if match is None or match[1] not in limits:
            raise ValueError(item)
        limits[match[1]] = (round(float(match[2]), _DIGITS), round(float(match[3]), _DIGITS))
    return limits


def _number(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")
