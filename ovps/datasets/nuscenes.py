"""nuScenes, and whatever else is laid out as a nuScenes dataroot, through the unmodified nuscenes-devkit.

Key frames only: the sweep of LIDAR_TOP, the images that belong to it, and the panoptic labels where the version has
them. File formats as in the devkit's documentation: points are 5 float32 (x, y, z, intensity 0..255, ring), panoptic
labels uint16 = 1000 * general class index + instance under the npz key `data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.nuscenes_tables import inside_dataroot, open_tables, scenes_of_subset, take_again
from ovps.datasets.reading import SKIP, is_kitti_scan, read_float32_rows, read_npz_uint16, read_rgb
from ovps.errors import DatasetError, FrameError
from ovps.extras import extra
from ovps.frame import Camera, Frame, PointCloud
from ovps.geometry.visibility import Occlusion
from ovps.taxonomy import Taxonomy, load_taxonomy

with extra("nuscenes"):
    from pyquaternion import Quaternion

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
_LIDAR = "LIDAR_TOP"
_GENERAL_CLASSES = 32
_COLUMNS = 5
_RINGS = 256  # of the finest LiDAR, and more
_UNIT = 0.01  # how far rounding may leave a quaternion from length 1
_BLOBS = (
    "Take the file again from the archive of blobs that holds it (v1.0-trainval01_blobs.tgz to"
    " v1.0-trainval10_blobs.tgz, v1.0-test_blobs.tgz, v1.0-mini.tgz; a drive world is built again)" + SKIP
)
_LABELS = (
    "Take the file again from nuScenes-panoptic-v1.0-all.tar.gz or nuScenes-panoptic-v1.0-mini.tar.gz (a drive world is"
    " built again)" + SKIP
)
_ROWS = "A row is x, y, z in metres, an intensity of 0 to 255 and the number of the ring, each a float32"


class NuScenes:
    """nuScenes as `ovps.datasets.protocol.Dataset`."""

    name = "nuscenes"
    occlusion = Occlusion()
    default_version = "v1.0-trainval"

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return load_taxonomy(self.name)

    def frames(self, root: Path, version: str, subsets: Sequence[str]) -> list[Frame]:
        """The key frames of some splits, scene after scene in the table's order, each in order of time.

        A split is read from `<version>/splits.json` where that names it, else it is the official list; scenes of it
        that the dataroot does not hold are left out.

        Args:
            root: holds `samples/` and the folder of the version.
            version: e.g. `v1.0-trainval`.
            subsets: names of splits, e.g. `("train", "val")`; a scene in two of them belongs to the first.

        Raises:
            DatasetError: the folder, the version, a table, a split or a calibration is missing or senseless.
        """
        tables = open_tables(Path(root), version)
        subset_of: dict[str, str] = {}
        for subset in subsets:
            for scene in scenes_of_subset(tables, subset):
                subset_of.setdefault(scene, subset)
        labels = {row["sample_data_token"]: row["filename"] for row in getattr(tables, "panoptic", [])}
        samples: dict[str, list[dict]] = {scene["token"]: [] for scene in tables.scene if scene["name"] in subset_of}
        for sample in tables.sample:
            if sample["scene_token"] in samples:
                samples[sample["scene_token"]].append(sample)
        frames = []
        for token, in_scene in samples.items():
            scene = tables.get("scene", token)["name"]
            for index, sample in enumerate(sorted(in_scene, key=lambda sample: sample["timestamp"])):
                frames.append(_frame(tables, sample, scene, subset_of[scene], index, labels))
        return frames

    def points(self, frame: Frame) -> PointCloud:
        """The LiDAR sweep of a frame; intensity is brought to 0..1.

        Raises:
            FrameError: missing, cut off or empty file, NaN or infinity in it, or rows that are not those of nuScenes.
        """
        rows = read_float32_rows(frame.points_path, _COLUMNS, frame.token, _BLOBS)
        fault = _fault_of_sweep(rows)
        if fault:
            raise FrameError(fault, path=frame.points_path, frame=frame.token, remedy=_ROWS + SKIP)
        return PointCloud(np.ascontiguousarray(rows[:, :3]), rows[:, 3] / np.float32(255))

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
        if highest >= _GENERAL_CLASSES:
            raise FrameError(
                f"a label of class {highest}, nuScenes has 0 to {_GENERAL_CLASSES - 1}",
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


def _frame(tables: Any, sample: dict, scene: str, subset: str, index: int, labels: dict[str, str]) -> Frame:
    dataroot = Path(tables.dataroot)
    lidar = _sample_data(tables, sample, _LIDAR)
    global_from_lidar = _global_from_sensor(tables, lidar)
    return Frame(
        dataset=DATASET.name,
        version=tables.version,
        subset=subset,
        scene=scene,
        token=lidar["token"],
        index=index,
        timestamp_us=lidar["timestamp"],
        points_path=inside_dataroot(dataroot, lidar["filename"], _table(tables, "sample_data")),
        labels_path=(
            inside_dataroot(dataroot, labels[lidar["token"]], _table(tables, "panoptic"))
            if lidar["token"] in labels
            else None
        ),
        cameras=tuple(
            _camera(tables, _sample_data(tables, sample, channel), global_from_lidar)
            for channel in _camera_channels(tables)
        ),
        global_from_lidar=global_from_lidar,
    )


def _camera_channels(tables: Any) -> list[str]:
    """The official six in their order, then any other camera by name."""
    present = {row["channel"] for row in tables.sensor if row["modality"] == "camera"}
    return [c for c in CAMERAS if c in present] + sorted(present - set(CAMERAS))


def _sample_data(tables: Any, sample: dict, channel: str) -> dict:
    if channel not in sample["data"]:
        path = _table(tables, "sample_data")
        raise DatasetError(
            f"sample {sample['token']} has no key frame of {channel}",
            path=path,
            remedy=f"{take_again(path)}; in a data set of your own every sample has one of each sensor",
        )
    return tables.get("sample_data", sample["data"][channel])


def _camera(tables: Any, record: dict, global_from_lidar: NDArray[np.float64]) -> Camera:
    calibration = tables.get("calibrated_sensor", record["calibrated_sensor_token"])
    intrinsics = _floats(tables, calibration, "calibrated_sensor", "camera_intrinsic", (3, 3))
    for side in ("width", "height"):
        if not isinstance(record.get(side), int) or record[side] < 1:
            raise _unusable(tables, record, "sample_data", side, "pixels")
    return Camera(
        channel=record["channel"],
        image_path=inside_dataroot(Path(tables.dataroot), record["filename"], _table(tables, "sample_data")),
        width=record["width"],
        height=record["height"],
        intrinsics=intrinsics,
        camera_from_lidar=_inverse(_global_from_sensor(tables, record)) @ global_from_lidar,
        timestamp_us=record["timestamp"],
    )


def _global_from_sensor(tables: Any, record: dict) -> NDArray[np.float64]:
    """(4, 4) float64 at the sensor's own time stamp."""
    return _rigid(tables, record, "ego_pose") @ _rigid(tables, record, "calibrated_sensor")


def _rigid(tables: Any, record: dict, table: str) -> NDArray[np.float64]:
    """(4, 4) float64 from a quaternion (w, x, y, z), normalised as the devkit does, and a translation in metres."""
    row = tables.get(table, record[f"{table}_token"])
    matrix = np.eye(4)
    rotation = Quaternion(_floats(tables, row, table, "rotation", (4,)))
    if abs(rotation.norm - 1) > _UNIT:  # a place holder, or not a rotation: normalising would hide it
        raise _unusable(tables, row, table, "rotation", "a quaternion (w, x, y, z) of length 1")
    matrix[:3, :3] = rotation.rotation_matrix
    matrix[:3, 3] = _floats(tables, row, table, "translation", (3,))
    return matrix


def _floats(tables: Any, row: dict, table: str, column: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        values = np.array(row.get(column), np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.zeros(0)
    if values.shape != shape or not np.isfinite(values).all():
        raise _unusable(tables, row, table, column, f"finite numbers of shape {shape}")
    return values


def _unusable(tables: Any, row: dict, table: str, column: str, expected: str) -> DatasetError:
    path = _table(tables, table)
    return DatasetError(
        f"{table} {row['token']} has no usable {column}, expected {expected}",
        path=path,
        remedy=f"{take_again(path)}; in a table of your own, write {expected}",
    )


def _table(tables: Any, name: str) -> Path:
    return Path(tables.table_root) / f"{name}.json"


def _inverse(rigid: NDArray[np.float64]) -> NDArray[np.float64]:
    inverse = np.eye(4)
    inverse[:3, :3] = rigid[:3, :3].T
    inverse[:3, 3] = -rigid[:3, :3].T @ rigid[:3, 3]
    return inverse
