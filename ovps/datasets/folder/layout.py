"""Places of the files of a recording: scenes, sweeps, and the image, label and pose that belong to each.

    RECORDING/calibration.yaml  taxonomy.yaml
    RECORDING/[SCENE/]points/NAME.*  images/CAMERA/NAME.*  labels/NAME.*  readings.csv  calibration.yaml

Files of one NAME belong together, unless `readings.csv` says what does. Names that begin with a dot are passed over.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.folder.calibration import FILES, LIDAR, rotation_of
from ovps.datasets.folder.point_files import READERS
from ovps.datasets.near_names import beside, refuse_other_case, said_beside
from ovps.errors import DatasetError, command
from ovps.geometry.calibration import rigid_fault
from ovps.shortage import faults

POINTS, IMAGES, LABELS, READINGS = "points", "images", "labels", "readings.csv"
UNFINISHED = ".unfinished"  # in the folder of a recording as long as files are missing; who writes them has it locked
LABEL_FILES = (".npy", ".npz")
STEP_US = 100_000  # between sweeps whose time nobody says
COLUMNS = ("sweep", "sensor", "file", "time_us")
POSE = ("x", "y", "z", "qw", "qx", "qy", "qz")
_PAGE = "docs/own_recording.md shows the layout"
_UNIT = 0.01


@dataclass(frozen=True, eq=False)
class Reading:
    """One file of one sensor.

    Attributes:
        time_us: microseconds.
        world_from: pose (4, 4) float64, metres, of what `poses_of` of the calibration names; None: not known.
        timed: whether anybody says the time; otherwise it is made up, for the order.
    """

    file: Path
    time_us: int
    world_from: NDArray[np.float64] | None = None
    timed: bool = False


@dataclass(frozen=True, eq=False)
class Sweep:
    """A point file and what belongs to it; `images` by the name of the camera."""

    name: str
    points: Reading
    images: Mapping[str, Reading]
    labels: Path | None


@dataclass(frozen=True, eq=False)
class Scene:
    """One drive: its name, its folder, its calibration file and its sweeps in order of time."""

    name: str
    folder: Path
    calibration: Path
    sweeps: tuple[Sweep, ...]


def find_scenes(root: Path) -> list[Scene]:
    """List the scenes of a recording by name: the folder itself, or those folders in it that hold `points`.

    Raises:
        DatasetError: no such folder, nothing in it, or files that do not go together; it names the file.
    """
    if not root.is_dir():
        raise DatasetError(
            "a file, not a recording" if root.exists() else "no such folder",
            path=root,
            remedy=f"Name the folder of the recording; {_PAGE}",
        )
    for folder in (root, *(path for path in listed(root) if path.is_dir())):
        refuse_other_case(folder, (POINTS,))
    flat = (root / POINTS).is_dir()
    folders = [root] if flat else [folder for folder in listed(root) if (folder / POINTS).is_dir()]
    if not folders:
        raise DatasetError(f"no folder `{POINTS}` in it or in a folder of it", path=root, remedy=f"Make it: {_PAGE}")
    for folder in folders:
        if (folder / UNFINISHED).exists():
            raise DatasetError(
                "an import of a bag that has not ended: files are missing",
                path=folder,
                remedy="Run the same `ovps data import` again: it begins anew",
            )
        refuse_other_case(folder, (IMAGES, LABELS, READINGS))
    return [_scene(root, folder, name) for name, folder in _named(folders).items()]


def _named(folders: Iterable[Path]) -> dict[str, Path]:
    """Folders of scenes by the name that stores know a scene by: a link is called as the folder that it leads to.

    So a scene has one name whatever other links lie beside it.

    Raises:
        DatasetError: two have one name.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        target = folder.resolve()
        if target.name not in found:
            found[target.name] = folder
            continue
        first = found[target.name]
        link = first if folder.name == target.name else folder
        made = f"{command('rm', link)} && {command('mkdir', link)} && {command('ln', '-s', link.resolve())}/*"
        raise DatasetError(
            f"{first.name} and {folder.name} would be scenes of one name, {target.name}: a link is called as the folder"
            " that it leads to",
            path=link,
            remedy="Remove this link: both are one and the same folder"
            if first.resolve() == target
            else f"Make a scene of its own name of it: {made} {command(link)}",
        )
    return found


def calibration_of(root: Path, folder: Path) -> Path:
    """Find the calibration file of a scene: its own, else that of the recording.

    Raises:
        DatasetError: there is none, or several side by side.
    """
    for place in dict.fromkeys((folder, root)):
        if (found := own_calibration(place)) is not None:
            return found
    there, remedy = said_beside(root / FILES[0], f"Write it: {_PAGE}")
    raise DatasetError(f"no calibration file{there}", path=root / FILES[0], remedy=remedy)


def own_calibration(folder: Path) -> Path | None:
    """Find the calibration file that lies in a folder; None if there is none.

    Raises:
        DatasetError: several side by side.
    """
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise DatasetError(
            f"{' and '.join(path.name for path in found)} lie side by side", path=folder, remedy="Keep one of them"
        )
    return found[0] if found else None


def calibration_above(file: Path) -> Path:
    """Find the calibration file that an image or a point file of a scene is read by.

    Raises:
        DatasetError: it lies in no scene, or as `calibration_of`.
    """
    scene = next((folder for folder in file.parents if (folder / POINTS).is_dir()), None)
    if scene is None:
        raise DatasetError(f"no folder above it holds `{POINTS}`", path=file, remedy=f"Put it back: {_PAGE}")
    return calibration_of(scene.parent, scene)


def _scene(root: Path, folder: Path, name: str) -> Scene:
    calibration = calibration_of(root, folder)
    table = folder / READINGS
    labels = files_of(folder / LABELS, LABEL_FILES) if (folder / LABELS).is_dir() else {}
    sweeps = _told(folder, table, labels) if table.is_file() else _matched(folder, labels)
    unknown = sorted(labels.keys() - {sweep.name for sweep in sweeps})
    if unknown:
        file = labels[unknown[0]]
        meant = next((sweep.name for sweep in sweeps if sweep.points.file.stem == unknown[0]), None)
        after = f"the point file, in {folder / POINTS}"
        if table.is_file():
            after = f"the column `sweep` of {table}" + (f": {meant}{file.suffix}" if meant else "")
        raise DatasetError("labels of no sweep", path=file, remedy=f"Name them after {after}")
    return Scene(name, folder, calibration, tuple(sorted(sweeps, key=lambda sweep: (sweep.points.time_us, sweep.name))))


def _matched(folder: Path, labels: Mapping[str, Path]) -> list[Sweep]:
    """Sweeps with the images of their name.

    Raises:
        DatasetError: no point file, or a camera of whose images hardly any has the name of one.
    """
    points = files_of(folder / POINTS, tuple(READERS))
    images = folder / IMAGES
    cameras = {path.name: files_of(path) for path in (listed(images) if images.is_dir() else []) if path.is_dir()}
    if not points:
        raise DatasetError(
            "no point file in it", path=folder / POINTS, remedy=f"Put them there: {', '.join(READERS)} are read"
        )
    for camera, files in cameras.items():
        lacking = sorted(points.keys() - files.keys())
        if 2 * len(lacking) > len(points):  # of fewer the camera may have dropped some
            near = beside(images / camera / f"{lacking[0]}.png")
            there = f", where {near} lies" if near else ""
            raise DatasetError(
                f"{len(lacking)} of {len(points)} sweeps have no image of {camera}, the first is {lacking[0]}{there}",
                path=images / camera,
                remedy=f"Name images after the point files, or say in {folder / READINGS} which belong to which",
            )
    return [
        Sweep(
            name,
            Reading(file, STEP_US * number),
            {camera: Reading(files[name], STEP_US * number) for camera, files in cameras.items() if name in files},
            labels.get(name),
        )
        for number, (name, file) in enumerate(points.items())
    ]


def _told(folder: Path, table: Path, labels: Mapping[str, Path]) -> list[Sweep]:
    """Sweeps as `readings.csv` lists them."""
    points: dict[str, Reading] = {}
    images: dict[str, dict[str, Reading]] = {}
    posed: set[bool] = set()
    for line, row, timed in _timed(table, _rows(table)):
        sweep, sensor, reading = row["sweep"], row["sensor"], _reading(folder, table, line, row, timed)
        place = points if sensor == LIDAR else images.setdefault(sweep, {})
        key = sweep if sensor == LIDAR else sensor
        if key in place:
            raise _wrong(table, line, f"a second reading of {sensor} for sweep {sweep}", "Keep one of the two lines")
        place[key] = reading
        posed.add(reading.world_from is not None)
        if len(posed) > 1:
            raise _wrong(table, line, "some readings have a pose and some have none", "Give each its pose, or none")
    homeless = sorted(images.keys() - points.keys())
    if homeless:
        raise DatasetError(
            f"sweep {homeless[0]} has images and no line of sensor `{LIDAR}`", path=table, remedy="Add that line"
        )
    if not points:
        raise DatasetError(f"no line of sensor `{LIDAR}`", path=table, remedy=f"Write one for each sweep: {_PAGE}")
    return [Sweep(name, reading, images.get(name, {}), labels.get(name)) for name, reading in points.items()]


def _rows(table: Path) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except faults(OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot be read as UTF-8: {error}", path=table, remedy="Save it as UTF-8") from error
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        twice = [name for name, count in Counter(reader.fieldnames or ()).items() if count > 1]
        if twice:
            raise _wrong(table, 1, f"column {twice[0]} is there twice", "Keep the one that is meant")
        lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        unknown = [name for name in reader.fieldnames or () if name not in (*COLUMNS, *POSE)]
        if lacking or unknown:
            others = ", ".join(map(repr, unknown)) or "none"
            raise _wrong(
                table,
                1,
                f"its columns lack {', '.join(lacking) or 'nothing'}, others: {others}",
                f"The first line is {','.join(COLUMNS)}, and with poses {','.join((*COLUMNS, *POSE))}; without spaces,"
                " other signs or a comma at its end",
            )
        for row in reader:
            if None in row or None in row.values():
                raise _wrong(table, reader.line_num, "another number of columns than the first line", "Mend the line")
            yield reader.line_num, row
    except csv.Error as error:
        raise _wrong(table, reader.line_num, f"not CSV: {error}", "Mend the line") from error


def _timed(table: Path, rows: Iterable[tuple[int, dict[str, str]]]) -> Iterable[tuple[int, dict[str, str], bool]]:
    """The lines with times, in their order, where none has one; and whether they had one."""
    timeless: set[bool] = set()
    number: dict[str, int] = {}
    for line, row in rows:
        timeless.add(not row["time_us"])
        if len(timeless) > 1:
            raise _wrong(table, line, "some lines have a time_us and some have none", "Give each its time, or none")
        number.setdefault(row["sweep"], len(number))
        made_up = str(STEP_US * number[row["sweep"]])
        yield line, row | {"time_us": row["time_us"] or made_up}, bool(row["time_us"])


def _reading(folder: Path, table: Path, line: int, row: Mapping[str, str], timed: bool) -> Reading:
    sensor, name = row["sensor"], row["file"]
    sweep = row["sweep"]
    if not sweep or "/" in sweep or sweep.startswith("."):
        raise _wrong(table, line, f"{sweep!r} names no sweep", "Name it as a file may be called, without /")
    parts = Path(name)
    if "\\" in name and not (folder / name).exists():
        raise _wrong(table, line, f"the file {name!r} is written with backslashes", "Write / between folders")
    if not name or parts.is_absolute() or ".." in parts.parts:
        raise _wrong(
            table,
            line,
            f"the file {name!r} lies outside the scene",
            f"Write file names relative to {folder}, without ..",
        )
    try:
        time_us = int(row["time_us"])
    except ValueError as error:
        remedy = "Write whole microseconds; seconds are multiplied by 1,000,000"
        raise _wrong(table, line, f"time_us is {row['time_us']!r}", remedy) from error
    if not 0 <= time_us < 2**62:
        raise _wrong(table, line, f"time_us is {time_us}", "Write microseconds since some beginning, 0 or more")
    if sensor == LIDAR and parts.suffix.lower() not in READERS:
        raise _wrong(table, line, f"{name} is no point file", f"{', '.join(READERS)} are read")
    return Reading(folder / parts, time_us, _pose(table, line, row), timed)


def _pose(table: Path, line: int, row: Mapping[str, str]) -> NDArray[np.float64] | None:
    texts = [row.get(name, "") for name in POSE]
    if not any(texts):
        return None
    try:
        values = np.array([float(text) for text in texts])
    except ValueError as error:
        raise _wrong(table, line, f"the pose is {texts}", f"Give {', '.join(POSE)} as numbers, or none") from error
    endless = [
        f"{name} is {text}" for name, text, value in zip(POSE, texts, values, strict=True) if not isfinite(value)
    ]
    if endless:
        raise _wrong(table, line, f"the pose is no place: {', '.join(endless)}", f"Give {', '.join(POSE)} as numbers")
    pose = np.eye(4)
    pose[:3, 3] = values[:3]
    norm = float(np.linalg.norm(values[3:]))
    if abs(norm - 1) > _UNIT:
        raise _wrong(
            table,
            line,
            f"qw, qx, qy, qz are no quaternion of length 1: {', '.join(texts[3:])}",
            "Write a rotation as qw, qx, qy, qz, w first",
        )
    pose[:3, :3] = rotation_of(tuple(values[3:]))
    assert rigid_fault(pose) is None
    return pose


def _wrong(table: Path, line: int, message: str, remedy: str) -> DatasetError:
    return DatasetError(f"line {line}: {message}", path=table, remedy=f"{remedy}; {_PAGE}")


def files_of(folder: Path, kinds: tuple[str, ...] | None = None) -> dict[str, Path]:
    """List the files of a folder by their names without suffix, in order; of certain kinds only, or of any.

    Raises:
        DatasetError: a file of another kind, or two of one name.
    """
    found: dict[str, Path] = {}
    for path in listed(folder):
        if kinds is not None and path.suffix.lower() not in kinds:
            raise DatasetError(f"not one of {', '.join(kinds)}", path=path, remedy="Convert it, or move it elsewhere")
        if path.stem in found:
            raise DatasetError(f"{found[path.stem].name} and {path.name} have one name", path=path, remedy="Keep one")
        found[path.stem] = path
    return found


def listed(folder: Path) -> list[Path]:
    """List what lies in a folder, by name; names that begin with a dot are passed over.

    Raises:
        DatasetError: the folder cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except faults(OSError) as error:
        raise DatasetError(f"cannot be listed: {error.strerror}", path=folder, remedy="Mend the folder") from error
