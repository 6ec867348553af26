"""One frame: read, lift, encode, and bring into the form it is stored in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas.v1 import CameraRow, Codec
from ovps.cache.codecs import VoxelFeatures, expected_bytes
from ovps.cache.frame_data import CachedFrame
from ovps.cache.objects import find_objects, no_objects
from ovps.cache.writer import EncodedFrame, encode_frame
from ovps.clip.dense import DenseEncoder
from ovps.datasets import Dataset
from ovps.errors import FrameError
from ovps.frame import Camera, Frame, PointCloud
from ovps.geometry.cells import CellGrid
from ovps.geometry.grid import Grid, voxelise
from ovps.geometry.lifting import LiftedPoints, lift_points, lift_voxels
from ovps.geometry.visibility import Occlusion
from ovps.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Tools:
    """What computing a frame takes.

    Attributes:
        encoder_for: the image encoder for images of a size (width, height).
        clip_dim: C.
    """

    dataset: Dataset
    taxonomy: Taxonomy
    grid: Grid
    occlusion: Occlusion | None
    codec: Codec
    encoder_for: Callable[[tuple[int, int]], DenseEncoder]
    clip_dim: int


@dataclass(frozen=True, eq=False)
class Lifted:
    """Geometry of a frame: which cells its points and voxels mix.

    Attributes:
        coords: (V, 3) int32; point_voxel: (N,) int64; weights: (V, K) CSR float32.
    """

    points: LiftedPoints
    coords: NDArray[np.int32]
    point_voxel: NDArray[np.int64]
    weights: csr_array


@dataclass
class StageTimes:
    """Seconds spent, stage by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


def compute_frame(frame: Frame, tools: Tools, times: StageTimes) -> EncodedFrame:
    """Everything that the cache keeps of one frame.

    Labels decide nothing here but the objects: which points, voxels and features are kept is the same without them.

    Raises:
        FrameError: a file is missing or senseless, or a camera sees no point.
    """
    with times.stage("read"):
        cloud = tools.dataset.read_points(frame)
        label = tools.dataset.read_labels(frame) if frame.labels_path is not None else None
        images = [tools.dataset.read_image(camera) for camera in frame.cameras]
        _check_points(frame, cloud, label)
    with times.stage("lift"):
        lifted = lift_frame(frame, cloud, tools)
    points = lifted.points
    with times.stage("encode"):  # image by image, or the big encoders do not fit into memory
        cells = np.zeros((points.weights.shape[1], tools.clip_dim), np.float32)
        first = 0
        for camera, image in zip(frame.cameras, images, strict=True):
            encoder = tools.encoder_for((camera.width, camera.height))
            map_cells = encoder.encode(np.array(image[None]))[0].reshape(-1, tools.clip_dim)
            cells[first : first + len(map_cells)] = map_cells.cpu().numpy()
            first += len(map_cells)
    with times.stage("lift"):
        features = VoxelFeatures(cells, lifted.weights)
        objects = no_objects(tools.clip_dim)
        if label is not None:
            objects = find_objects(label, tools.taxonomy, points.weights, points.views, cells)
        cached = CachedFrame(
            token=frame.token,
            scene=frame.scene,
            subset=frame.subset,
            index=frame.index,
            timestamp_us=frame.timestamp_us,
            xyz=cloud.xyz,
            intensity=cloud.intensity,
            point_voxel=lifted.point_voxel,
            views=points.views,
            label=label,
            coords=lifted.coords,
            valid=features.valid,
            clip=features.dense(),
            object_class=objects.classes,
            object_instance=objects.instance,
            object_points=objects.points,
            object_seen_points=objects.seen_points,
            object_embedding=objects.embedding,
            global_from_lidar=frame.global_from_lidar,
            cameras=tuple(CameraRow(channel=c.channel, width=c.width, height=c.height) for c in frame.cameras),
        )
        return encode_frame(cached, features, tools.codec)


def lift_frame(frame: Frame, cloud: PointCloud, tools: Tools) -> Lifted:
    """Project, voxelise, average; no image is needed.

    Raises:
        FrameError: a camera sees no point.
    """
    cell_grids = [tools.encoder_for((camera.width, camera.height)).cells for camera in frame.cameras]
    points = lift_points(cloud.xyz, frame.cameras, cell_grids, tools.occlusion)
    _check_cameras(frame.cameras, cell_grids, points.weights)
    coords, point_voxel = voxelise(cloud.xyz, tools.grid)
    return Lifted(points, coords, point_voxel, lift_voxels(points, point_voxel, len(coords)))


def smaller_codec(frame: Frame, tools: Tools) -> Codec:
    """The codec that stores this frame in fewer bytes."""
    sizes = expected_bytes(lift_frame(frame, tools.dataset.read_points(frame), tools).weights, tools.clip_dim)
    return min(sizes, key=lambda codec: sizes[codec])


def _check_points(frame: Frame, cloud: PointCloud, label: NDArray[np.uint32] | None) -> None:
    if len(cloud) == 0 or not np.isfinite(cloud.xyz).all():
        raise FrameError("no points, or points with NaN or infinity", path=frame.points_path, frame=frame.token)
    if label is not None and len(label) != len(cloud):
        raise FrameError(
            f"{len(label)} labels for {len(cloud)} points",
            path=frame.labels_path,
            frame=frame.token,
            remedy="Points and labels are of different downloads: fetch both again",
        )


def _check_cameras(cameras: tuple[Camera, ...], cell_grids: list[CellGrid], weights: csr_array) -> None:
    """Every camera of a sensible rig sees some point."""
    edges = np.cumsum([0, *(len(grid) for grid in cell_grids)])
    seen, _ = np.histogram(weights.indices, bins=edges)
    for camera, count in zip(cameras, seen, strict=True):
        if count == 0:
            raise FrameError(
                f"camera {camera.channel} sees no point",
                path=camera.image_path,
                remedy="Check its calibration; or leave such frames out with --on-error skip",
            )
