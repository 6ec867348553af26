"""A whole data set: scenes in parallel, tables at the end."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from driveworld import kitti_rig
from driveworld.drive import DriveSpec, read_record, save, write_scene
from driveworld.kitti_drive import sequence_name, write_sequence
from driveworld.nuscenes_format import MAP_FILE, VERSION, assemble
from driveworld.raw_labels import CLASSES
from ovps.errors import ConfigError, SetupError
from ovps.files import write_whole
from ovps.interrupt import deaf_children, end_children, end_with_parent, kept
from ovps.machine import check_processes, check_semaphores
from ovps.places import check_free
from ovps.progress import progress, say
from ovps.shortage import faults
from ovps.taxonomy import load_taxonomy

Format = Literal["nuscenes", "semantickitti"]
_IMAGE_SIZE = {"nuscenes": (704, 396), "semantickitti": kitti_rig.IMAGE_SIZE}
_BEFORE = {"format": "nuscenes"}  # of worlds that were built before there was a choice

_MOST_SCENES = 1000
_FRAME_BYTES = 1.2e6  # on disk, of images of the usual size
_MUCH_BYTES = 1e9  # of a world, worth a word before it is built

WORLD_VERSION = 1
"""Raise it when the same settings give other bytes: a half-built world of an older version is then refused."""


@dataclass(frozen=True)
class WorldSummary:
    """Summary of `ovps world build`.

    Attributes:
        dataroot: of nuScenes version `v1.0-trainval`, or the folder that holds `sequences`.
        scenes, frames, points: in all.
        segments: per class, segments large enough to be evaluated (15 points, 50 of SemanticKITTI), summed over frames.
        seconds: wall clock of this run; scenes that were there already cost none.
    """

    dataroot: Path
    scenes: int
    frames: int
    points: int
    segments: dict[str, int]
    seconds: float


def build_world(
    out: Path,
    *,
    scenes: int,
    frames: int,
    seed: int,
    format: Format = "nuscenes",
    val_fraction: float = 0.25,
    image_size: tuple[int, int] | None = None,
    azimuth_steps: int = 1080,
    workers: int = 2,
    write_camera_labels: bool = False,
) -> WorldSummary:
    """Write a dataroot of `scenes` streets with `frames` key frames each (2 per second).

    The same settings give the same bytes, whatever `workers` is. A run that was stopped goes on where it was, and
    scenes with files that are missing or not what was written are written again.

    Args:
        out: the dataroot; made if missing.
        format: `nuscenes`: 32 beams, six cameras, tables; `semantickitti`: 64 beams, one camera that looks ahead, the
            layout of KITTI's odometry.
        val_fraction: share of the scenes in split `val`; of two or more, one at least in each split.
        image_size: (width, height) pixels; None: 704 x 396, of SemanticKITTI 960 x 290.
        azimuth_steps: LiDAR rays per beam and revolution.
        write_camera_labels: also write `camera_labels/<CAM>/<stem>.png`, uint8 challenge class ids, 0 is sky; nuScenes
            only.

    Raises:
        ConfigError: settings that make no world, or a folder that holds another one.
        StorageError: the disk refused.
    """
    start = time.perf_counter()
    _check_format(format, write_camera_labels)
    image_size = image_size or _IMAGE_SIZE[format]
    settings = {
        "world_version": WORLD_VERSION,
        "format": format,
        "scenes": scenes,
        "frames": frames,
        "seed": seed,
        "val_fraction": val_fraction,
        "image_size": list(image_size),
        "azimuth_steps": azimuth_steps,
        "write_camera_labels": write_camera_labels,
    }
    _check(scenes, frames, seed, val_fraction, image_size, azimuth_steps, workers)
    out = Path(out)
    _claim(out, settings)
    specs = [
        DriveSpec(str(out), i, frames, seed, image_size, azimuth_steps, write_camera_labels) for i in range(scenes)
    ]
    write = write_scene if format == "nuscenes" else write_sequence
    whole = {spec.name: record for spec in specs if (record := read_record(spec)) is not None}
    missing = [spec for spec in specs if spec.name not in whole]
    damaged = [spec.name for spec in missing if spec.record.exists()]
    if damaged:
        say(f"files of {', '.join(damaged)} are missing or not what was written: built again")
    expected = len(missing) * frames * _FRAME_BYTES
    if expected > _MUCH_BYTES:
        free = shutil.disk_usage(out).free
        say(
            f"{len(missing):,} scenes of {frames} frames take about {expected / 1e9:.0f} GB of {free / 1e9:.0f} GB free"
        )
    before = scenes - len(missing)
    done = before
    with (
        kept(lambda: f"{done} of {scenes} scenes are written in {out} and stay"),
        progress("world", "scenes", scenes, done=before) as counter,
    ):
        for _ in _run(write, missing, workers):
            done += 1
            counter.advance(f"{(done - before) * frames / (time.perf_counter() - start):.1f} frames/s")
    whole |= {spec.name: json.loads(spec.record.read_text(encoding="utf-8")) for spec in missing}
    records = [whole[spec.name] for spec in specs]
    names = [spec.name if format == "nuscenes" else sequence_name(spec.index) for spec in specs]
    val = min(max(round(scenes * val_fraction), 1), scenes - 1) if scenes >= 2 else round(val_fraction)
    splits = {"train": names[: scenes - val], "val": names[scenes - val :]}
    if format == "nuscenes":
        _write_dataset(out, records, splits)
        classes: Iterable[str] = CLASSES
    else:
        write_whole(out / "splits.json", (json.dumps(splits, indent=1) + "\n").encode())
        classes = load_taxonomy("semantickitti").by_name
    segments = sum((Counter(r["segments"]) for r in records), Counter())
    return WorldSummary(
        dataroot=out,
        scenes=scenes,
        frames=scenes * frames,
        points=sum(r["points"] for r in records),
        segments={name: segments[name] for name in classes},
        seconds=time.perf_counter() - start,
    )


def _check_format(format: str, write_camera_labels: bool) -> None:
    if format not in get_args(Format):
        raise ConfigError(f"no format {format!r}", remedy=f"Give one of: {', '.join(get_args(Format))}")
    if write_camera_labels and format != "nuscenes":
        raise ConfigError("labels of pixels are nuScenes' classes", remedy="Leave out --camera-labels, or --format")


def _check(
    scenes: int,
    frames: int,
    seed: int,
    val_fraction: float,
    image_size: tuple[int, int],
    azimuth_steps: int,
    workers: int,
) -> None:
    for name, value, least in (
        ("scenes", scenes, 1),
        ("frames", frames, 1),
        ("seed", seed, 0),
        ("azimuth steps", azimuth_steps, 16),
        ("workers", workers, 1),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}", remedy=f"Give at least {least}")
    check_processes("--workers", workers)
    if len(image_size) != 2 or min(image_size) < 32 or max(image_size) > 4096:
        raise ConfigError(f"image size is {image_size}", remedy="Give width and height from 32 to 4096 pixels")
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"the share of validation scenes is {val_fraction}", remedy="Give 0 or more, below 1")
    if frames > 80:
        raise ConfigError(f"frames is {frames}", remedy="Give at most 80 per scene; make more scenes instead")
    if scenes > _MOST_SCENES:
        raise ConfigError(f"scenes is {scenes:,}", remedy=f"Give at most {_MOST_SCENES:,}, as many as nuScenes has")


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Make the folder, or make sure that it belongs to a world of these settings."""
    check_free(out, but="data set")
    path = out / ".scenes" / "settings.json"
    if path.exists():
        try:
            found = _BEFORE | json.loads(path.read_text(encoding="utf-8"))
        except faults(OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"the settings of the world are damaged: {error}",
                path=path,
                remedy=f"Delete {out}, and build the world again",
            ) from error
        other = [f"{k} {found.get(k)} instead of {v}" for k, v in settings.items() if found.get(k) != v]
        if other:
            raise ConfigError(
                f"the folder holds a world with {', '.join(other)}",
                path=out,
                remedy="Choose another folder, or delete it",
            )
    elif (out / VERSION).exists() or (out / "sequences").exists():
        raise ConfigError("the folder holds a data set that is not drive world", path=out, remedy="Choose another")
    else:
        write_whole(path, json.dumps(settings).encode())


def _run(write: Callable[[DriveSpec], Path], specs: list[DriveSpec], workers: int) -> Iterator[Path]:
    """Scenes as they are finished."""
    if workers == 1 or len(specs) <= 1:
        yield from map(write, specs)
        return
    context = multiprocessing.get_context("spawn")
    with ExitStack() as opened:
        with deaf_children():
            check_semaphores("Use one process: --workers 1")
            pool = opened.enter_context(
                ProcessPoolExecutor(min(workers, len(specs)), mp_context=context, initializer=end_with_parent)
            )
            futures = [pool.submit(write, spec) for spec in specs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise SetupError(
                "a process that writes scenes has died, most likely for want of memory",
                path=specs[0].out,
                remedy="Use fewer --workers; the same command goes on, scenes that are written stay",
            ) from error
        except KeyboardInterrupt:
            end_children()  # a scene takes half a minute, and half a scene is no use
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _write_dataset(out: Path, records: Iterable[dict[str, Any]], splits: dict[str, list[str]]) -> None:
    """Tables, splits and the (blank) map."""
    for name, rows in assemble(r["tables"] for r in records).items():
        write_whole(out / VERSION / f"{name}.json", json.dumps(rows, indent=0).encode())
    write_whole(out / VERSION / "splits.json", json.dumps(splits, indent=1).encode())
    save(out / MAP_FILE, Image.fromarray(np.zeros((100, 100), np.uint8)).save)
