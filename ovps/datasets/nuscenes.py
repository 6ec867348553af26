"""Reading of nuScenes, and of whatever else is laid out like it. nuscenes-devkit is the reference of its tests.

Key frames: the sweep of LIDAR_TOP, the images that belong to it, and the panoptic labels where the version has them;
on request sweeps before it, as further input. File formats as in the devkit's documentation: points are 5 float32
(x, y, z, intensity 0..255, ring), panoptic labels uint16 = 1000 * general class index + instance under the npz key
`data`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.clocks import MOST_US, odd_unit, standing_clocks
from ovps.datasets.nuscenes_rows import Row
from ovps.datasets.nuscenes_tables import (
    LIDAR,
    Sample,
    Tables,
    inside_dataroot,
    label_archive,
    read_tables,
    shared_calibrations,
    split_warnings,
    take_again,
)
from ovps.datasets.reading import is_kitti_scan, read_float32_rows, read_npz_uint16, read_rgb
from ovps.errors import DatasetError, FrameError
from ovps.frame import Camera, EarlierSweep, Frame, PointCloud
from ovps.geometry.visibility import Occlusion
from ovps.taxonomy import Taxonomy, load_taxonomy

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
_COLUMNS = 5
_OWN_CAR_M = 1.0  # nearer than this in x and in y are returns of the car itself
_RINGS = 256  # of the finest LiDAR, and more
_UPRIGHT = 0.5  # cosine between the car's up and the world's; the steepest street has 0.94
_UNIT = 0.01  # how far rounding may leave a quaternion from length 1
_EXACT = 1e-14  # so near to it none is normalised, as in pyquaternion
_BLOBS = (
    "Take the file again from the archive of blobs that holds it (v1.0-trainval01_blobs.tgz to"
    " v1.0-trainval10_blobs.tgz, v1.0-test_blobs.tgz, v1.0-mini.tgz; a drive world is built again)"
)
_LABELS = (
    "Take the file again from nuScenes-panoptic-v1.0-all.tar.gz or nuScenes-panoptic-v1.0-mini.tar.gz (a drive world is"
    " built again)"
)
_ROWS = "A row is x, y, z in metres, an intensity of 0 to 255 and the number of the ring, each a float32"


class NuScenes:
    """The data set nuScenes as `ovps.datasets.protocol.Dataset`."""

    name = "nuscenes"
    occlusion = Occlusion()
    default_version = "v1.0-trainval"
    usual_subsets: ClassVar = {"v1.0-mini": ("mini_train", "mini_val"), "v1.0-test": ("test",)}
    has_earlier_sweeps = True

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return load_taxonomy(self.name)

    def frames(self, root: Path, version: str, subsets: Sequence[str], *, sweeps: int = 0) -> list[Frame]:
        """The key frames of some splits, scene after scene in the table's order, each in order of time.

        A split is read from `<version>/splits.json` where that names it, else it is the official list; scenes of it
        that the dataroot does not hold are left out.

        Args:
            root: holds `samples/` and the folder of the version.
            version: e.g. `v1.0-trainval`.
            subsets: names of splits, e.g. `("train", "val")`; of official ones a scene in two of them belongs to the
                first, those of splits.json may have none in common.
            sweeps: frames get as many earlier sweeps of their scene, or those that there are.

        Raises:
            DatasetError: the folder, the version, a table, a split or a calibration is missing or senseless.
        """
        return _frames(read_tables(Path(root), version, subsets, self.taxonomy, sweeps))

    def warnings(self, root: Path, frames: Sequence[Frame]) -> list[str]:
        """Say what is odd in the tables that some frames come from and may be meant.

        Frames without a row in the table of labels, times that do not go on, files of several frames, cameras in one
        place, scenes of splits.json that are not there, or in an official split too, and scenes of no split.

        Raises:
            DatasetError: as `frames`.
        """
        subsets = list(dict.fromkeys(frame.subset for frame in frames))
        folder = Path(root) / frames[0].version if frames else None
        odd = [*split_warnings(folder, subsets), *shared_calibrations(folder)] if folder else []
        return [
            *odd,
            *_without_labels(folder, frames),
            *_shared_files(frames),
            *standing_clocks(frames),
            *odd_unit(frames),
        ]

    def points(self, frame: Frame) -> PointCloud:
        """The LiDAR sweep of a frame; intensity is brought to 0..1.

        Raises:
            FrameError: missing, cut off or empty file, NaN or infinity in it, or rows that are not those of nuScenes.
        """
        rows = read_float32_rows(frame.points_path, _COLUMNS, frame.token, _BLOBS)
        fault = _fault_of_sweep(rows)
        if fault:
            raise FrameError(fault, path=frame.points_path, frame=frame.token, remedy=_ROWS)
        return PointCloud(np.ascontiguousarray(rows[:, :3]), rows[:, 3] / np.float32(255))

    def earlier_points(self, frame: Frame) -> PointCloud:
        """The points of all earlier sweeps of a frame, the latest sweep first, in the frame's own LiDAR frame.

        Returns of the car that carries the sensors are left out, as the devkit does where it joins sweeps: they would
        be smeared over its path.

        Raises:
            FrameError: as `points` does.
        """
        xyz, intensity = [np.zeros((0, 3), np.float32)], [np.zeros(0, np.float32)]
        for sweep in frame.earlier:
            cloud = self.points(replace(frame, points_path=sweep.points_path))
            far = (np.abs(cloud.xyz[:, :2]) >= _OWN_CAR_M).any(axis=1)
            moved = cloud.xyz[far] @ sweep.lidar_from_earlier[:3, :3].T + sweep.lidar_from_earlier[:3, 3]
            xyz.append(moved.astype(np.float32))
            intensity.append(cloud.intensity[far])
        return PointCloud(np.concatenate(xyz), np.concatenate(intensity))

    def labels(self, frame: Frame) -> NDArray[np.uint32] | None:
        """Raw panoptic labels (N,) uint32, one per point, 1000 * general class index + instance; None where the
        version has none.

        Raises:
            FrameError: a missing or damaged file, another number of labels than points, an unknown class.
        """
        if frame.labels_path is None:
            return None
        labels = read_npz_uint16(frame.labels_path, frame.token, _LABELS)
        points = len(read_float32_rows(frame.points_path, _COLUMNS, frame.token, _BLOBS))
        if len(labels) != points:
            raise FrameError(
                f"{len(labels)} labels for {points} points of {frame.points_path}",
                path=frame.labels_path,
                frame=frame.token,
                remedy=f"One of the two is cut off or of another download. Points: {_BLOBS}. Labels: {_LABELS}",
            )
        highest = int(labels.max()) // 1000
        if highest not in self.taxonomy.raw_names:
            raise FrameError(
                f"a label of class {highest}, nuScenes has 0 to {max(self.taxonomy.raw_names)}",
                path=frame.labels_path,
                frame=frame.token,
                remedy=f"{_LABELS}; labels of your own are 1000 * general class index + instance",
            )
        return labels.astype(np.uint32)

    def image(self, camera: Camera) -> NDArray[np.uint8]:
        """The image as RGB (height, width, 3) uint8.

        Raises:
            FrameError: missing or cut off, of another size than the tables say, or with pixels that have no one reading
                as 8-bit RGB.
        """
        return read_rgb(camera, _BLOBS)


DATASET = NuScenes()


def _without_labels(folder: Path | None, frames: Sequence[Frame]) -> list[str]:
    """Warn of frames that the table of labels of their version does not name, or of labels that are no panoptic ones,
    in one sentence, or none."""
    without = [frame.token for frame in frames if frame.labels_path is None]
    if not without or folder is None:
        return []
    missing, table = f"{len(without)} of {len(frames)} frames have no labels", folder / "panoptic.json"
    if table.is_file():
        return [f"{missing}: {table} has no row of their sweeps, the first is {without[0]}"]
    if (folder / "lidarseg.json").is_file():
        return [
            f"{missing}: {folder} has lidarseg ones, which tell no objects apart and are not read; unpack"
            f" {label_archive(folder.name)} too"
        ]
    return []


def _shared_files(frames: Sequence[Frame]) -> list[str]:
    """Warn of images and point files that several frames or sensors have, in one sentence, or none."""
    files = Counter(file for f in frames for file in (f.points_path, *(camera.image_path for camera in f.cameras)))
    shared = [file for file, count in files.items() if count > 1]
    if not shared:
        return []
    return [
        f"{len(shared)} files are those of several frames or sensors by sample_data.json, the first is {shared[0]}"
        f" ({files[shared[0]]} times): each has files of its own"
    ]


def _fault_of_sweep(rows: NDArray[np.float32]) -> str | None:
    """What keeps rows (N, 5) float32 from being x, y, z, intensity 0..255, ring; None if nothing does."""
    intensity, ring = rows[:, 3], rows[:, 4]
    rings = (ring % 1 == 0) & (ring >= 0) & (ring < _RINGS)
    intensities = (intensity >= 0) & (intensity <= 255)
    if not (rings.all() and intensities.all()):
        if is_kitti_scan(rows.reshape(-1)):
            return "the point file looks like 4 columns of float32, a KITTI scan, expected 5"
        if not rings.all():
            return f"{(~rings).sum()} of {len(rows)} points have no ring in their last column, but {ring[~rings][0]:g}"
        return (
            f"{(~intensities).sum()} of {len(rows)} points have intensities outside 0..255:"
            f" {intensity.min():g} to {intensity.max():g}"
        )
    if 0 < intensity.max() <= 1:
        return f"no intensity is above {intensity.max():g}: they are of 0..1, expected 0..255"
    return None


def _frames(tables: Tables) -> list[Frame]:
    """The frames of all samples; what is the same for all is computed at once."""
    if not tables.samples:
        return []
    root, channels = str(tables.dataroot.absolute()), _in_order(tables.cameras)
    rows = [sample.data[channel] for sample in tables.samples for channel in (LIDAR, *channels)]
    _check_times(tables, rows)
    _check_sizes(tables, (sample.data[channel] for sample in tables.samples for channel in channels))
    placed = _global_from_sensors(tables, rows).reshape(len(tables.samples), -1, 4, 4)
    camera_from_lidar = _inverse(placed[:, 1:]) @ placed[:, :1]
    intrinsics = _intrinsics(tables, channels)
    before = [row for sample in tables.samples for row in sample.earlier]
    global_from_earlier = iter(_global_from_sensors(tables, before))

    def path(filename: str, table: str = "sample_data") -> str:
        return inside_dataroot(root, filename, tables.path(table))

    def camera(channel: str, row: Row, camera_from_lidar: NDArray[np.float64]) -> Camera:
        return Camera(
            channel=channel,
            image_path=path(row["filename"]),
            width=row["width"],
            height=row["height"],
            intrinsics=intrinsics[row["calibrated_sensor_token"]],
            camera_from_lidar=camera_from_lidar,
            timestamp_us=row["timestamp"],
        )

    def sweep(row: Row, lidar_from_global: NDArray[np.float64]) -> EarlierSweep:
        return EarlierSweep(path(row["filename"]), lidar_from_global @ next(global_from_earlier), row["timestamp"])

    def frame(number: int, sample: Sample) -> Frame:
        lidar = sample.data[LIDAR]
        lidar_from_global = _inverse(placed[number, 0])
        label = tables.labels.get(lidar["token"])
        return Frame(
            dataset=DATASET.name,
            version=tables.version,
            subset=sample.subset,
            scene=sample.scene,
            token=lidar["token"],
            index=sample.index,
            timestamp_us=lidar["timestamp"],
            points_path=path(lidar["filename"]),
            labels_path=None if label is None else path(label, "panoptic"),
            cameras=tuple(
                camera(channel, sample.data[channel], camera_from_lidar[number, k])
                for k, channel in enumerate(channels)
            ),
            global_from_lidar=placed[number, 0],
            earlier=tuple(sweep(row, lidar_from_global) for row in sample.earlier),
        )

    return [frame(number, sample) for number, sample in enumerate(tables.samples)]


def _in_order(channels: Collection[str]) -> list[str]:
    """The official six in their order, then any other camera by name."""
    return [c for c in CAMERAS if c in channels] + sorted(set(channels) - set(CAMERAS))


def _check_times(tables: Tables, rows: Iterable[Row]) -> None:
    for row in rows:
        if not 0 <= row["timestamp"] < MOST_US:
            raise _unusable(tables, row, "sample_data", "timestamp", "microseconds")


def _check_sizes(tables: Tables, rows: Iterable[Row]) -> None:
    for row in rows:
        for side in ("width", "height"):
            if not isinstance(row.get(side), int) or row[side] < 1:
                raise _unusable(tables, row, "sample_data", side, "pixels")


def _global_from_sensors(tables: Tables, rows: Sequence[Row]) -> NDArray[np.float64]:
    """(M, 4, 4) float64, of sensors at their own time stamps."""
    poses = [tables.ego_pose[row["ego_pose_token"]] for row in rows]
    global_from_ego = _rigid(tables, "ego_pose", poses)
    fallen = global_from_ego[:, 2, 2] < _UPRIGHT
    if fallen.any():
        upright = "a quaternion (w, x, y, z) under which the car stands on its wheels"
        raise _unusable(tables, poses[fallen.argmax()], "ego_pose", "rotation", upright)
    tokens = {row["calibrated_sensor_token"]: None for row in rows}
    ego_from_sensor = _rigid(tables, "calibrated_sensor", [tables.calibrated_sensor[token] for token in tokens])
    place = {token: number for number, token in enumerate(tokens)}
    return global_from_ego @ ego_from_sensor[[place[row["calibrated_sensor_token"]] for row in rows]]


def _rigid(tables: Tables, table: str, rows: Sequence[Row]) -> NDArray[np.float64]:
    """(M, 4, 4) float64 from quaternions (w, x, y, z), which are normalised, and translations in metres."""
    rotation = _floats(tables, rows, table, "rotation", (4,))
    squares = (rotation[:, None] @ rotation[:, :, None])[:, 0, 0]
    far = np.abs(np.sqrt(squares) - 1) > _UNIT  # a place holder, or not a rotation: normalising would hide it
    if far.any():
        raise _unusable(tables, rows[far.argmax()], table, "rotation", "a quaternion (w, x, y, z) of length 1")
    norm = np.where(np.abs(squares - 1) < _EXACT, 1.0, np.sqrt(squares))
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3, :3] = rotation_matrices(rotation / norm[:, None])
    matrices[:, :3, 3] = _floats(tables, rows, table, "translation", (3,))
    return matrices


def rotation_matrices(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrices (M, 3, 3) float64 of unit quaternions (M, 4), w first: v is turned to q v q*."""
    w, x, y, z = quaternions.T
    left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    right = np.array([[w, -x, -y, -z], [x, w, z, -y], [y, -z, w, x], [z, y, -x, w]])
    # in memory matrix after matrix, which BLAS asks for; rounded as pyquaternion's are, bit by bit
    left, right = (np.ascontiguousarray(m.transpose(2, 0, 1)) for m in (left, right))
    return (left @ right.swapaxes(1, 2))[:, 1:, 1:]


def _intrinsics(tables: Tables, channels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """(3, 3) float64 of every camera in use, by token of its calibration."""
    rows = {
        row["calibrated_sensor_token"]: tables.calibrated_sensor[row["calibrated_sensor_token"]]
        for sample in tables.samples
        for row in map(sample.data.__getitem__, channels)
    }
    values = _floats(tables, list(rows.values()), "calibrated_sensor", "camera_intrinsic", (3, 3))
    return dict(zip(rows, values, strict=True))


def _floats(
    tables: Tables, rows: Sequence[Row], table: str, column: str, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """(M, *shape) float64, all finite."""
    if not rows:
        return np.zeros((0, *shape))
    values = _array([row.get(column) for row in rows], (len(rows), *shape))
    if values is not None:
        return values
    bad = next(row for row in rows if _array(row.get(column), shape) is None)
    raise _unusable(tables, bad, table, column, f"finite numbers of shape {shape}")


def _array(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    try:
        values = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return values if values.shape == shape and np.isfinite(values).all() else None


def _unusable(tables: Tables, row: Row, table: str, column: str, expected: str) -> DatasetError:
    path = tables.path(table)
    return DatasetError(
        f"{table} {row['token']} has no usable {column}, expected {expected}",
        path=path,
        remedy=f"{take_again(path)}; in a table of your own, write {expected}",
    )


def _inverse(rigid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of rigid transforms (..., 4, 4)."""
    turned = np.swapaxes(rigid[..., :3, :3], -1, -2)
    inverse = np.zeros_like(rigid)
    inverse[..., :3, :3] = turned
    inverse[..., :3, 3] = (-turned @ rigid[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse
