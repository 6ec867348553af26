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


@dataclass(frozen=True)
class Written:
    """Names of the images that were written, by camera and time stamp, and facts of the points.

    Attributes:
        dark: points without a number as intensity, which got 0, of so many `written`.
    """

    highest: float
    invalid_share: float
    dark: int
    written: int
    images: dict[tuple[str, int], str]


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
    highest, invalid, dark, total = 0.0, 0, 0, 0
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
                    highest = max(highest, float(good[:, 3].max()))
                    buffer = io.BytesIO()
                    np.save(buffer, good)
                    write_whole(out / POINTS / f"{names[at]}.npy", buffer.getvalue())
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
    return Written(highest, invalid / max(total, 1), dark, total - invalid, images)


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
