"""A bag to a recording: topics are chosen, every sweep gets its nearest images, and poses at the time of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from ovps.datasets.folder.layout import READINGS, UNFINISHED
from ovps.errors import ConfigError, counted
from ovps.files import locked, refusals, write_whole
from ovps.interrupt import kept
from ovps.places import check_free
from pipelines.bag.calibration import INTENSITY, calibration_of, doubts, intensity_field
from pipelines.bag.index import Index, indexed
from pipelines.bag.match import match, nothing_left, nothing_matched
from pipelines.bag.read_back import refusals_of
from pipelines.bag.topics import choose, list_topics, opened, passed_over
from pipelines.bag.write import Written, check_new, clear, table, write_readings


@dataclass(frozen=True)
class ImportSummary:
    """Facts of what was written.

    Attributes:
        sweeps: of the topic `points`; left_out: how many were not written, by the reason.
        unreadable: messages that were left out, by topic; a sweep whose nearest image is one of them has the nearest
            other.
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
    check_new(out)
    topics = list_topics(path)
    cloud_topic, chosen = choose(topics, points, cameras, path)
    with opened(path) as reader:
        index = indexed(reader, cloud_topic, chosen, intensity or INTENSITY, path)
        if not index.stamps.get(cloud_topic):
            raise nothing_left(cloud_topic, index.sweeps_left_out, index, path)
        field, without = intensity_field(index, cloud_topic, intensity, path)
        calibration, moving = calibration_of(index, cloud_topic, chosen, world, path)
        matched, left_out = match(index, cloud_topic, chosen, moving, apart_ms, every, limit)
        if not matched:
            raise nothing_matched(cloud_topic, chosen, moving, apart_ms, left_out, index, path)
        check_new(out)  # another import may have ended there meanwhile
        busy = ConfigError("another import is writing to this folder", path=out, remedy="Name another one with --out")
        with kept(lambda: f"nothing is kept: the import into {out} begins anew"), locked(out / UNFINISHED, busy):
            check_new(out)
            clear(out)
            written = write_readings(reader, out, cloud_topic, chosen, matched, index, field)
            calibration["points"]["intensity_max"] = written.full
            write_whole(out / "calibration.yaml", yaml.safe_dump(calibration, sort_keys=False).encode())
            write_whole(out / READINGS, table(matched, written.images, moving).encode())
            with refusals(out):
                (out / UNFINISHED).unlink()
    apart = {
        camera.name: np.array([abs(m.images[camera.name] - m.time) / 1e6 for m in matched if camera.name in m.images])
        for camera in chosen
    }
    return ImportSummary(
        out=out,
        points=cloud_topic,
        sweeps=len(matched),
        left_out=left_out,
        unreadable={topic: left.count for topic, left in sorted(index.unreadable.items())},
        cameras={camera.name: camera.images for camera in chosen},
        apart_ms={name: {"median": float(np.median(t)), "most": float(t.max())} for name, t in apart.items() if len(t)},
        moves=f"{moving.frame} in {moving.world}" if moving else None,
        invalid_share=written.invalid_share,
        intensity_max=written.full,
        warnings=(
            *(() if cameras else passed_over(topics, chosen)),
            *_of_the_bag(index, without, left_out),
            *_of_the_intensity(field, written, index),
            *doubts(calibration, index, chosen),
            *(moving.warnings() if moving else ()),
            *_of_the_cameras(apart, moves=moving is not None),
            *refusals_of(out),
        ),
    )


def _of_the_bag(index: Index, without: Sequence[str], left_out: dict[str, int]) -> list[str]:
    """Warnings of what the bag lacks."""
    unstamped = [
        f"{topic} has no time stamps, or one for all: those of the recording are taken"
        for topic in sorted(index.unstamped())
    ]
    dropped = [f"{counted(count, 'sweep')} left out: {reason}" for reason, count in left_out.items()]
    return [*unstamped, *without, *index.warnings(), *dropped]


def _of_the_intensity(field: str, written: Written, index: Index) -> list[str]:
    """Warn of points that have NaN there, or stray readings."""
    another = f"--intensity names another field: {', '.join(index.fields)}"
    found = []
    if written.dark:
        dark = f"{written.dark:,} of {written.written:,} points have NaN or infinity as {field!r}, and got 0"
        found.append(f"{dark}; {another}")
    if written.bright:
        bright = f"{written.bright:,} of {written.written:,} points have more than {written.full:g} as {field!r}"
        most = f"up to {written.highest:g}, and got {written.full:g}, which is taken for a full intensity"
        found.append(f"{bright}, {most}; {another}")
    return found


def _of_the_cameras(apart: dict[str, NDArray], moves: bool) -> list[str]:
    """Warnings of images that are far from their sweeps, by the milliseconds between them."""
    warnings = [f"{name} has no image near any sweep" for name, times in apart.items() if not len(times)]
    if moves:
        return warnings
    most = max((float(times.max()) for times in apart.values() if len(times)), default=0.0)
    driven = f"the way that the vehicle drives between image and sweep, up to {most:.0f} ms, is not known"
    return [f"no transform moves: {driven}", *warnings]
