"""The steps of one frame: read and lift it, encode its images, bring it into the form it is stored in.

Labels decide nothing here but the objects: which points, voxels and features are kept is the same without them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from cache_schemas import CameraRow
from ovps.cache import codecs
from ovps.cache.cameras import encode_thumbnail, row_of_camera
from ovps.cache.codecs.protocol import Codec, State, VoxelFeatures, encoded
from ovps.cache.frame_data import CachedFrame
from ovps.cache.late_labels import objects_of_stored
from ovps.cache.object_embeddings import Objects, find_objects, no_objects
from ovps.cache.writer import EncodedFrame, encode_frame
from ovps.clip.asked import UNIT, cells_of
from ovps.clip.protocol import Encoder
from ovps.datasets.protocol import Dataset
from ovps.errors import FrameError
from ovps.frame import Camera, Frame, PointCloud
from ovps.geometry.calibration import check_calibration
from ovps.geometry.grid import Grid, voxelise
from ovps.geometry.lifting import LiftedPoints, lift_points, lift_voxels
from ovps.geometry.sweep_fault import sweep_fault
from ovps.geometry.visibility import Occlusion
from ovps.plugins import is_outside, misgiven
from ovps.protocols import described
from ovps.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Tools:
    """Tools for computing a frame: data set, encoder, codec and settings.

    Attributes:
        state: of the codec.
        dataroot: that image paths are stored relative to.
        thumbnails: width in pixels of the images that are stored; None: none are.
        sweeps: earlier ones, at most, that the frames were made with.
        kept_labels: raw labels (N,) uint32, by token, of frames whose labels the data set does not have any more.
    """

    dataset: Dataset
    taxonomy: Taxonomy
    grid: Grid
    occlusion: Occlusion | None
    codec: Codec
    state: State
    dataroot: Path
    thumbnails: int | None
    encoder: Encoder
    sweeps: int = 0
    kept_labels: Mapping[str, NDArray[np.uint32]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Lifted:
    """Geometry of a frame: which cells its points and voxels mix.

    Attributes:
        coords: (V, 3) int32; point_voxel: (N,) int64; weights: (V, K) CSR float32.
        beyond_range: points outside the grid's range.
    """

    points: LiftedPoints
    coords: NDArray[np.int32]
    point_voxel: NDArray[np.int64]
    weights: csr_array
    beyond_range: int


@dataclass(frozen=True, eq=False)
class ReadFrame:
    """A frame whose files are read and whose points are lifted: all that can be done before the encoder.

    Attributes:
        earlier: points of earlier sweeps; None where none are asked for.
        label: (N,) raw; None where there are none.
        images: (height, width, 3) uint8 of each camera.
    """

    frame: Frame
    cloud: PointCloud
    earlier: PointCloud | None
    label: NDArray[np.uint32] | None
    images: list[NDArray[np.uint8]]
    lifted: Lifted


class Batch(NamedTuple):
    """Images that go through the encoder together.

    Attributes:
        numbers: of each among those that they were taken from.
        images: (B, height, width, 3) uint8.
    """

    numbers: list[int]
    images: NDArray[np.uint8]


@dataclass
class StageTimes:
    """Seconds spent, stage by stage, summed over threads."""

    seconds: dict[str, float] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


def compute_frame(frame: Frame, tools: Tools, times: StageTimes) -> EncodedFrame:
    """Everything that the cache keeps of one frame.

    Raises:
        FrameError: a file is missing or senseless, the calibration is that of no camera, no camera sees a point, or
            the encoder makes features that are none.
    """
    read = read_frame(frame, tools, times)
    with times.stage("encode"):
        maps = encode_images(read.images, tools.encoder)
    return finish_frame(read, maps, tools, times)


def read_frame(frame: Frame, tools: Tools, times: StageTimes) -> ReadFrame:
    """Do what comes before the encoder.

    Raises:
        FrameError: a file is missing or senseless, the calibration is that of no camera, or no camera sees a point.
    """
    with times.stage("read"):
        cloud = read_cloud(frame, tools.dataset)
        earlier = earlier_cloud(frame, tools) if tools.sweeps else None
        label = read_labels(frame, tools.dataset)
        if label is None:
            label = tools.kept_labels.get(frame.token)
        images = [read_image(camera, tools) for camera in frame.cameras]
        check_labels(frame, cloud, label)
    with times.stage("lift"):
        return ReadFrame(frame, cloud, earlier, label, images, lift_frame(frame, cloud, tools, blank_of(images)))


def encode_images(images: Sequence[NDArray[np.uint8]], encoder: Encoder, at_once: int = 1) -> list[NDArray[np.float32]]:
    """The cells (rows, cols, C) float32 of each image (height, width, 3) uint8.

    Args:
        at_once: so many images of one size go through the encoder together; one by one the big encoders fit into the
            memory of a CPU.
    """
    return encode_batches(batches(images, at_once), encoder)


def batches(images: Sequence[NDArray[np.uint8]], at_once: int) -> list[Batch]:
    """Images of one size side by side, `at_once` of them at most."""
    made = []
    by_size = sorted(range(len(images)), key=lambda number: images[number].shape)
    for _, group in groupby(by_size, key=lambda number: images[number].shape):
        same = list(group)
        for start in range(0, len(same), at_once):
            part = same[start : start + at_once]
            made.append(Batch(part, np.stack([images[number] for number in part])))
    return made


def encode_batches(ready: Sequence[Batch], encoder: Encoder) -> list[NDArray[np.float32]]:
    """The cells (rows, cols, C) float32 of each image of some batches."""
    made: dict[int, NDArray[np.float32]] = {}
    for batch in ready:
        cells: Any = encoder.encode(batch.images)
        if not isinstance(cells, Tensor) or not _holds(cells, len(batch.numbers)):
            wanted = f"a dense float32 tensor (B, rows, cols, C) of {len(batch.numbers)} images"
            raise _no("encoder", encoder, "encode", cells, wanted)
        kept = cells.detach().to("cpu", copy=True)  # an encoder may write its next ones over its own
        made.update(zip(batch.numbers, kept.numpy(), strict=True))
    return [made[number] for number in range(len(made))]


def _holds(cells: Tensor, images: int) -> bool:
    """Tell whether a tensor has numbers to read, for so many images."""
    real = cells.layout == torch.strided and not cells.is_meta
    return real and cells.dtype == torch.float32 and cells.ndim == 4 and len(cells) == images


def finish_frame(read: ReadFrame, maps: Sequence[NDArray[np.float32]], tools: Tools, times: StageTimes) -> EncodedFrame:
    """Do what comes behind the encoder.

    Args:
        maps: the cells (rows, cols, C) of each camera's image.

    Raises:
        FrameError: they are no features.
    """
    frame, lifted, codec = read.frame, read.lifted, tools.codec
    with times.stage("lift"):
        features = VoxelFeatures(_joined(frame, maps, tools.encoder), lifted.weights)
        clip = encoded(codec, features, tools.state)
        objects = no_objects(tools.encoder.dim)
        if read.label is not None:
            objects = _objects(read.label, lifted, features, clip.stored, tools)
        thumbnails = [encode_thumbnail(image, tools.thumbnails) for image in read.images] if tools.thumbnails else []
        cached = CachedFrame(
            token=frame.token,
            scene=frame.scene,
            subset=frame.subset,
            index=frame.index,
            timestamp_us=frame.timestamp_us,
            xyz=read.cloud.xyz,
            intensity=read.cloud.intensity,
            point_voxel=lifted.point_voxel,
            views=lifted.points.views,
            label=read.label,
            coords=lifted.coords,
            valid=features.valid,
            # they go on in factors: what they come to, 45 MB for a frame of nuScenes, is never made
            clip=np.empty((len(lifted.coords), 0), np.float32),
            object_class=objects.classes,
            object_instance=objects.instance,
            object_points=objects.points,
            object_seen_points=objects.seen_points,
            object_embedding=objects.embedding,
            global_from_lidar=frame.global_from_lidar,
            cameras=camera_rows(frame, lifted, tools, thumbnails),
            beyond_range=lifted.beyond_range,
            earlier_xyz=None if read.earlier is None else read.earlier.xyz,
            earlier_intensity=None if read.earlier is None else read.earlier.intensity,
        )
        return encode_frame(cached, features, codec, tools.state, thumbnails, clip=clip)


def voxel_features(frame: Frame, tools: Tools) -> VoxelFeatures:
    """The CLIP features of a frame's voxels, and nothing else of it.

    Raises:
        FrameError: as `compute_frame` does.
    """
    images = [read_image(camera, tools) for camera in frame.cameras]
    lifted = lift_frame(frame, read_cloud(frame, tools.dataset), tools, blank_of(images))
    return VoxelFeatures(_joined(frame, encode_images(images, tools.encoder), tools.encoder), lifted.weights)


def _joined(frame: Frame, maps: Sequence[NDArray[np.float32]], encoder: Encoder) -> NDArray[np.float32]:
    """The cells (K, C) of all cameras.

    Raises:
        FrameError: the encoder makes features that are none.
    """
    for camera, cells in zip(frame.cameras, maps, strict=True):
        _check_features(frame, camera, encoder, cells)
    return np.concatenate([cells.reshape(-1, encoder.dim) for cells in maps])


def read_cloud(frame: Frame, dataset: Dataset) -> PointCloud:
    """The sweep of a frame, as a sweep can be.

    Raises:
        FrameError: a file that is missing or senseless; no points, or coordinates or intensities that no LiDAR gives.
    """
    cloud: Any = dataset.points(frame)
    _check_kind(dataset, "points", cloud)
    check_cloud(frame, cloud)
    return copy.deepcopy(cloud) if is_outside(dataset) else cloud  # it may read the next one into the same arrays


def _check_kind(dataset: Dataset, method: str, cloud: Any) -> None:
    """Raise FrameError if what a method of the data set gives is no sweep."""
    if not isinstance(cloud, PointCloud):
        raise _no("data set", dataset, method, cloud, "a PointCloud of float32")
    wrong = next((array for array in (cloud.xyz, cloud.intensity) if array.dtype != np.float32), None)
    if wrong is not None:
        raise _no("data set", dataset, method, wrong, "a PointCloud of float32")


def earlier_cloud(frame: Frame, tools: Tools) -> PointCloud:
    """The points of earlier sweeps; of none where a scene begins."""
    cloud: Any = tools.dataset.earlier_points(frame)  # type: ignore[attr-defined]  # see `Dataset.has_earlier_sweeps`
    _check_kind(tools.dataset, "earlier_points", cloud)
    fault = sweep_fault(cloud.xyz, cloud.intensity) if len(cloud) else None
    if fault:
        raise FrameError(
            f"of its earlier sweeps, {', '.join(Path(sweep.points_path).name for sweep in frame.earlier)}, {fault}",
            path=frame.earlier[0].points_path,
            frame=frame.token,
            remedy="Look at their points, and at the poses of the vehicle by which they are brought to its time",
        )
    return cloud


def check_cloud(frame: Frame, cloud: PointCloud) -> None:
    """Check that the points of a frame are those of a sweep.

    Raises:
        FrameError: they are not.
    """
    fault = sweep_fault(cloud.xyz, cloud.intensity)
    if fault:
        raise FrameError(
            fault,
            path=frame.points_path,
            frame=frame.token,
            remedy="Points are in metres, in the LiDAR's own frame, without pulses that had no return",
        )


def read_labels(frame: Frame, dataset: Dataset) -> NDArray[np.uint32] | None:
    """The raw labels (N,) uint32 of a frame; None where it has none.

    Raises:
        FrameError: a file that is missing or senseless.
    """
    label: Any = dataset.labels(frame)
    if label is None and frame.labels_path is not None:
        raise _no("data set", dataset, "labels", label, f"(N,) uint32: its labels_path is {frame.labels_path}")
    if label is not None and (not isinstance(label, np.ndarray) or label.dtype != np.uint32 or label.ndim != 1):
        raise _no("data set", dataset, "labels", label, "(N,) uint32")
    return label


def _no(kind: str, thing: Any, method: str, given: Any, wanted: str) -> FrameError:
    return misgiven(kind, thing, method, f"{described(given)}, expected {wanted}", FrameError)


def read_image(camera: Camera, tools: Tools) -> NDArray[np.uint8]:
    """The image of a camera (height, width, 3) uint8.

    Raises:
        FrameError: missing, damaged, or of another size than the calibration is for.
    """
    image: Any = tools.dataset.image(camera)
    if not isinstance(image, np.ndarray):
        raise _no("data set", tools.dataset, "image", image, "(height, width, 3) uint8")
    if image.shape != (camera.height, camera.width, 3) or image.dtype != np.uint8:
        raise FrameError(
            f"the image of {camera.channel} is {image.dtype} of shape {image.shape}, expected uint8 of"
            f" ({camera.height}, {camera.width}, 3)",
            path=camera.image_path,
            remedy="Use the image that the calibration is for",
        )
    return image.copy() if is_outside(tools.dataset) else image  # as in `read_cloud`


def blank_of(images: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Find the images of one colour, by number: those of a camera that is dead or covered, and never of a street."""
    return [number for number, image in enumerate(images) if (image == image[:1, :1]).all()]


def lift_frame(frame: Frame, cloud: PointCloud, tools: Tools, blank: Collection[int] = ()) -> Lifted:
    """Project, voxelise, average; no image is needed.

    Args:
        blank: cameras whose images show nothing, by number: they see no point.

    Raises:
        FrameError: the calibration is that of no camera, or no camera sees a point.
    """
    check_calibration(frame)
    cell_grids = [cells_of(tools.encoder, camera) for camera in frame.cameras]
    points = lift_points(cloud.xyz, frame.cameras, cell_grids, tools.occlusion, blank)
    if len(blank) == len(frame.cameras):
        raise FrameError(
            f"the images of all {len(blank)} cameras are of one colour each, and show nothing",
            path=frame.cameras[0].image_path,
            frame=frame.token,
            remedy="Fetch the images again, or take the frame out of the data set",
        )
    if not any(points.seen):
        raise FrameError(
            f"none of the {len(frame.cameras)} cameras sees a point",
            path=frame.points_path,
            frame=frame.token,
            remedy="Check the calibration and the poses",
        )
    coords, point_voxel = voxelise(cloud.xyz, tools.grid)
    weights = lift_voxels(points, point_voxel, len(coords))
    return Lifted(points, coords, point_voxel, weights, int(tools.grid.beyond(cloud.xyz).sum()))


def _objects(
    label: NDArray[np.uint32], lifted: Lifted, features: VoxelFeatures, stored: VoxelFeatures, tools: Tools
) -> Objects:
    """Of the cells as they will be stored, where the codec keeps them: labels that come later give the same bits."""
    points, codec = lifted.points, tools.codec
    if not codec.keeps_cells:
        return find_objects(label, tools.taxonomy, points.weights, points.views, features.cells)
    return objects_of_stored(label, tools.taxonomy, points, lifted.weights, stored)


def camera_rows(frame: Frame, lifted: Lifted, tools: Tools, thumbnails: Sequence[bytes] = ()) -> tuple[CameraRow, ...]:
    """The cameras of a frame, how many points each sees, and how long its thumbnail is."""
    lengths = [len(content) for content in thumbnails] or [0] * len(frame.cameras)
    return tuple(
        row_of_camera(camera, seen, cells_of(tools.encoder, camera), tools.dataroot, thumbnail_bytes)
        for camera, seen, thumbnail_bytes in zip(frame.cameras, lifted.points.seen, lengths, strict=True)
    )


def smallest_codec(frame: Frame, tools: Tools) -> str:
    """The codec that stores this frame in the fewest bytes, of those that lose nothing."""
    return codecs.smallest(lift_frame(frame, read_cloud(frame, tools.dataset), tools).weights, tools.encoder.dim)


def check_labels(frame: Frame, cloud: PointCloud, label: NDArray[np.uint32] | None) -> None:
    """Check that the labels of a frame, if it has some, are of its points.

    Raises:
        FrameError: they are not.
    """
    if label is None or len(label) == len(cloud):
        return
    if frame.labels_path is None:
        raise FrameError(
            f"{len(cloud)} points are read of it now, and its labels, which the store alone has, are {len(label)}",
            path=frame.points_path,
            frame=frame.token,
            remedy="Put its label file back, or compute into another place",
        )
    raise FrameError(
        f"{len(label)} labels for {len(cloud)} points",
        path=frame.labels_path,
        frame=frame.token,
        remedy="Points and labels are of different downloads: fetch both again",
    )


def _check_features(frame: Frame, camera: Camera, encoder: Encoder, cells: NDArray[np.float32]) -> None:
    """Cells (rows, cols, C) of a sensible encoder are unit vectors. NaN in a store would be blamed on its readers."""
    grid = cells_of(encoder, camera)
    if cells.shape != (grid.rows, grid.cols, encoder.dim):
        raise FrameError(
            f"{encoder.name} gives {camera.channel} cells of shape {cells.shape}, and said {grid} of {encoder.dim}",
            path=camera.image_path,
            frame=frame.token,
            remedy="Mend the encoder: `encode` must fit `cells`",
        )
    squares = np.einsum("ijc,ijc->ij", cells, cells)
    bad = ~(np.abs(np.sqrt(squares) - 1) < UNIT)  # NaN is not near anything
    if bad.any():
        raise FrameError(
            f"{encoder.name} gives {bad.sum()} of {bad.size} cells of {camera.channel} a feature that is no unit"
            " vector: NaN, infinity or nothing",
            path=camera.image_path,
            frame=frame.token,
            remedy="If it does so for every image, its weights are at fault: give others (--weights)",
        )
