"""The calibration file of a recording: how its point files are read, where its sensors are, and its cameras.

Transforms are named by what they do: `{from: FRONT, to: lidar}` takes coordinates in frame FRONT to coordinates in
frame lidar, so it holds the position of FRONT in lidar. Every camera is a frame of its own name (x right, y down,
z forward); all other names are free.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ovps import plain_yaml, strict_json
from ovps.errors import DatasetError, faults_in
from ovps.geometry.calibration import intrinsics_fault, rigid_fault
from ovps.geometry.transforms import transform_along
from ovps.geometry.visibility import Occlusion, senseless
from ovps.shortage import faults

FILES = ("calibration.yaml", "calibration.yml", "calibration.json")
LIDAR = "lidar"  # in a table of readings: the sensor whose readings are the sweeps
SENSOR = "sensor"  # as `poses_of`: the poses are those of each sensor itself
_UNIT = 0.01  # how far rounding may leave a quaternion from length 1
_BYTES = 2**22  # of a calibration file: a thousand times the largest
_MODELS = {"pinhole": (0,), "opencv": (4, 5, 8), "fisheye": (4,)}  # distortion coefficients of each
_PAGE = "docs/own_recording.md shows a whole file"

Vector = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]
Quaternion = Annotated[tuple[float, ...], Field(min_length=4, max_length=4)]
Name = Annotated[str, Field(min_length=1)]


class _Model(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True):
    """A part of the file: nobody changes it, and no name is unknown."""


class PointFiles(_Model):
    """Rules by which point files are read.

    Attributes:
        frame: whose axes the files are in.
        into: the frame that points are brought into first: the LiDAR's own, as high above the ground as that of the
            data a network was trained on. None: they stay.
        columns: of each row of a .bin, .npy or .npz, by name; x, y, z are metres, names other than the intensity's are
            passed over. Other formats name theirs.
        dtype: of .bin.
        array: of .npz, where it holds several.
        intensity: the column or field that is it; without one it is 0.
        intensity_max: what a full intensity is written as; it is brought to 0..1.
        invalid: `drop` leaves points out that have NaN or infinity, or lie at (0, 0, 0), as drivers write a pulse
            without a return; their labels go, too. `refuse` takes no NaN.
    """

    frame: Name = "lidar"
    into: Name | None = None
    columns: tuple[Name, ...] = ("x", "y", "z", "intensity")
    dtype: Literal["float32", "float64"] = "float32"
    array: str | None = None
    intensity: Name = "intensity"
    intensity_max: float = Field(1.0, gt=0)
    invalid: Literal["refuse", "drop"] = "refuse"

    @model_validator(mode="after")
    def _has_coordinates(self) -> PointFiles:
        lacking = [name for name in "xyz" if self.columns.count(name) != 1]
        if lacking:
            raise ValueError(f"columns {list(self.columns)} name {', '.join(lacking)} not exactly once")
        return self


class Transform(_Model):
    """A rotation and a translation that take points (metres) from one named frame to another.

    The rotation is a quaternion (w, x, y, z) or a matrix (3, 3); or all of it is one matrix (4, 4).
    """

    source: Name = Field(alias="from")
    target: Name = Field(alias="to")
    translation: Vector | None = None
    rotation_wxyz: Quaternion | None = None
    rotation_matrix: Annotated[tuple[Vector, ...], Field(min_length=3, max_length=3)] | None = None
    matrix: Annotated[tuple[Quaternion, ...], Field(min_length=4, max_length=4)] | None = None

    @model_validator(mode="after")
    def _is_rigid(self) -> Transform:
        name = f"transform from {self.source} to {self.target}"
        parts = (self.translation, self.rotation_wxyz, self.rotation_matrix)
        rotations = (self.rotation_wxyz is not None) + (self.rotation_matrix is not None)
        if self.matrix is not None and any(part is not None for part in parts):
            raise ValueError(f"{name}: give matrix alone, or translation and a rotation")
        if self.matrix is None and (self.translation is None or rotations != 1):
            raise ValueError(f"{name}: give translation and one of rotation_wxyz and rotation_matrix, or matrix")
        if self.source == self.target:
            raise ValueError(f"{name} leads nowhere")
        if self.rotation_wxyz is not None and abs(float(np.linalg.norm(self.rotation_wxyz)) - 1) > _UNIT:
            raise ValueError(f"{name}: the quaternion (w, x, y, z) is not of length 1")
        fault = rigid_fault(self.values())
        if fault:
            raise ValueError(f"{name} {fault}")
        return self

    def values(self) -> NDArray[np.float64]:
        """Give the matrix `target_from_source` (4, 4), metres."""
        if self.matrix is not None:
            return np.array(self.matrix, np.float64)
        values = np.eye(4)
        assert self.translation is not None
        values[:3, 3] = self.translation
        if self.rotation_wxyz is not None:
            values[:3, :3] = rotation_of(self.rotation_wxyz)
        else:
            values[:3, :3] = self.rotation_matrix
        return values


class CameraModel(_Model):
    """One camera, for images as they are stored.

    Attributes:
        width, height: pixels.
        fx, fy, cx, cy: pixels; pixel (u, v) is the centre of column u, row v, as OpenCV has it.
        model: `pinhole` without distortion; `opencv` is Brown-Conrady (k1, k2, p1, p2[, k3[, k4, k5, k6]]), which
            ROS calls plumb_bob and rational_polynomial; `fisheye` is Kannala-Brandt (k1, k2, k3, k4), which ROS calls
            equidistant.
        distortion: the coefficients, in that order.
    """

    width: int = Field(gt=0, le=2**16)
    height: int = Field(gt=0, le=2**16)
    fx: float
    fy: float
    cx: float
    cy: float
    model: Literal["pinhole", "opencv", "fisheye"] = "pinhole"
    distortion: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _is_a_camera(self) -> CameraModel:
        fault = intrinsics_fault(self.matrix(), self.width, self.height)
        if fault:
            raise ValueError(f"the intrinsics {fault}")
        expected = _MODELS[self.model]
        if len(self.distortion) not in expected:
            counts = " or ".join(map(str, expected))
            raise ValueError(f"model {self.model} has {counts} distortion coefficients, not {len(self.distortion)}")
        return self

    def matrix(self) -> NDArray[np.float64]:
        """Give the intrinsics (3, 3), pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    @property
    def distorted(self) -> bool:
        """Tell whether straight lines are bent in its images."""
        return self.model == "fisheye" or any(self.distortion)


class Calibration(_Model):
    """Everything of a recording that is no file of a sensor.

    Attributes:
        points: how point files are read.
        cameras: by name, which is also that of their folder of images, and of their frame.
        transforms: enough to lead from every camera to the points.
        poses_of: the frame whose poses in the world `readings.csv` holds, or `sensor`, if each is of its own sensor.
        occlusion: when a point counts as hidden from a camera; `vertical_deg` is at least the gap between two beams.
        splits: scenes by the name of a split; those of none are in `val`.
    """

    points: PointFiles = PointFiles()
    cameras: dict[Name, CameraModel] = Field(min_length=1)
    transforms: tuple[Transform, ...]
    poses_of: Name | None = None
    occlusion: Occlusion = Occlusion()
    splits: dict[Name, tuple[str, ...]] = {}

    @field_validator("cameras")
    @classmethod
    def _are_folder_names(cls, cameras: dict[str, CameraModel]) -> dict[str, CameraModel]:
        bad = [name for name in cameras if "/" in name or "\\" in name or name.startswith(".")]
        if bad:
            raise ValueError(f"{', '.join(bad)}: the name of a camera is that of a folder beside others")
        if LIDAR in cameras:
            raise ValueError(f"a camera called {LIDAR}: readings.csv calls sweeps so. Give it another name")
        return cameras

    @field_validator("occlusion")
    @classmethod
    def _is_of_a_lidar(cls, occlusion: Occlusion) -> Occlusion:
        if fault := senseless(occlusion):
            raise ValueError(fault)
        return occlusion

    @model_validator(mode="after")
    def _hangs_together(self) -> Calibration:
        together: dict[str, set[str]] = {}
        for t in self.transforms:
            one, other = (together.setdefault(name, {name}) for name in (t.source, t.target))
            if one is other:
                raise ValueError(
                    f"a second way leads from {t.source} to {t.target}: leave one of the transforms of the circle out"
                )
            one |= other
            together |= dict.fromkeys(one, one)
        of = None if self.poses_of == SENSOR else self.poses_of
        for name in (*self.cameras, self.points.into, of):
            if name is not None:
                self.between(self.points.frame, name)
        return self

    @property
    def lidar(self) -> str:
        """The frame that points are in once they are read."""
        return self.points.into or self.points.frame

    def between(self, source: str, target: str) -> NDArray[np.float64]:
        """Find `target_from_source` (4, 4), metres, along the transforms.

        Raises:
            ValueError: none lead there.
        """
        way = self._way(source, target)
        if way is None:
            known = sorted({name for t in self.transforms for name in (t.source, t.target)})
            raise ValueError(f"no transforms lead from {source} to {target}; there are {', '.join(known) or 'none'}")
        return way

    def mount_of(self, camera: str) -> Transform:
        """Find the transform that begins or ends in a camera, on the way from it to the points."""
        touching = [t for t in self.transforms if camera in (t.source, t.target)]
        return next(t for t in touching if self._way(self.lidar, camera, without=t) is None)

    def _way(self, source: str, target: str, without: Transform | None = None) -> NDArray[np.float64] | None:
        steps = ((t.source, t.target, t.values()) for t in self.transforms if t is not without)
        return transform_along(steps, source, target)


def load_calibration(path: Path) -> Calibration:
    """Read a calibration file, YAML or JSON.

    Raises:
        DatasetError: missing, no text, or not a calibration; it names the place.
    """
    try:
        stat = path.stat()
    except faults(OSError) as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=path, remedy=f"Write one: {_PAGE}") from error
    return _load(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _load(path: Path, changed: int, size: int) -> Calibration:
    if size > _BYTES:
        raise DatasetError(f"{size:,} bytes are no calibration file", path=path, remedy=f"Write one: {_PAGE}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = strict_json.loads(text) if path.suffix == ".json" else plain_yaml.loads(text)
    except faults(OSError) as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=path, remedy="Make it readable") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"not {path.suffix[1:]}: {reason}", path=path, remedy=f"Mend it: {_PAGE}") from error
    try:
        return Calibration.model_validate(content)
    except ValidationError as error:
        first, *others = faults_in(error)
        place = ".".join(map(str, first["loc"]))
        more = f", and {len(others)} more faults" if others else ""
        words = first["msg"].removeprefix("Value error, ")
        reason = f"{place}: {words}" if place else words
        raise DatasetError(f"{reason}{more}", path=path, remedy=f"Mend it: {_PAGE}") from error


def rotation_of(wxyz: tuple[float, ...]) -> NDArray[np.float64]:
    """Make a rotation matrix (3, 3) of a quaternion (w, x, y, z) of any length but 0.

    >>> rotation_of((0.0, 0.0, 0.0, 1.0)).diagonal().tolist()
    [-1.0, -1.0, 1.0]
    """
    w, x, y, z = np.array(wxyz, np.float64) / np.linalg.norm(wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
