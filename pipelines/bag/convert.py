"""A bag to a recording: topics are chosen, every sweep gets its nearest images, and poses at the time of each."""

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
import yaml
from scipy.spatial.transform import Rotation

from ovps.datasets.folder.layout import COLUMNS, IMAGES, LIDAR, POINTS, POSE, READINGS
from ovps.errors import ConfigError, DatasetError
from ovps.files import locked, refusals, write_whole
from ovps.places import check_free
from ovps.progress import progress
from pipelines.bag.index import Index, indexed
from pipelines.bag.messages import (
    Unreadable,
    camera_model,
    message_of,
    read_cloud,
    read_image,
    stamp,
    valid,
)
from pipelines.bag.topics import CameraTopic, choose, list_topics, opened
from pipelines.bag.transforms import Link

VEHICLE = "vehicle"
INTENSITY = "intensity"  # the field of clouds where none is named
UNFINISHED = ".unfinished"  # in the folder of a recording as long as files are missing; who writes them has it locked
_FULL = (1.0, 255.0, 65535.0)  # what a full intensity is written as


@dataclass(frozen=True)
class ImportSummary:
    """Facts of what was written.

    Attributes:
        sweeps: of the topic `points`; left_out: how many were not written, by the reason.
        unreadable: messages of points and images that were left out, by topic; a sweep whose nearest image is one of
            them has the nearest other.
        cameras: topic by name; apart_ms: `median` and `most` time between a sweep and its image, by name of the camera.
        moves: the two frames between which the vehicle moves; None: nothing does, as far as the bag says.
        invalid_share: of the points, NaN or at (0, 0, 0), which were left out.
        intensity_max: what a full intensity is taken to be.
    """

    out: Path
    points: str
    sweeps: int
    left_out: dict[str, int]
    unreadable: dict[str, int]
    cameras: dict[str, str]
    apart_ms: dict[str, dict[str, float]]
    moves: str | None
    invalid_share: float
    intensity_max: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Matched:
    """A sweep and its images: time stamps in nanoseconds, by the name of the camera."""

    time: int
    images: dict[str, int]


@dataclass(frozen=True)
class _Written:
    """What the second pass has written: the names of images by camera and time stamp, and facts of the points."""

    highest: float
    invalid_share: float
    images: dict[tuple[str, int], str]


def import_bag(
    path: Path,
    out: Path,
    *,
    points: str | None = None,
    cameras: Sequence[str] = (),
    world: str | None = None,
    intensity: str | None = None,
    apart_ms: float = 100.0,
    every: int = 1,
    limit: int | None = None,
) -> ImportSummary:
    """Write a bag as a recording of `--dataset folder`.

    Args:
        out: folder, new, empty, or that of an import that was stopped, which begins anew.
        points, cameras: topics; by default those that leave no choice, see `pipelines.bag.topics.choose`.
        world: the frame that poses are in; None: the parent of the first moving transform above the LiDAR.
        intensity: the field of the clouds; None: `intensity`, and 0 where there is none.
        apart_ms: an image that is farther from its sweep is not used.
        every: only each so manieth sweep.
        limit: of sweeps.

    Raises:
        ConfigError: no such topic, frame or field, several to choose from, or a folder that is not empty, or that
            another import is writing to.
        DatasetError: a bag that cannot be read, models or transforms that are not understood, or no sweep with points
            and an image that are.
        StorageError: the disk refuses.
    """
    check_free(out)
    _check_new(out)
    cloud_topic, chosen = choose(list_topics(path), points, cameras, path)
    with opened(path) as reader:
        index = indexed(reader, cloud_topic, chosen, intensity or INTENSITY, path)
        if not index.stamps.get(cloud_topic):
            raise _nothing_left(cloud_topic, index.sweeps_left_out, index, path)
        field, without = _intensity(index, cloud_topic, intensity, path)
        calibration, moving = _calibration(index, cloud_topic, chosen, world, path)
        matched, left_out = _match(index, cloud_topic, chosen, moving, apart_ms, every, limit)
        if not matched:
            raise _nothing_matched(cloud_topic, chosen, apart_ms, left_out, index, path)
        _check_new(out)  # another import may have ended there meanwhile
        busy = ConfigError("another import is writing to this folder", path=out, remedy="Name another one with --out")
        with locked(out / UNFINISHED, busy):
            _check_new(out)
            _clear(out)
            written = _written(reader, out, cloud_topic, chosen, matched, index, field)
            full = next((value for value in _FULL if written.highest <= value), written.highest)
            calibration["points"]["intensity_max"] = full
            write_whole(out / "calibration.yaml", yaml.safe_dump(calibration, sort_keys=False).encode())
            write_whole(out / READINGS, _table(matched, written.images, moving[1] if moving else None).encode())
            with refusals(out):
                (out / UNFINISHED).unlink()
    apart = {
        camera.name: np.array([abs(m.images[camera.name] - m.time) / 1e6 for m in matched if camera.name in m.images])
        for camera in chosen
    }
    warnings = [
        f"{topic} has no time stamps, or one for all: those of the recording are taken"
        for topic in sorted(index.unstamped())
    ]
    warnings += without
    warnings += index.warnings()
    warnings += [f"{count} sweeps left out: {reason}" for reason, count in left_out.items()]
    if moving is None:
        most = max((float(times.max()) for times in apart.values() if len(times)), default=0.0)
        warnings.append(
            f"no transform moves: the way that the vehicle drives between image and sweep, up to {most:.0f} ms, is not"
            " known"
        )
    warnings += [f"{name} has no image near any sweep" for name, times in apart.items() if not len(times)]
    return ImportSummary(
        out=out,
        points=cloud_topic,
        sweeps=len(matched),
        left_out=left_out,
        unreadable={topic: left.count for topic, left in sorted(index.unreadable.items())},
        cameras={camera.name: camera.images for camera in chosen},
        apart_ms={name: {"median": float(np.median(t)), "most": float(t.max())} for name, t in apart.items() if len(t)},
        moves=f"{moving[0]} in {moving[1].parent}" if moving else None,
        invalid_share=written.invalid_share,
        intensity_max=full,
        warnings=tuple(warnings),
    )


def _nearest_ms(index: Index, clouds: str, cameras: Sequence[CameraTopic]) -> float | None:
    """Milliseconds between the sweep and the image that are nearest to each other; None if there are no images."""
    images = np.concatenate([np.empty(0, np.int64), *(index.times(camera.images) for camera in cameras)])
    if not len(images):
        return None
    return min(float(np.abs(images - time).min()) for time in index.times(clouds)) / 1e6


def _nothing_left(
    clouds: str,
    left_out: dict[str, int],
    index: Index,
    path: Path,
    remedy: str = "Choose other topics: --list shows all",
) -> DatasetError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none in the bag"
    return DatasetError(
        "; ".join([f"no sweep of {clouds} can be used: {reasons}", *index.warnings()]), path=path, remedy=remedy
    )


def _nothing_matched(
    clouds: str, cameras: Sequence[CameraTopic], apart_ms: float, left_out: dict[str, int], index: Index, path: Path
) -> DatasetError:
    nearest = _nearest_ms(index, clouds, cameras)
    if nearest is None or nearest <= apart_ms:
        return _nothing_left(clouds, left_out, index, path)
    remedy = (
        f"The nearest image and sweep are {nearest:,.0f} ms apart: --apart-ms allows more; if it is seconds, the clocks"
        " of the two differ, and their time stamps are to be set right. Other topics: --list shows all"
    )
    return _nothing_left(clouds, left_out, index, path, remedy)


def _check_new(out: Path) -> None:
    """Raise an error of a folder that holds anything but what an import that was stopped has left in it."""
    if out.exists() and not (out / UNFINISHED).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("not an empty folder", path=out, remedy="Name a new one with --out")


def _clear(out: Path) -> None:
    """Delete what an import that was stopped has left."""
    for part in (POINTS, IMAGES):
        with refusals(out), suppress(FileNotFoundError):
            shutil.rmtree(out / part)


def _intensity(index: Index, clouds: str, asked: str | None, path: Path) -> tuple[str, list[str]]:
    """The field that is read as intensity, and a warning where there is none."""
    name = asked or INTENSITY
    if name in index.fields:
        return name, []
    there = ", ".join(index.fields)
    if asked is not None:
        raise ConfigError(
            f"clouds of {clouds} have no field {name!r}", path=path, remedy=f"Name another with --intensity: {there}"
        )
    return name, [
        f"clouds of {clouds} have no field {name!r}, so that all points have 0; --intensity names one: {there}"
    ]


def _calibration(
    index: Index, clouds: str, cameras: Sequence[CameraTopic], world: str | None, path: Path
) -> tuple[dict[str, Any], tuple[str, Link] | None]:
    """The content of the calibration file, and how the vehicle moves: the frame that does, and its link."""
    lidar = index.frame_of.get(clouds, "")
    moving = index.frames.moving(lidar, world)
    if world is not None and moving is None:
        known = ", ".join(f"{child} in {link.parent}" for child, link in index.frames.links.items())
        raise ConfigError(
            f"no frame above {lidar} has the parent {world}", path=path, remedy=f"Transforms: {known or 'none'}"
        )
    models, transforms = {}, []
    for camera in cameras:
        if camera.info not in index.infos:
            raise DatasetError(f"no message of {camera.info}", path=path, remedy="Choose other cameras with --camera")
        try:
            models[camera.name], turned = camera_model(index.infos[camera.info], camera.rectified)
        except Unreadable as error:
            raise DatasetError(f"{camera.info}: {error}", path=path, remedy="Choose others with --camera") from error
        frame = index.frame_of.get(camera.images) or index.infos[camera.info].header.frame_id.lstrip("/")
        camera_from_lidar = index.frames.still_between(lidar, frame)
        if camera_from_lidar is None:
            raise DatasetError(
                f"no standing transforms lead from {lidar!r} ({clouds}) to {frame!r} ({camera.images})",
                path=path,
                remedy="Record /tf_static, too; or choose other cameras with --camera",
            )
        transforms.append({"from": LIDAR, "to": camera.name, "matrix": (turned @ camera_from_lidar).tolist()})
    calibration = {
        "points": {"frame": LIDAR, "columns": ["x", "y", "z", "intensity"]},
        "cameras": models,
        "transforms": transforms,
    }
    if moving is not None:
        vehicle_from_lidar = index.frames.still_between(lidar, moving[0])
        assert vehicle_from_lidar is not None  # every link below the first that moves stands still
        transforms.append({"from": LIDAR, "to": VEHICLE, "matrix": vehicle_from_lidar.tolist()})
        calibration["poses_of"] = VEHICLE
    return calibration, moving


def _match(
    index: Index,
    clouds: str,
    cameras: Sequence[CameraTopic],
    moving: tuple[str, Link] | None,
    apart_ms: float,
    every: int,
    limit: int | None,
) -> tuple[list[_Matched], dict[str, int]]:
    """Sweeps with their nearest images, in order of time, and how many were left out for what."""
    stamps = {camera.name: np.unique(index.times(camera.images)) for camera in cameras}
    matched: list[_Matched] = []
    sweeps = index.times(clouds)
    once = np.unique(sweeps)
    left_out = dict(index.sweeps_left_out)
    if len(once) < len(sweeps):
        left_out["another has their time"] = len(sweeps) - len(once)
    for time in once[::every].tolist():
        if limit is not None and len(matched) == limit:
            break
        images = {}
        for name, times in stamps.items():
            if not len(times):
                continue
            nearest = int(times[np.abs(times - time).argmin()])
            if abs(nearest - time) <= apart_ms * 1e6:
                images[name] = nearest
        if moving is not None:
            images = {name: at for name, at in images.items() if moving[1].at(at) is not None}
        if not images:
            reason = f"no image within {apart_ms:g} ms" + (" with a known pose" if moving else "")
        elif moving is not None and moving[1].at(time) is None:
            reason = f"the pose of {moving[0]} is not known at their time"
        else:
            matched.append(_Matched(time, images))
            continue
        left_out[reason] = left_out.get(reason, 0) + 1
    return matched, left_out


def _written(
    reader: Any,
    out: Path,
    clouds: str,
    cameras: Sequence[CameraTopic],
    matched: Sequence[_Matched],
    index: Index,
    intensity: str,
) -> _Written:
    """Write points and images."""
    names = {m.time: f"{number:06d}" for number, m in enumerate(matched)}
    by_topic = {camera.images: camera.name for camera in cameras}
    wanted = {camera.images: {m.images[camera.name] for m in matched if camera.name in m.images} for camera in cameras}
    unstamped = index.unstamped()
    highest, invalid, total = 0.0, 0, 0
    clouds_done: set[int] = set()
    images: dict[tuple[str, int], str] = {}
    with progress("import", "sweeps", len(matched)) as counter:
        for connection, time, raw in reader.messages(
            connections=[c for c in reader.connections if c.topic in {clouds, *by_topic}]
        ):
            camera = by_topic.get(connection.topic, "")
            try:
                message = message_of(reader, connection, raw)
                at = time if connection.topic in unstamped else stamp(message)
                known = at in clouds_done or at not in names if not camera else (camera, at) in images
                if known or (camera and at not in wanted[connection.topic]):
                    continue
                if not camera:
                    rows = read_cloud(message, intensity)
                    good = valid(rows)
                    invalid, total = invalid + int((~good).sum()), total + len(rows)
                    highest = max(highest, float(rows[good, 3].max()))
                    buffer = io.BytesIO()
                    np.save(buffer, rows[good])
                    write_whole(out / POINTS / f"{names[at]}.npy", buffer.getvalue())
                    clouds_done.add(at)
                    counter.advance()
                else:
                    suffix, content = read_image(message)
                    images[camera, at] = f"{IMAGES}/{camera}/{at // 1000}{suffix}"
                    write_whole(out / images[camera, at], content)
            except Unreadable:
                continue  # counted in the first pass; whatever else has this time can be read
    return _Written(highest, invalid / max(total, 1), images)


def _table(matched: Sequence[_Matched], images: dict[tuple[str, int], str], link: Link | None) -> str:
    """`readings.csv`, with the pose of the vehicle at the time of each reading."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow((*COLUMNS, *POSE) if link else COLUMNS)
    for number, m in enumerate(matched):
        name = f"{number:06d}"
        table.writerow([name, LIDAR, f"{POINTS}/{name}.npy", m.time // 1000, *_pose(link, m.time)])
        for camera, at in m.images.items():
            table.writerow([name, camera, images[camera, at], at // 1000, *_pose(link, at)])
    return text.getvalue()


def _pose(link: Link | None, time: int) -> list[float]:
    if link is None:
        return []
    pose = link.at(time)
    assert pose is not None
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    return [*pose[:3, 3].tolist(), w, x, y, z]
