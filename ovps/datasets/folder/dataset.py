"""A recording of one's own as `ovps.datasets.protocol.Dataset`. docs/own_recording.md says how it is laid out."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.clocks import standing_clocks
from ovps.datasets.folder.calibration import SENSOR, Calibration, PointFiles, inverse, load_calibration
from ovps.datasets.folder.layout import (
    IMAGES,
    LABELS,
    Reading,
    Scene,
    Sweep,
    calibration_above,
    find_scenes,
    own_calibration,
)
from ovps.datasets.folder.point_files import check_size, other_columns, read_points
from ovps.datasets.folder.reused import reused
from ovps.datasets.folder.undistort import odd_lens, pinhole, undistort
from ovps.datasets.folder.unread import unread
from ovps.datasets.near_names import refuse_other_case
from ovps.datasets.reading import read_bytes, read_rgb
from ovps.datasets.splits import check_apart
from ovps.entries import no_text
from ovps.errors import ConfigError, DatasetError, FrameError, listed
from ovps.file_names import NAME_BYTES
from ovps.frame import Camera, Frame, PointCloud
from ovps.geometry.visibility import Occlusion
from ovps.shortage import faults
from ovps.taxonomy import Taxonomy, load_taxonomy

TAXONOMY = "taxonomy.yaml"
STREET = "street"  # the words for a recording without a taxonomy
VERSION = "1"  # of the layout
SUBSET = "val"  # of scenes that no split names
_USUAL = ("train", "val", "test")
_AGAIN = "Copy or record the file again"
_LABELS = "Write one unsigned whole number a point, instance_divisor * class + instance, as .npy or .npz"
_LABELS_BYTES = 2**28
_LENS = "Check `model`, and the order and decimal points of `distortion`; calibrate with the corners of the image, too"


class Folder:
    """Recordings in one folder; `at` gives that of a certain folder, whose classes are its own."""

    name = "folder"
    default_version = VERSION

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    def at(self, root: Path) -> Folder:
        """Give the data set of a folder, with the taxonomy and the beams that its files name."""
        return Folder(root)

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The recording's own classes (`taxonomy.yaml`), else the words of a street, which no label is of.

        Raises:
            ConfigError: not a taxonomy.
        """
        own = own_taxonomy(self._root) if self._root else None
        return own or load_taxonomy(STREET)

    @cached_property
    def occlusion(self) -> Occlusion:
        """Rules by which a point counts as hidden, by the calibration of the recording, or of its first scene.

        Raises:
            DatasetError: no such file, or not a calibration.
        """
        if self._root is None:
            return Occlusion()
        first = find_scenes(self._root)[0]
        return load_calibration(first.calibration).occlusion

    def frames(self, root: Path, version: str, subsets: Sequence[str]) -> list[Frame]:
        """List the frames of some splits, scene after scene; scenes that no split names are in `val`.

        Raises:
            DatasetError: files that are missing or do not go together; the message names the first.
        """
        if version != VERSION:
            raise DatasetError(
                f"no version {version!r} of the layout", path=root, remedy=f"There is but version {VERSION}"
            )
        root = Path(root).absolute()
        frames: list[Frame] = []
        scenes = find_scenes(root)
        split_of = _splits(root, scenes)
        for scene in scenes:
            calibration = load_calibration(scene.calibration)
            subset = split_of.get(scene.name, SUBSET)
            if subset in subsets:
                _check_scene(root, scene, calibration)
                frames += [_frame(scene, sweep, calibration, subset, index) for index, sweep in enumerate(scene.sweeps)]
        return frames

    def warnings(self, root: Path, frames: Sequence[Frame]) -> list[str]:
        """Say what is odd in a recording and may be meant: files, columns, lenses, other `occlusion`, times.

        Raises:
            DatasetError: as `frames`.
        """
        root, named = Path(root).absolute(), {frame.scene for frame in frames}
        scenes = find_scenes(root)
        asked = [scene for scene in scenes if scene.name in named]
        return [
            *_unasked(_splits(root, scenes), named),
            *unread(root, asked),
            *_odd_lenses(asked),
            *_other_occlusion(scenes[0], asked),
            *reused(asked),
            *odd_columns(frames),
            *standing_clocks(frames),
        ]

    def subsets(self, root: Path) -> tuple[str, ...]:
        """List the splits that its scenes are in, in order.

        Raises:
            DatasetError: as `frames`.
        """
        scenes = find_scenes(root)
        files = _calibrations(root, scenes)
        return tuple(dict.fromkeys([*(name for path in files for name in _loaded(path, scenes).splits), SUBSET]))

    def points(self, frame: Frame) -> PointCloud:
        """Read a sweep, in metres, in the frame that the calibration file names.

        Raises:
            FrameError: as `ovps.datasets.folder.point_files.read_points`.
        """
        return self._read_points(frame)[0]

    def labels(self, frame: Frame) -> NDArray[np.uint32] | None:
        """Read the labels (N,) uint32 of the points that are kept; None where the recording has none.

        Raises:
            FrameError: missing, damaged, no whole numbers, or another number than the point file has points.
        """
        if frame.labels_path is None:
            return None
        labels = _read_labels(frame.labels_path, frame.token)
        kept = self._read_points(frame)[1]
        if len(labels) != len(kept):
            raise FrameError(
                f"{len(labels)} labels for {len(kept)} points of {frame.points_path}",
                path=frame.labels_path,
                frame=frame.token,
                remedy=_LABELS,
            )
        return labels[kept]

    def image(self, camera: Camera) -> NDArray[np.uint8]:
        """Read an image as RGB (height, width, 3) uint8, without the distortion of its lens.

        Raises:
            FrameError: missing or damaged, of another size than its calibration, or with pixels that have no one
                reading as 8-bit RGB; or its calibration file does not name the camera.
            DatasetError: no calibration file, or a wrong one.
        """
        path = calibration_above(Path(camera.image_path))
        model = load_calibration(path).cameras.get(camera.channel)
        if model is None:
            raise FrameError(f"no camera {camera.channel}", path=path, remedy="Precompute again: the file has changed")
        return undistort(read_rgb(camera, _AGAIN), model)

    @staticmethod
    def _read_points(frame: Frame) -> tuple[PointCloud, NDArray[np.bool_]]:
        calibration = load_calibration(calibration_above(Path(frame.points_path)))
        how: PointFiles = calibration.points
        return read_points(frame.points_path, frame.token, how, calibration.between(how.frame, calibration.lidar))


DATASET = Folder()


def odd_columns(frames: Sequence[Frame]) -> list[str]:
    """Say where point files clearly have another number of columns than are named, by the first sweep of each scene.

    Of many scenes the first stands for all.
    """
    for _, sweeps in groupby(frames, lambda frame: frame.scene):
        frame = next(sweeps)
        how = load_calibration(calibration_above(Path(frame.points_path))).points
        if error := other_columns(frame.points_path, frame.token, how):
            return [str(error)]
    return []


def _calibrations(root: Path, scenes: Sequence[Scene]) -> list[Path]:
    """The calibration files of a recording, that of all its scenes first, which may be nobody's if each has its own."""
    common = own_calibration(root)
    return list(dict.fromkeys([*([common] if common else []), *(scene.calibration for scene in scenes)]))


def _loaded(path: Path, scenes: Sequence[Scene]) -> Calibration:
    """Read a calibration file of a recording; of one that is not that of all scenes, an error says whose it is."""
    try:
        return load_calibration(path)
    except DatasetError as error:
        names = [scene.name for scene in scenes if scene.calibration == path]
        if len(names) in (0, len(scenes)):
            raise
        raise DatasetError(
            f"of scene {listed(names)}: {error.message}",
            path=error.path,
            remedy=f"{error.remedy}; or move the folder of the scene out of the recording, and go on without it",
        ) from error


def _splits(root: Path, scenes: Sequence[Scene]) -> dict[str, str]:
    """The split of each scene that one names, whichever calibration file of the recording it stands in."""
    found: dict[str, tuple[str, Path]] = {}
    for path in _calibrations(root, scenes):
        splits = _loaded(path, scenes).splits
        check_apart(splits, path)
        unknown = sorted({name for members in splits.values() for name in members} - {scene.name for scene in scenes})
        if unknown:
            raise DatasetError(
                f"`splits` name {', '.join(unknown)}, which are no scenes",
                path=path,
                remedy=f"There are: {', '.join(scene.name for scene in scenes)}",
            )
        for split, members in splits.items():
            for name in members:
                before, common = found.setdefault(name, (split, path))
                if before != split:
                    raise DatasetError(
                        f"`splits` put {name} in {split}, those of {common} in {before}",
                        path=path,
                        remedy="Keep one of the two",
                    )
    return {name: split for name, (split, _) in found.items()}


def _unasked(split_of: Mapping[str, str], named: Container[str]) -> list[str]:
    """Warnings of splits that were not asked for, and whose name is none of those that are asked for at times."""
    scenes: dict[str, list[str]] = {}
    for scene, split in split_of.items():
        if scene not in named and split not in _USUAL:
            scenes.setdefault(split, []).append(scene)
    return [
        f"split {split} was not asked for, which has {listed(names)}: `ovps precompute --split {split}` takes it"
        for split, names in scenes.items()
    ]


def _odd_lenses(scenes: Sequence[Scene]) -> list[str]:
    """Warnings of cameras that lose much of their images with the distortion."""
    used = {(scene.calibration, name) for scene in scenes for sweep in scene.sweeps for name in sweep.images}
    odd = [(path, name, odd_lens(load_calibration(path).cameras[name])) for path, name in sorted(used)]
    return [f"camera {name}: {text} (file {path}). {_LENS}" for path, name, text in odd if text]


def _other_occlusion(first: Scene, scenes: Sequence[Scene]) -> list[str]:
    """A warning of scenes whose own calibration file says otherwise when a point is hidden: nobody asks them."""
    used = load_calibration(first.calibration).occlusion
    others = [scene.name for scene in scenes if load_calibration(scene.calibration).occlusion != used]
    if not others:
        return []
    return [
        f"`occlusion` is taken for all scenes as it is in the calibration file of {first.name}, and another in that of"
        f" {listed(others)}: rigs of other beams are recordings of their own"
    ]


def own_taxonomy(root: Path) -> Taxonomy | None:
    """Read the taxonomy of a recording; None if it has none.

    Raises:
        ConfigError: not a taxonomy, or one that names a submission format of a data set.
        DatasetError: it is not called `taxonomy.yaml`, but the same in other upper and lower case.
    """
    path = Path(root) / TAXONOMY
    refuse_other_case(path.parent, [TAXONOMY])
    if not path.exists():
        return None
    taxonomy = load_taxonomy(str(path))
    if taxonomy.submission is not None:
        raise ConfigError(
            "names the submission format of a data set", path=path, remedy="Leave `submission` out: plain arrays"
        )
    return taxonomy


def _check_scene(root: Path, scene: Scene, calibration: Calibration) -> None:
    """Cameras, labels and poses of a scene are those that the calibration file speaks of."""
    found = {camera for sweep in scene.sweeps for camera in sweep.images}
    unknown = sorted(found - calibration.cameras.keys())
    if unknown:
        raise DatasetError(
            f"scene {scene.name} has images of {', '.join(unknown)}, of which the calibration file says nothing",
            path=scene.calibration,
            remedy=f"Add it under `cameras` and `transforms`, or move its folder out of {scene.folder / IMAGES}",
        )
    if not found:
        raise DatasetError(
            f"scene {scene.name} has no images: CLIP sees nothing without",
            path=scene.folder / IMAGES,
            remedy=f"Put images into {IMAGES}/CAMERA: there are {', '.join(calibration.cameras)}",
        )
    labelled = next((sweep for sweep in scene.sweeps if sweep.labels), None)
    if labelled is not None and own_taxonomy(root) is None:
        raise DatasetError(
            "labels, and nothing says what they mean",
            path=root / TAXONOMY,
            remedy=f"Write a taxonomy (docs/taxonomies.md), or move the folder `{LABELS}` away",
        )
    if scene.sweeps[0].points.world_from is not None and calibration.poses_of is None:
        raise DatasetError(
            "readings.csv has poses, and nothing says of what",
            path=scene.calibration,
            remedy=f"Add `poses_of:` the frame that they are of, or `{SENSOR}` if each is of its own sensor",
        )


def _frame(scene: Scene, sweep: Sweep, calibration: Calibration, subset: str, index: int) -> Frame:
    token = f"{scene.name}.{sweep.name}"
    if no_text(token):
        raise DatasetError(
            f"the name of a scene or sweep is no text in UTF-8: {token!a}",
            path=sweep.points.file,
            remedy="Rename the folder or file; stores and pages are named after it",
        )
    if len(token.encode()) > NAME_BYTES:
        raise DatasetError(
            f"scene and sweep have names of {len(token.encode())} bytes together, files are named after them",
            path=sweep.points.file,
            remedy=f"Rename them, {NAME_BYTES} bytes are room enough",
        )
    lidar = calibration.lidar
    world = _world_from(sweep.points, lidar, lidar, calibration)
    cameras = []
    for name, model in calibration.cameras.items():
        reading = sweep.images.get(name)
        if reading is None:
            continue
        try:
            fx, fy, cx, cy = pinhole(model)
        except ValueError as error:
            raise DatasetError(
                f"camera {name}: {error}", path=scene.calibration, remedy=f"{_LENS}, or rectify the images first"
            ) from error
        camera_from_lidar = calibration.between(lidar, name)
        if reading.world_from is not None:
            camera_from_lidar = inverse(_world_from(reading, name, lidar, calibration)) @ world
        cameras.append(
            Camera(
                channel=name,
                image_path=str(reading.file),
                width=model.width,
                height=model.height,
                intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
                camera_from_lidar=camera_from_lidar,
                timestamp_us=reading.time_us,
            )
        )
    return Frame(
        dataset=Folder.name,
        version=VERSION,
        subset=subset,
        scene=scene.name,
        token=token,
        index=index,
        timestamp_us=sweep.points.time_us,
        points_path=str(sweep.points.file),
        labels_path=str(sweep.labels) if sweep.labels else None,
        cameras=tuple(cameras),
        global_from_lidar=world,
    )


def _world_from(reading: Reading, frame: str, lidar: str, calibration: Calibration) -> NDArray[np.float64]:
    """`world_from_frame` (4, 4) at the time of a reading; the LiDAR's frame is the world where no pose is known.

    A pose of `sensor` is that of the camera's own frame, and of the frame that the point files are in.
    """
    if reading.world_from is None:
        return calibration.between(frame, lidar)
    of = calibration.poses_of
    if of == SENSOR:
        of = calibration.points.frame if frame == lidar else frame
    assert of is not None
    return reading.world_from @ calibration.between(frame, of)


def _read_labels(path: str, token: str) -> NDArray[np.uint32]:
    raw = read_bytes("label file", path, token, _AGAIN)
    try:
        content = np.load(BytesIO(raw), allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            check_size(content.zip, _LABELS_BYTES)
            (name,) = content.files
            content = content[name]
    except faults(Exception, most=_LABELS_BYTES) as error:  # numpy and zipfile have no common base for damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FrameError(f"the label file cannot be read: {reason}", path=path, frame=token, remedy=_LABELS) from error
    if content.ndim != 1 or content.dtype.kind not in "iu" or (content.size and int(content.min()) < 0):
        raise FrameError(
            f"labels are {content.dtype} of shape {content.shape}, expected whole numbers (N,) of 0 and more",
            path=path,
            frame=token,
            remedy=_LABELS,
        )
    if content.size and int(content.max()) >= 2**32:
        raise FrameError(f"a label of {content.max()}, 32 bits hold less", path=path, frame=token, remedy=_LABELS)
    return content.astype(np.uint32)
