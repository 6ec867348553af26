"""Oddities of a recording as its files tell it: file names, clocks, poses, sizes of images, points and labels."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from ovps.cache.object_numbers import odd_things
from ovps.cache.sweeps import cut_off
from ovps.datasets.clocks import APART_US, farthest_apart, images_apart, odd_unit
from ovps.datasets.folder.calibration import SENSOR, Calibration, CameraModel, load_calibration
from ovps.datasets.folder.labels import TAXONOMY
from ovps.datasets.folder.layout import calibration_above
from ovps.datasets.folder.point_files import unfilled_end
from ovps.datasets.motion import leaps
from ovps.errors import FrameError, counted, listed
from ovps.frame import Camera, Frame
from ovps.geometry.mistakes import Mount
from ovps.progress import progress
from ovps.shortage import faults
from ovps.taxonomy import UNLABELLED, Taxonomy
from pipelines.precompute.oddities import odd_intensities

_FEW = 100  # points: a LiDAR of one beam has more
_ZEROS = 0.01  # of the points at the origin
_FAST_M_S = 70.0
_LATE_US = 50_000  # between them, where nobody says how the vehicle moved: half a metre in town
_TURN_DEG = 30.0  # no vehicle turns so far between an image and its sweep


class Findings:
    """Texts by what they are about; of many of one kind about one thing the first stands for all."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], list[str]] = {}

    def add(self, about: str, text: str | None) -> None:
        """Add a text, if there is one."""
        if text:
            self._texts.setdefault((about, ""), []).append(text)

    def add_error(self, about: str, error: FrameError, more: str = "") -> None:
        """Add an error and what is to be said beside it; errors that differ in their numbers alone are of one kind."""
        kind = re.sub(r"\d[\d,.]*", "#", error.message)
        self._texts.setdefault((about, kind), []).append(f"{error}{more}")

    def add_once(self, text: str) -> None:
        """Add a text, unless it has been said as that of an error."""
        if not any(text in said for texts in self._texts.values() for said in texts):
            self.add(text, text)

    def __contains__(self, about: str) -> bool:
        return any(about == known for known, _ in self._texts)

    def said(self) -> tuple[str, ...]:
        """One text of each kind, with the number of those that it stands for."""
        return tuple(
            first + (f" (and in {counted(len(more), 'other frame')} of those that were read)" if more else "")
            for first, *more in self._texts.values()
        )

    def first(self) -> str:
        """Take the one that was found first, by itself."""
        return next(iter(self._texts.values()))[0]


class LabelCounts:
    """Raw labels of the frames that were read.

    Attributes:
        frames, points: with labels; of the points, `classed` have a class of the taxonomy.
        unnamed: points by raw class, of those that the taxonomy does not name; 0 is unlabelled everywhere.
        lost: the largest label of raw class 0 that is not 0 itself; 0: there is none.
        bare: tokens of the frames of which no point has a class.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.frames = self.points = self.classed = self.lost = 0
        self.unnamed = Counter[int]()
        self.bare: list[str] = []
        self._things: list[NDArray[np.uint32]] = []  # raw labels that occur, by frame

    def add(self, token: str, label: NDArray[np.uint32]) -> None:
        """Count the raw labels (N,) of a frame."""
        before = self.classed
        raw = self.taxonomy.raw_class(label)
        for number, count in zip(*(found.tolist() for found in np.unique(raw, return_counts=True)), strict=True):
            self.classed += count * (self.taxonomy.raw_to_id.get(number, UNLABELLED) != UNLABELLED)
            if number and number not in self.taxonomy.raw_to_id:
                self.unnamed[number] += count
        self.lost = max(self.lost, int(label[raw == 0].max(initial=0)))
        self.frames += 1
        self.points += len(label)
        self._things.append(np.unique(label))
        if self.classed == before:
            self.bare.append(token)

    @property
    def share(self) -> float | None:
        """Share of the points that have a class; None where there are no labels."""
        return self.classed / self.points if self.points else None

    def mistake(self) -> str | None:
        """Say why not one point has a class, where its labels are others than the taxonomy says."""
        if self.classed or not (self.unnamed or self.lost):
            return None
        found = [f"{self._unnamed()}, which `raw_to_id` of {TAXONOMY} does not name"] if self.unnamed else []
        found += [f"0, which is unlabelled, with labels up to {self.lost}"] if self.lost else []
        return (
            f"not one point of {counted(self.frames, 'frame')} with labels that were read has a class: by"
            f" `{self._coding()}` their raw classes are {'; and '.join(found)}"
        )

    def odd(self) -> str | None:
        """Say what labels are lost on the way to classes, which may be meant."""
        if not self.points or self.mistake():
            return None
        if self.unnamed:
            return (
                f"{sum(self.unnamed.values()) / self.points:.1%} of the points of frames with labels count as"
                f" unlabelled, because `raw_to_id` of {TAXONOMY} does not name their raw classes: {self._unnamed()}."
                f" If that is meant, write `{next(iter(self.unnamed))}: 0` there"
            )
        if not self.classed:
            return f"not one point of {counted(self.frames, 'frame')} with labels that were read is labelled"
        return None

    def of_some(self) -> str | None:
        """Say which label files have not one point of a class, where others have: they may be written otherwise."""
        if not self.bare or not self.classed:
            return None
        return (
            f"{len(self.bare)} of {counted(self.frames, 'frame')} with labels that were read have not one point with a"
            f" class, the first is {self.bare[0]}: write its label file as those of the others, by"
            f" `{self._coding()}`, unless nothing in it is labelled"
        )

    def without_numbers(self) -> str | None:
        """Say that no thing has the number of an object."""
        return odd_things(self.taxonomy, self._things)

    def _unnamed(self) -> str:
        return listed(f"{number} ({count:,} points)" for number, count in self.unnamed.most_common())

    def _coding(self) -> str:
        known = self.taxonomy
        if known.class_modulus is not None:
            return f"class_modulus: {known.class_modulus}"
        return f"instance_divisor: {known.instance_divisor}"


def calibration_of(file: str) -> Calibration:
    """The calibration that an image or a point file of a recording is read by."""
    return load_calibration(calibration_above(Path(file)))


def mount_of(camera: Camera) -> Mount:
    """Find how the calibration file has the place of a camera."""
    calibration = calibration_of(camera.image_path)
    written = calibration.mount_of(camera.channel)
    from_camera = written.source == camera.channel
    end = written.target if from_camera else written.source
    return Mount(calibration.between(calibration.lidar, end), from_camera, written.rotation_wxyz is not None)


def missing(frames: Sequence[Frame]) -> list[str]:
    """Files that are named and not there."""
    named = [(f, p) for f in frames for p in (f.points_path, f.labels_path, *(c.image_path for c in f.cameras)) if p]
    lacking = [(frame, path) for frame, path in named if not Path(path).is_file()]
    blind = [frame.token for frame in frames if not frame.cameras]
    found = (
        [f"{counted(len(lacking), 'file')} missing, the first is {lacking[0][1]} ({lacking[0][0].token})"]
        if lacking
        else []
    )
    return found + ([f"{counted(len(blind), 'frame')} without any image, the first is {blind[0]}"] if blind else [])


def empty(frames: Sequence[Frame]) -> list[str]:
    """Point and label files of no bytes; those of images are told by `odd_headers`."""
    named = [(frame, path) for frame in frames for path in (frame.points_path, frame.labels_path) if path]
    found = [(frame, path) for frame, path in named if Path(path).is_file() and not Path(path).stat().st_size]
    return [f"{counted(len(found), 'file')} empty, the first is {found[0][1]} ({found[0][0].token})"] if found else []


def odd_clocks(frames: Sequence[Frame]) -> list[str]:
    """Time stamps that cannot be those of a drive, and poses that cannot with them."""
    found = []
    pairs = [(a, b) for a, b in pairwise(frames) if a.scene == b.scene]
    steps = np.array([b.timestamp_us - a.timestamp_us for a, b in pairs])
    if len(steps) and np.median(steps) == 0:
        found.append("sweeps have the same time: `time_us` seems to hold whole seconds instead of microseconds")
    found += [*odd_unit(frames), *images_apart(frames)]
    moved = [
        float(np.linalg.norm(b.global_from_lidar[:3, 3] - a.global_from_lidar[:3, 3])) / (step / 1e6)
        for (a, b), step in zip(pairs, steps, strict=True)
        if step > 0
    ]
    if far := leaps(frames):
        found += far
    elif moved and max(moved) > _FAST_M_S:
        found.append(f"the vehicle would drive at {max(moved):,.0f} m/s: poses are in metres, times in microseconds")
    return found


def unknown_motion(frames: Sequence[Frame]) -> str | None:
    """Say what it costs that nobody says how the vehicle moved between an image and its sweep."""
    most, camera, _ = farthest_apart(frames)
    posed = any(not np.array_equal(frame.global_from_lidar, np.eye(4)) for frame in frames)
    if posed or not _LATE_US < most <= APART_US:
        return None
    return (
        f"images of {camera} are up to {most / 1000:.0f} ms from their sweep, and there are no poses: at 10 m/s points"
        f" lie {most / 1e5:.1f} m from where that image has them. If the vehicle moves, write its poses into"
        " readings.csv"
    )


def wrong_poses(frames: Sequence[Frame]) -> str | None:
    """Say that the poses are of other frames than `poses_of` says: the vehicle would turn over within a moment."""
    for frame in frames:
        for camera in frame.cameras:
            calibration = calibration_of(camera.image_path)
            lidar, name, of = calibration.lidar, camera.channel, calibration.poses_of
            if of is None or _turn(camera.camera_from_lidar, calibration.between(lidar, name)) < _TURN_DEG:
                continue
            if of == SENSOR:
                right = _turn(camera.camera_from_lidar, calibration.between(calibration.points.frame, lidar))
                likely = "they seem to be those of one frame: name it as `poses_of`, instead of `sensor`"
            else:
                between = calibration.between(name, of) @ camera.camera_from_lidar @ calibration.between(of, lidar)
                right = _turn(between, calibration.between(calibration.points.frame, name))
                likely = "each seems to be that of its own sensor: write `poses_of: sensor`"
            if right > _TURN_DEG:
                likely = "is `poses_of` the frame that they are of, and the quaternion written w first?"
            return (
                f"by the poses in readings.csv {name} turns over between its image and sweep {frame.token} (`poses_of:"
                f" {of}`): {likely}"
            )
    return None


def few_points(frames: Sequence[Frame], read: Mapping[str, int]) -> list[str]:
    """Say that sweeps have clearly fewer points than the others.

    Args:
        read: points by the token of the frame, of those that were read. They are all that is known where files are not
            .bin, of which the size tells how many rows each has.
    """
    rows = {}
    for frame in frames:
        path, how = Path(frame.points_path), calibration_of(frame.points_path).points
        if path.suffix.lower() == ".bin" and path.is_file():
            rows[frame.token] = path.stat().st_size // (np.dtype(how.dtype).itemsize * len(how.columns))
    return cut_off(rows or read)


def odd_points(frame: Frame, xyz: NDArray[np.float32], intensity: NDArray[np.float32]) -> dict[str, str]:
    """List what is odd about the points (N, 3) and intensities (N,) of a sweep, by kind."""
    calibration = calibration_of(frame.points_path)
    origin = calibration.between(calibration.points.frame, calibration.lidar)[:3, 3]
    zeros = float((np.abs(xyz - origin) < 1e-6).all(axis=1).mean())
    found = {}
    if len(xyz) < _FEW:
        found[f"few {frame.token}"] = f"sweep {frame.token} has {counted(len(xyz), 'point')}: is its file cut off?"
    if zeros > _ZEROS:
        found["zeros"] = (
            f"{zeros:.0%} of the points of a sweep lie at (0, 0, 0), pulses without a return: set `invalid: drop` under"
            " `points`"
        )
    how = calibration.points
    if how.invalid == "drop" and (empty := unfilled_end(frame.points_path, frame.token, how)):
        found["end"] = (
            f"the point file of {frame.token} ends in {counted(empty, 'point')} of zeros and has no others, which"
            " `invalid: drop` leaves out: copy or record it again, unless it is filled up with them on purpose"
        )
    if odd := odd_intensities(intensity):
        found["intensity"] = odd
    if float(np.quantile(np.linalg.norm(xyz - origin, axis=1), 0.95)) < 1.5:
        found["near"] = "nearly all points lie within 1.5 m: are they in another unit than metres?"
    return found


def odd_headers(frames: Sequence[Frame]) -> list[tuple[str, str]]:
    """Images that are none, or of another size than their calibration is for, by their headers alone.

    A camera may be set otherwise in the midst of a drive. Images that are not there are passed over.

    Returns:
        Camera and sentence, of each camera with such images; those that are none first.
    """
    images = {camera.image_path: (frame, camera) for frame in frames for camera in frame.cameras}
    none: dict[str, list[str]] = {}
    other: dict[str, list[str]] = {}
    with progress("sizes of images", "images", len(images)) as counter:
        for path, (frame, camera) in images.items():
            counter.advance()
            size = _size_of(path)
            if size is None and (bytes_there := _bytes_of(path)) is not None:
                what = f"no picture in its {bytes_there:,} bytes" if bytes_there else "empty"
                none.setdefault(camera.channel, []).append(f"{path}, {what} ({frame.token})")
            elif size not in (None, (camera.width, camera.height)):
                other.setdefault(camera.channel, []).append(f"{path} with {size[0]}x{size[1]} pixels ({frame.token})")
    of = Counter(camera.channel for _, camera in images.values())
    return [
        *(
            (
                channel,
                f"{len(found)} of {of[channel]} images of {channel} are no images, the first is {found[0]}: copy or"
                " record them again, or leave their frames out with `ovps precompute --on-error skip`",
            )
            for channel, found in none.items()
        ),
        *(
            (
                channel,
                f"{len(found)} of {of[channel]} images of {channel} are of another size than the calibration file"
                f" says, the first is {found[0]}: leave them out, or make them a recording of their own with its"
                " calibration",
            )
            for channel, found in other.items()
        ),
    ]


def _size_of(path: str) -> tuple[int, int] | None:
    """Width and height of an image, pixels; None if its header cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except faults(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _bytes_of(path: str) -> int | None:
    """How large a file is that can be opened; None: no such file, or one whose rights are told elsewhere."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size
    except faults(OSError):
        return None


def resized(camera: Camera) -> tuple[str, CameraModel | None]:
    """Say what to write for an image of another size than its calibration is for: a sentence, and the camera if known.

    Pixel (0, 0) is the centre of the first one, so the left rim of an image, at -0.5, is what stays where it is.
    """
    size = _size_of(camera.image_path)
    if size is None:
        return "", None
    width, height = size
    across, down = width / camera.width, height / camera.height
    if (across, down) == (1, 1):
        return "", None
    if abs(across / down - 1) > 0.02:
        return ". The image was cropped or turned: its shape is another than that of the calibration", None
    model = calibration_of(camera.image_path).cameras[camera.channel]
    right = model.model_copy(
        update={
            "width": width,
            "height": height,
            "fx": model.fx * across,
            "fy": model.fy * down,
            "cx": (model.cx + 0.5) * across - 0.5,
            "cy": (model.cy + 0.5) * down - 0.5,
        }
    )
    values = ", ".join(f"{name}: {getattr(right, name):.7g}" for name in ("width", "height", "fx", "fy", "cx", "cy"))
    times = f"{across:.6g}" if across == down else f"{across:.6g} (down {down:.6g})"
    return (
        f". The intrinsics are of another resolution. If the image was scaled by {times} as a whole, write"
        f" {{{values}}}: fx and fy times that, and cx, cy as (cx + 0.5) times that, less 0.5"
    ), right


def _turn(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Degrees between the rotations of two transforms (4, 4)."""
    return float(np.rad2deg(Rotation.from_matrix(one[:3, :3] @ other[:3, :3].T).magnitude()))
