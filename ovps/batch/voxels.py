"""Points of a cached frame on any grid: the inputs of the network. Uses no label.

Training and evaluation both come through here; evaluation with no transform.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ovps.batch.augment import transform_points
from ovps.cache.frame_data import CachedFrame
from ovps.geometry.grid import Grid, voxelise
from ovps.model.clusters import ClusterConfig, clusters_by_size
from ovps.model.inputs import VoxelBatch

INPUT_DIM = 13

# Brings metres to about -1..1 over a nuScenes frame, so that no input drowns the others in the first convolution.
METRES = 1 / 25


def frame_batch(
    frame: CachedFrame,
    grid: Grid,
    transform: NDArray[np.float64] | None = None,
    clusters: ClusterConfig | None = None,
) -> VoxelBatch:
    """Voxelise a cached frame into a batch of one.

    Args:
        frame: N points with the CLIP features of the cache's own voxels.
        grid: to voxelise on; need not be the cache's.
        transform: (4, 4) float64, metres, applied to the points first.
        clusters: how the voxels are clustered, see `ModelConfig.input_clusters`; None: they are not.
    """
    xyz = frame.xyz if transform is None else transform_points(frame.xyz, transform)
    coords, point_voxel = voxelise(xyz, grid)
    clip, clip_valid = average_clip(frame, point_voxel, len(coords))
    described = (xyz, frame.intensity, point_voxel)
    if frame.earlier_xyz is not None and frame.earlier_intensity is not None:
        earlier = frame.earlier_xyz if transform is None else transform_points(frame.earlier_xyz, transform)
        described = join_earlier(described, earlier, frame.earlier_intensity, coords, grid)
    features, position = describe(*described[:2], coords, described[2], grid)
    batch_column = np.zeros((len(coords), 1), np.int32)
    return VoxelBatch(
        coords=torch.from_numpy(np.concatenate([batch_column, coords], axis=1)),
        features=torch.from_numpy(features),
        position=torch.from_numpy(position),
        clip=torch.from_numpy(clip.astype(np.float32, copy=False)),  # a caller's may be others
        clip_valid=torch.from_numpy(clip_valid),
        voxel_offsets=torch.tensor([0, len(coords)]),
        point_voxel=torch.from_numpy(point_voxel),
        point_offsets=torch.tensor([0, len(point_voxel)]),
        cluster=None if clusters is None else torch.from_numpy(clusters_by_size(position, clusters)),
    )


def join_earlier(
    own: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]],
    xyz: NDArray[np.float32],
    intensity: NDArray[np.float32],
    coords: NDArray[np.int32],
    grid: Grid,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Join points of earlier sweeps to the voxels of a frame, for what the network is told about them.

    They make no voxel of their own: where only earlier sweeps have points nothing is predicted, labelled or scored, and
    what a car has left behind is no target.

    Args:
        own: xyz (N, 3), intensity (N,) and voxel (N,) of the frame's own points.
        xyz, intensity: (M, 3) and (M,), of earlier ones in the same LiDAR frame.
        coords: (V, 3) int32, of the frame's voxels, sorted.

    Returns:
        The three, with those of the M that lie in a voxel of the frame behind the N.
    """
    cells, voxel = voxelise(xyz, grid)
    known, met = (np.ravel_multi_index(tuple(c.T.astype(np.int64)), grid.shape) for c in (coords, cells))
    place = np.minimum(np.searchsorted(known, met), len(known) - 1)
    inside = (known[place] == met)[voxel]
    return (
        np.concatenate([own[0], xyz[inside]]),
        np.concatenate([own[1], intensity[inside]]),
        np.concatenate([own[2], place[voxel[inside]]]),
    )


def average_clip(
    frame: CachedFrame, point_voxel: NDArray[np.int64], voxels: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Compute CLIP features of new voxels: each is the mean, over its points, of their cached voxels' features.

    Only points that a camera sees take part, as when the cache was made: a new voxel is valid exactly if one of its
    points is seen, which is what stage 1 would have found on the new grid. On the cache's own grid and without a
    transform, the result is the cached feature bit by bit.

    Args:
        point_voxel: (N,) int64, rows of the new voxels.
        voxels: V, their number.

    Returns:
        (V, C) float32, zeros where not valid, and valid (V,) bool.
    """
    seen = (frame.views > 0) & frame.valid[frame.point_voxel]
    pairs = csr_matrix(
        (np.ones(int(seen.sum())), (point_voxel[seen], frame.point_voxel[seen])), shape=(voxels, len(frame.coords))
    )  # number of seen points per (new voxel, cached voxel); duplicates add up
    total = np.asarray(pairs.sum(axis=1)).reshape(-1)
    pairs.data /= np.repeat(total, np.diff(pairs.indptr))
    return np.asarray(pairs.astype(np.float32) @ frame.clip), total > 0


def describe(
    xyz: NDArray[np.float32],
    intensity: NDArray[np.float32],
    coords: NDArray[np.int32],
    point_voxel: NDArray[np.int64],
    grid: Grid,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the hand-made inputs of the LiDAR encoder, per voxel.

    Returns:
        (V, INPUT_DIM) float32: mean of x, y, z and rho (units of 1/METRES metres), of cos and sin of the azimuth and
        of intensity; spread of intensity; height of the voxel's points (metres); log of 1 + their number; where in
        its cell the mean position lies (3, in cells, 0 in the middle).
        (V, 3) float32: mean position, metres.
    """
    rho = np.hypot(xyz[:, 0], xyz[:, 1])
    cos = np.divide(xyz[:, 0], rho, out=np.ones_like(rho), where=rho > 0)
    sin = np.divide(xyz[:, 1], rho, out=np.zeros_like(rho), where=rho > 0)
    columns = np.column_stack([xyz, rho, cos, sin, intensity, intensity.astype(np.float64) ** 2]).astype(np.float64)

    order = np.argsort(point_voxel, kind="stable")
    starts = np.searchsorted(point_voxel[order], np.arange(len(coords)))
    count = np.bincount(point_voxel, minlength=len(coords))[:, None]
    mean = np.add.reduceat(columns[order], starts, axis=0) / count
    z = xyz[order, 2]
    height = np.maximum.reduceat(z, starts) - np.minimum.reduceat(z, starts)
    spread = np.sqrt(np.maximum(mean[:, 7] - mean[:, 6] ** 2, 0.0))

    scaled = mean[:, :7] * np.array([METRES] * 4 + [1.0] * 3)
    inside = _place_in_cell(mean[:, :3], coords, grid)
    features = np.column_stack([scaled, spread, height, np.log1p(count[:, 0]), inside])
    return features.astype(np.float32), mean[:, :3].astype(np.float32)


def _place_in_cell(position: NDArray[np.float64], coords: NDArray[np.int32], grid: Grid) -> NDArray[np.float64]:
    """(V, 3) in cells from the middle of the voxel's cell; at most 1, reached by clamped points beyond the range."""
    x, y, z = position.T
    if grid.kind == "cylinder":
        position = np.stack([np.hypot(x, y), np.arctan2(y, x), z], axis=1)
    return np.clip((position - grid.low) / grid.cell - coords - 0.5, -1.0, 1.0)


def collate(batches: list[VoxelBatch]) -> VoxelBatch:
    """Join batches of frames into one, in order."""
    if len(batches) == 1:
        return batches[0]
    frames = np.cumsum([0] + [b.frames for b in batches])
    voxels = np.cumsum([0] + [len(b.coords) for b in batches])
    points = np.cumsum([0] + [len(b.point_voxel) for b in batches])
    clusters = [b.cluster for b in batches if b.cluster is not None]
    coords = [
        b.coords + torch.tensor([int(f), 0, 0, 0], dtype=torch.int32) for b, f in zip(batches, frames[:-1], strict=True)
    ]
    return VoxelBatch(
        coords=torch.cat(coords),
        features=torch.cat([b.features for b in batches]),
        position=torch.cat([b.position for b in batches]),
        clip=torch.cat([b.clip for b in batches]),
        clip_valid=torch.cat([b.clip_valid for b in batches]),
        voxel_offsets=_join([b.voxel_offsets for b in batches], voxels),
        point_voxel=torch.cat([b.point_voxel + int(v) for b, v in zip(batches, voxels[:-1], strict=True)]),
        point_offsets=_join([b.point_offsets for b in batches], points),
        cluster=None if len(clusters) < len(batches) else torch.cat(clusters),
    )


def _join(offsets: list[torch.Tensor], starts: NDArray[np.int64]) -> torch.Tensor:
    return torch.cat([offsets[0][:1], *(o[1:] + int(s) for o, s in zip(offsets, starts[:-1], strict=True))])
