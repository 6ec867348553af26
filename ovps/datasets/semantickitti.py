"""SemanticKITTI, and whatever else is laid out as KITTI's odometry benchmark.

    ROOT/sequences/NN/velodyne/NNNNNN.bin    rows of 4 float32: x, y, z in metres, intensity 0..1
                      image_2/NNNNNN.png     left colour camera, P2; image_3: right, P3
                      labels/NNNNNN.label    uint32 a point: class in the lower 16 bits, instance in the upper
                      calib.txt              P0..P3 and Tr
                      poses.txt, times.txt   one line a scan; both may be missing
    ROOT/poses/NN.txt                        in place of a poses.txt, as KITTI's own archive has them
    ROOT/splits.json                         {"train": ["00", ...], ...}; without it the official sequences

Sweeps are compensated for the car's motion, to the time at which the cameras fire: one rigid transform a sequence.
LiDAR frame: x forward, y left, z up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovps import strict_json
from ovps.datasets.kitti_calibration import Calibration, read_calibration, read_poses, read_times
from ovps.datasets.kitti_sequence import (
    AGAIN,
    CALIBRATION,
    CAMERAS,
    IMAGES,
    LABELS,
    NAMES,
    POINTS,
    TIMES,
    list_scans,
    poses_file,
)
from ovps.datasets.kitti_warnings import sequence_warnings
from ovps.datasets.near_names import refuse_other_case, renamed
from ovps.datasets.reading import MOST_PIXELS, is_nuscenes_sweep, read_float32_rows, read_rgb, read_uint32
from ovps.datasets.splits import check_apart, missing_scenes, unnamed_scenes
from ovps.errors import DatasetError, FrameError, listed
from ovps.frame import Camera, Frame, PointCloud
from ovps.geometry.visibility import Occlusion
from ovps.shortage import faults
from ovps.taxonomy import Taxonomy, load_taxonomy

OFFICIAL = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": tuple(str(number) for number in range(11, 22)),
}
SPLITS = "splits.json"
_VERSION = "v1.0"
_COLUMNS = 4
_PERIOD_US = 100_000  # ten sweeps a second
_ROWS = "A row is x, y, z in metres and an intensity of 0 to 1, each a float32"


class SemanticKitti:
    """SemanticKITTI as `ovps.datasets.protocol.Dataset`.

    Attributes:
        default_cameras: what `--cameras` is where nobody says: the left colour camera.
    """

    name = "semantickitti"
    # 64 beams, 0.3 to 0.5 degrees apart, a pulse each 0.1 to 0.2 degrees, in the drive world each 0.35
    occlusion = Occlusion(vertical_deg=0.6, horizontal_deg=0.4)
    default_version = _VERSION
    default_cameras = ("image_2",)

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return load_taxonomy(self.name)

    def frames(self, root: Path, version: str, subsets: Sequence[str]) -> list[Frame]:
        """The scans of some splits, sequence after sequence, each in order of its numbers.

        Sequences of a split that the folder does not hold are left out. A frame has the cameras whose folders there
        are. A folder `labels` says that every scan of its sequence has labels.

        Args:
            root: holds `sequences/`.
            version: there is but v1.0.
            subsets: `train`, `val`, `test`, or those of splits.json, of which no two may have a sequence in common.

        Raises:
            DatasetError: no such folder, version or split, none of its sequences, a sequence in two splits, a
                calibration that cannot be used, or a scan under a name that is not read.
        """
        root = Path(root)
        if version != _VERSION:
            raise DatasetError(
                f"SemanticKITTI has no version {version!r}",
                path=root,
                remedy=f"There is but {_VERSION}",
            )
        folder = _sequences_folder(root)
        splits = _splits(root)
        subset_of: dict[str, str] = {}
        for subset in subsets:
            if subset not in splits:
                raise DatasetError(f"no split {subset!r}", path=root, remedy=f"Its splits are: {', '.join(splits)}")
            subset_of |= dict.fromkeys(splits[subset], subset)
        if splits is not OFFICIAL:
            _check_splits(root / SPLITS, splits, subsets, folder)
        found = [name for name in sorted(subset_of) if (folder / name).is_dir()]
        if not found:
            there = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in subset_of)
            raise DatasetError(
                f"none of the sequences of {', '.join(subsets)} is there: {', '.join(sorted(subset_of))}",
                path=folder,
                remedy=f"Download them, or a split with others ({', '.join(there) or 'none'}), or name them"
                f' in {root / SPLITS}, for example {{"val": ["00"]}}',
            )
        return [frame for name in found for frame in _frames(folder / name, subset_of[name])]

    def warnings(self, root: Path, frames: Sequence[Frame]) -> list[str]:
        """Say what is odd in the sequences of some frames and may be meant: scans, times and poses that are missing.

        And sequences of their splits that splits.json names and that are not there, and those that no split names.

        Raises:
            DatasetError: times or poses that cannot be read, or splits.json.
        """
        root, splits = Path(root), _splits(Path(root))
        folder = _sequences_folder(root)
        drives = [name for name in _there(folder) if (folder / name / POINTS).is_dir()]
        named = {} if splits is OFFICIAL else {subset: splits.get(subset, ()) for subset in {f.subset for f in frames}}
        return [
            *missing_scenes(named, _there(folder), root / SPLITS, "sequence"),
            *unnamed_scenes([*OFFICIAL.values(), *splits.values()], drives, root / SPLITS, "sequence"),
            *sequence_warnings(list(dict.fromkeys(Path(frame.points_path).parent.parent for frame in frames))),
        ]

    def points(self, frame: Frame) -> PointCloud:
        """The sweep of a frame.

        Raises:
            FrameError: missing, cut off or empty file, NaN or infinity in it, or rows that are not those of KITTI.
        """
        rows = read_float32_rows(frame.points_path, _COLUMNS, frame.token, AGAIN["velodyne"])
        intensity = rows[:, 3]
        if not ((intensity >= 0) & (intensity <= 1)).all():
            fault = f"intensities are {intensity.min():g} to {intensity.max():g}, expected 0 to 1"
            if is_nuscenes_sweep(rows.reshape(-1)):
                fault = "the point file looks like 5 columns of float32, a nuScenes sweep, expected 4"
            raise FrameError(fault, path=frame.points_path, frame=frame.token, remedy=_ROWS)
        return PointCloud(np.ascontiguousarray(rows[:, :3]), np.ascontiguousarray(intensity))

    def labels(self, frame: Frame) -> NDArray[np.uint32] | None:
        """Raw labels (N,) uint32, one per point; None where the sequence has none.

        Raises:
            FrameError: a missing or damaged file, another number of labels than points, a class that there is not.
        """
        if frame.labels_path is None:
            return None
        labels = read_uint32(frame.labels_path, frame.token, AGAIN["labels"])
        points = len(read_float32_rows(frame.points_path, _COLUMNS, frame.token, AGAIN["velodyne"]))
        if len(labels) != points:
            raise FrameError(
                f"{len(labels)} labels for {points} points of {frame.points_path}",
                path=frame.labels_path,
                frame=frame.token,
                remedy=f"One of the two is cut off or of another download. Points: {AGAIN['velodyne']}."
                f" Labels: {AGAIN['labels']}",
            )
        classes = np.unique(self.taxonomy.raw_class(labels))
        unknown = sorted(set(classes.tolist()) - set(self.taxonomy.raw_to_id))
        if unknown:
            raise FrameError(
                f"labels of the classes {listed(unknown)}, which SemanticKITTI does not have",
                path=frame.labels_path,
                frame=frame.token,
                remedy="Labels are raw ones, class in the lower 16 bits: 10 is a car, 40 road, 0 unlabelled; those that"
                f" were brought to 0..19 are taken back with learning_map_inv. {AGAIN['labels']}",
            )
        return labels

    def image(self, camera: Camera) -> NDArray[np.uint8]:
        """The image as RGB (height, width, 3) uint8.

        Raises:
            FrameError: missing or cut off, of another size than the first of its sequence, or with pixels that have no
                one reading as 8-bit RGB.
        """
        return read_rgb(camera, AGAIN["image"])


DATASET = SemanticKitti()


@dataclass(frozen=True, eq=False)
class _Rig:
    """A camera of a sequence: folder, ending and size of its images, calibration."""

    folder: Path
    suffix: str
    width: int
    height: int
    intrinsics: NDArray[np.float64]
    camera_from_lidar: NDArray[np.float64]

    def camera(self, stem: str, timestamp_us: int) -> Camera:
        return Camera(
            channel=self.folder.name,
            image_path=str(self.folder / f"{stem}{self.suffix}"),
            width=self.width,
            height=self.height,
            intrinsics=self.intrinsics,
            camera_from_lidar=self.camera_from_lidar,
            timestamp_us=timestamp_us,
        )


def _sequences_folder(root: Path) -> Path:
    folder = root / "sequences"
    if folder.is_dir():
        return folder
    inside = root / "dataset" / "sequences"
    if inside.is_dir():
        raise DatasetError("no folder sequences here", path=root, remedy=f"The data root is '{inside.parent}'")
    if root.name == "sequences" and root.is_dir():
        raise DatasetError("no folder sequences here", path=root, remedy=f"The data root is '{root.parent}'")
    raise DatasetError(
        "no folder sequences here",
        path=folder,
        remedy="The data root is the folder that holds sequences/00/velodyne and so on",
    )


def _splits(root: Path) -> dict[str, tuple[str, ...]]:
    """Sequences by split: those of splits.json where there is one, else the official ones."""
    path = root / SPLITS
    refuse_other_case(root, [SPLITS])
    if not path.exists():
        return OFFICIAL
    remedy = 'Write for example {"train": ["00", "01"], "val": ["08"]}, or remove it for the official splits'
    try:
        found = strict_json.loads(path.read_text(encoding="utf-8-sig"))
    except faults(OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"cannot be read: {error}", path=path, remedy=remedy) from error
    names = list(found.values()) if isinstance(found, dict) else [None]
    if not all(isinstance(split, list) and all(_is_folder_name(name) for name in split) for split in names):
        raise DatasetError("not lists of sequences by split", path=path, remedy=remedy)
    return {name: tuple(split) for name, split in found.items()}


def _check_splits(path: Path, splits: Mapping[str, Sequence[str]], asked: Sequence[str], folder: Path) -> None:
    """Check that splits of one's own which go together have no sequence in common, and none is without any."""
    if not OFFICIAL.keys().isdisjoint(asked):  # also where they are asked for one after the other
        check_apart({name: splits[name] for name in OFFICIAL if name in splits}, path, "sequence")
    also = ", or ask for one of them alone, for a store of its own"
    check_apart({name: splits[name] for name in asked}, path, "sequence", also)
    there = _there(folder)
    empty = next((name for name in asked if there.isdisjoint(splits[name])), None)
    if empty is not None:
        named = f": {listed(splits[empty])}" if splits[empty] else ", it names none"
        raise DatasetError(
            f"none of the sequences of {empty} is there{named}",
            path=path,
            remedy=f"Name sequences that are in {folder} ({listed(sorted(there))}), or do not ask for this split",
        )


def _there(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def _is_folder_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def _frames(sequence: Path, subset: str) -> Iterator[Frame]:
    """The scans of a sequence, in order."""
    refuse_other_case(sequence, NAMES)
    scans = list_scans(sequence / POINTS)
    numbers = [int(scan.stem) for scan in scans]
    calibration = read_calibration(sequence / CALIBRATION)
    rigs = [rig for name, number in CAMERAS.items() if (rig := _rig(sequence, name, number, calibration))]
    times, poses = _times(sequence / TIMES, numbers), _poses(poses_file(sequence), numbers, calibration)
    labels = sequence / LABELS
    for number, scan in zip(numbers, scans, strict=True):
        yield Frame(
            dataset=DATASET.name,
            version=_VERSION,
            subset=subset,
            scene=sequence.name,
            token=f"{sequence.name}_{scan.stem}",
            index=number,
            timestamp_us=times[number],
            points_path=str(scan),
            labels_path=str(labels / f"{scan.stem}.label") if labels.is_dir() else None,
            cameras=tuple(rig.camera(scan.stem, times[number]) for rig in rigs),
            global_from_lidar=poses[number],
        )


def _rig(sequence: Path, name: str, number: int, calibration: Calibration) -> _Rig | None:
    """A camera of a sequence, None if there are no images of it; the first image says how large they are."""
    folder = (sequence / name).absolute()
    there = folder.iterdir() if folder.is_dir() else ()
    found = sorted(path for path in there if path.suffix.lower() in IMAGES and path.name[0] != ".")
    images = [path for path in found if path.suffix in IMAGES]
    if not found:
        return None
    if not images:
        raise DatasetError(
            f"images end in {', '.join(IMAGES)}, in small letters, and there is {found[0].name}",
            path=found[0],
            remedy=f"{renamed(found[0], found[0].stem + found[0].suffix.lower())}, and the others like it",
        )
    if number not in calibration.cameras:
        raise DatasetError(
            f"there are images in {name}, but the calibration has no P{number}",
            path=sequence / CALIBRATION,
            remedy=f"Take calib.txt again from data_odometry_calib.zip, or remove {folder}",
        )
    width, height = _size_of_first(images)
    camera = calibration.cameras[number]
    return _Rig(folder, images[0].suffix, width, height, camera.intrinsics, camera.camera_from_lidar)


def _size_of_first(images: list[Path]) -> tuple[int, int]:
    """Width and height of the first image that is one: what is wrong with another is told when its frame is read."""
    for path in images:
        try:
            with Image.open(path) as image:
                if image.width * image.height <= MOST_PIXELS:
                    return image.size
        except faults(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    raise DatasetError("no file here is an image", path=images[0].parent, remedy=AGAIN["image"])


def _times(path: Path, numbers: Sequence[int]) -> dict[int, int]:
    """Microseconds by scan; ten scans a second where times.txt is missing or ends before the last scan."""
    times = read_times(path) if path.exists() else []
    if len(times) <= numbers[-1]:
        return {number: number * _PERIOD_US for number in numbers}
    return {number: times[number][1] for number in numbers}


def _poses(path: Path, numbers: Sequence[int], calibration: Calibration) -> dict[int, NDArray[np.float64]]:
    """Poses of the LiDAR by scan, in the frame of the first; all alike where they are missing or end early."""
    poses = read_poses(path) if path.exists() else []
    if len(poses) <= numbers[-1]:
        return dict.fromkeys(numbers, np.eye(4))
    lidar_from_camera0 = np.linalg.inv(calibration.camera0_from_lidar)
    return {number: _rounded(lidar_from_camera0 @ poses[number] @ calibration.camera0_from_lidar) for number in numbers}


def _rounded(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last row exactly, whatever inversion left of it."""
    matrix[3] = (0, 0, 0, 1)
    return matrix
