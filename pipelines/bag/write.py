"""The folder of a recording as it is written: points, images and the table of readings."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ovps.datasets.folder.layout import COLUMNS, IMAGES, LIDAR, POINTS, POSE, UNFINISHED
from ovps.errors import ConfigError
from ovps.files import refusals, write_whole
from ovps.progress import progress
from pipelines.bag.index import Index
from pipelines.bag.match import Matched
from pipelines.bag.messages import Unreadable, message_of, read_cloud, read_image, stamp, valid
from pipelines.bag.topics import CameraTopic
from pipelines.bag.transforms import Motion

_FULL = (1.0, 255.0, 65535.0)  # what a full intensity is written as
_STRAY = 0.01  # of the readings at most, above the scale of the others


@dataclass(frozen=True)
class Written:
    """Names of the images that were written, by camera and time stamp, and facts of the points.

    Attributes:
        highest: intensity in the bag.
        full: what a full intensity is taken to be, see `Intensities.full`.
        dark: points without a number as intensity, which got 0, of so many `written`.
        bright: points above `full`, which got it.
    """

    highest: float
    full: float
    invalid_share: float
    dark: int
    bright: int
    written: int
    images: dict[tuple[str, int], str]


class Intensities:
    """Readings of a whole bag, of which as much is kept as tells what a full one is written as."""

    def __init__(self) -> None:
        self.highest = 0.0
        self._lit = 0  # readings that are not 0, which say nothing of the scale
        self._above = dict.fromkeys(_FULL, 0)
        self._by_file: dict[Path, float] = {}

    def add(self, readings: NDArray[np.float32], file: Path) -> None:
        """Take in those (N,) of a sweep, which is written to a file."""
        self._by_file[file] = float(readings.max(initial=0))
        self.highest = max(self.highest, self._by_file[file])
        self._lit += int((readings > 0).sum())
        for scale in self._above:
            self._above[scale] += int((readings > scale).sum())

    @property
    def full(self) -> float:
        """The smallest usual scale that holds all but stray readings, else the highest of them.

        >>> stray = Intensities()
        >>> stray.add(np.array([*range(1, 256)] * 10 + [1e30], np.float32), Path("a.npy"))
        >>> stray.full, stray.above_full
        (255.0, 1)
        """
        return next((scale for scale, above in self._above.items() if above <= _STRAY * self._lit), self.highest)

    @property
    def above_full(self) -> int:
        """Number of stray readings."""
        return self._above.get(self.full, 0)

    def files_above_full(self) -> list[Path]:
        """List the files that have stray readings."""
        return [file for file, highest in self._by_file.items() if highest > self.full]


def check_new(out: Path) -> None:
    """Raise a ConfigError if a folder holds anything but what an import that was stopped has left in it."""
    if out.exists() and not (out / UNFINISHED).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("not an empty folder", path=out, remedy="Name a new one with --out")


def clear(out: Path) -> None:
    """Delete what an import that was stopped has left."""
    for part in (POINTS, IMAGES):
        with refusals(out), suppress(FileNotFoundError):
            shutil.rmtree(out / part)


def write_readings(
    reader: Any,
    out: Path,
    clouds: str,
    cameras: Sequence[CameraTopic],
    matched: Sequence[Matched],
    index: Index,
    intensity: str,
) -> Written:
    """Write points as (N, 4) float32 .npy files in the LiDAR's frame, metres, and images as the bag has them.

    Args:
        reader: the opened bag, of which the messages of these topics are read once more, until all is written.
        out: folder of the recording.
        clouds: topic of the sweeps.
        matched: what is written; all else is passed over.
        intensity: the field of the clouds that becomes the fourth column.

    Raises:
        StorageError: the disk refuses.
    """
    names = {m.time: f"{number:06d}" for number, m in enumerate(matched)}
    by_topic = {camera.images: camera.name for camera in cameras}
    wanted = {camera.images: {m.images[camera.name] for m in matched if camera.name in m.images} for camera in cameras}
    unstamped, left = index.unstamped(), len(matched) + sum(map(len, wanted.values()))
    intensities, invalid, dark, total = Intensities(), 0, 0, 0
    clouds_done: set[int] = set()
    images: dict[tuple[str, int], str] = {}
    with progress("import", "sweeps", len(matched)) as counter:
        for connection, time, raw in reader.messages(
            connections=[c for c in reader.connections if c.topic in {clouds, *by_topic}]
        ):
            camera = by_topic.get(connection.topic, "")
            try:
                message = message_of(reader, connection, raw)
                index.check_frame(connection.topic, message)
                at = time if connection.topic in unstamped else stamp(message)
                known = at in clouds_done or at not in names if not camera else (camera, at) in images
                if known or (camera and at not in wanted[connection.topic]):
                    continue
                if not camera:
                    rows = read_cloud(message, intensity)
                    good = rows[valid(rows)]
                    lit = np.isfinite(good[:, 3])
                    good[~lit, 3] = 0
                    invalid, total = invalid + len(rows) - len(good), total + len(rows)
                    dark += int((~lit).sum())
                    file = out / POINTS / f"{names[at]}.npy"
                    intensities.add(good[:, 3], file)
                    _write_points(file, good)
                    clouds_done.add(at)
                    counter.advance()
                else:
                    suffix, content = read_image(message)
                    images[camera, at] = f"{IMAGES}/{camera}/{at // 1000}{suffix}"
                    write_whole(out / images[camera, at], content)
                left -= 1
                if not left:
                    break
            except Unreadable:
                continue  # counted in the first pass; whatever else has this time can be read
    full, bright = intensities.full, intensities.above_full
    for file in intensities.files_above_full():
        rows = np.load(file)
        rows[:, 3] = rows[:, 3].clip(max=full)
        _write_points(file, rows)
    return Written(intensities.highest, full, invalid / max(total, 1), dark, bright, total - invalid, images)


def _write_points(file: Path, rows: NDArray[np.float32]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    write_whole(file, buffer.getvalue())


def table(matched: Sequence[Matched], images: dict[tuple[str, int], str], moving: Motion | None) -> str:
    """Write out `readings.csv`: a line for each sweep and image, with the vehicle's pose at its time if it moves."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow((*COLUMNS, *POSE) if moving else COLUMNS)
    for number, m in enumerate(matched):
        name = f"{number:06d}"
        table.writerow([name, LIDAR, f"{POINTS}/{name}.npy", m.time // 1000, *_pose(moving, m.time)])
        for camera, at in m.images.items():
            table.writerow([name, camera, images[camera, at], at // 1000, *_pose(moving, at)])
    return text.getvalue()


def _pose(moving: Motion | None, time: int) -> list[float]:
    if moving is None:
        return []
    pose = moving.at(time)
    assert pose is not None
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    return [*pose[:3, 3].tolist(), w, x, y, z]
