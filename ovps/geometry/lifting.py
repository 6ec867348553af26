"""Lifting of feature-map cells to points and voxels, as sparse matrices.

Everything here is linear: a point takes the bilinear mix of four cells in every camera that sees it, views are
averaged, a voxel averages its seen points. `weights @ cells` is the lifted feature, so cells and weights together
lose nothing, and CLIP features need not be at hand to make them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ovps.frame import Camera
from ovps.geometry.cells import CellGrid
from ovps.geometry.grid import mean_matrix
from ovps.geometry.projection import project
from ovps.geometry.visibility import Occlusion, unoccluded


@dataclass(frozen=True, eq=False)
class LiftedPoints:
    """Weights with which N points mix the K cells of all cameras, cameras concatenated, cells of one camera row by row.

    Attributes:
        weights: (N, K) CSR float32; a row sums to 1, rows of points that no camera sees are empty.
        views: (N,) uint8, cameras that see the point.
        seen: of each camera, the number of points that it sees.
    """

    weights: csr_array
    views: NDArray[np.uint8]
    seen: tuple[int, ...]


def lift_points(
    xyz: NDArray[np.floating],
    cameras: Sequence[Camera],
    cell_grids: Sequence[CellGrid],
    occlusion: Occlusion | None = None,
    blank: Collection[int] = (),
) -> LiftedPoints:
    """Bilinear weights of each point, averaged over the cameras that see it.

    Args:
        xyz: (N, 3), metres, LiDAR frame; the whole sweep, because points hide each other.
        cell_grids: one per camera, in the image's own pixels.
        occlusion: None counts every point inside an image as seen.
        blank: numbers of cameras whose images show nothing: they see no point.

    Raises:
        ValueError: `xyz` is not (N, 3), or cameras and grids are not equally many.
    """
    if len(cameras) != len(cell_grids):
        raise ValueError(f"{len(cameras)} cameras and {len(cell_grids)} cell grids")
    points, cells, shares = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    views = np.zeros(len(xyz), np.uint8)
    counts = []
    first_cell = 0
    for number, (camera, grid) in enumerate(zip(cameras, cell_grids, strict=True)):
        projection = project(xyz, camera)
        visible = projection.inside if occlusion is None else unoccluded(projection, camera, occlusion)
        seen = np.flatnonzero(visible & (number not in blank))
        corner, share = bilinear(projection.uv[seen], grid)
        points.append(np.repeat(seen, 4))
        cells.append(first_cell + corner.ravel())
        shares.append(share.ravel())
        views[seen] += 1
        counts.append(len(seen))
        first_cell += len(grid)
    row = np.concatenate(points)
    share = np.concatenate(shares) / views[row]
    weights = csr_array((share, (row, np.concatenate(cells))), shape=(len(xyz), first_cell))
    return LiftedPoints(_tidy(weights), views, tuple(counts))


def lift_voxels(points: LiftedPoints, point_voxel: NDArray[np.int64], voxels: int) -> csr_array:
    """Weights (voxels, K) CSR float32: the mean over the points of each voxel that a camera sees.

    A row sums to 1; rows of voxels without a seen point are empty.

    Args:
        point_voxel: (N,) int64 in 0..voxels-1.
    """
    if point_voxel.shape != points.views.shape:
        raise ValueError(f"{points.views.shape} points and {point_voxel.shape} voxel numbers disagree")
    mean = mean_matrix(point_voxel, voxels, use=points.views > 0)
    return _tidy(mean @ points.weights.astype(np.float64))


def bilinear(uv: NDArray[np.float64], grid: CellGrid) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The four cells around each pixel and their shares.

    Beyond the centres of the outermost cells the position is clamped.

    Args:
        uv: (M, 2) float64, pixels.

    Returns:
        cells (M, 4) int64, row * cols + column; shares (M, 4) float64 that sum to 1.
    """
    position = np.clip((uv + 0.5) / grid.stride - 0.5, 0, [grid.cols - 1, grid.rows - 1])
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, [grid.cols - 1, grid.rows - 1])
    share_x, share_y = (position - before).T
    (left, top), (right, bottom) = before.T, after.T
    cells = np.stack([top, top, bottom, bottom], axis=1) * grid.cols + np.stack([left, right, left, right], axis=1)
    shares = np.stack(
        [
            (1 - share_x) * (1 - share_y),
            share_x * (1 - share_y),
            (1 - share_x) * share_y,
            share_x * share_y,
        ],
        axis=1,
    )
    return cells, shares


def _tidy(weights: csr_array) -> csr_array:
    """One canonical form, so that equal input gives equal bytes: summed, sorted, without zeros, float32."""
    weights.sum_duplicates()
    weights = weights.astype(np.float32)
    weights.eliminate_zeros()
    return weights
