"""Estimate of what a run would cost, from one frame computed and thrown away."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from cache_schemas import CameraRow
from ovps import clip, datasets
from ovps.cache.disk import LocalStorage
from ovps.cache.layout import INFO
from ovps.cache.object_embeddings import count_objects
from ovps.cache.storage import Storage
from ovps.cache.sweeps import SweepStatistics, sweep_statistics, sweep_warnings
from ovps.cache.where import check_place, storage_of
from ovps.cache.writer import EncodedFrame, is_store
from ovps.clip.activation import check_activation
from ovps.clip.protocol import RANDOM
from ovps.errors import FrameError, WeightsError, counted
from ovps.frame import Frame
from ovps.plugins import is_outside
from pipelines.options import PrecomputeOptions
from pipelines.precompute.asked import asked_for
from pipelines.precompute.codec_choice import codec_like, exact_codec
from pipelines.precompute.compute_frame import StageTimes, Tools, camera_rows, lift_frame, read_cloud, read_labels
from pipelines.precompute.flow import computed, tried
from pipelines.precompute.held import Held, check_scenes, held_in, placed
from pipelines.precompute.oddities import moved_away, oddities
from pipelines.precompute.options import Resolved, resolved
from pipelines.precompute.plan import plan
from pipelines.precompute.prepare import check_settings, prepare
from pipelines.precompute.reread import read_otherwise
from pipelines.precompute.stage import may_skip
from pipelines.precompute.task import Job, forget_encoder, one_thread, tools_of

SAMPLED = 16  # a tenth of a second each


class PrecomputeEstimate(BaseModel, frozen=True):
    """A dry run. Nothing was written, nothing downloaded: the encoder was timed with random weights.

    Attributes:
        frames: to compute, quarantined ones and those with new labels too.
        frames_before: of those asked for, in the store already.
        moved: of those asked for, whose subset, place, times or pose in the store would be renewed.
        unlabelled: of those asked for, that neither the data set nor the store has labels of.
        codec: that `bytes` are of. None: there is nothing to compute.
        bytes: before compression, which takes off some 10 to 30 %. A new store of 160 training frames or more takes a
            smaller codec where that loses next to nothing: a fifth of them, most likely.
        free_bytes: on the disk of the store; None in a bucket.
        hours: as `workers` that do not slow each other down would need.
        stage_seconds: of the one frame, on one thread.
        sweeps: of some frames all over the data set, and of the one with the smallest file; None if none is missing.
        warnings: what in them should be looked into.
    """

    out: str
    partitions: int
    frames: int
    frames_before: int
    moved: int
    unlabelled: int
    images: int
    codec: str | None
    bytes: int
    free_bytes: int | None
    hours: float
    workers: int
    stage_seconds: dict[str, float]
    sweeps: SweepStatistics | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Sweep:
    """A frame's geometry and labels in numbers, without its images."""

    token: str
    points: int
    voxels: int
    beyond_range: int
    global_from_lidar: tuple[float, ...]
    cameras: tuple[CameraRow, ...]
    labelled: bool
    objects: int


def estimate(options: PrecomputeOptions) -> PrecomputeEstimate:
    """Count what is missing and compute one frame of it.

    Raises:
        DatasetError, FrameError, ConfigError, ProvenanceError: as the run itself would.
    """
    with may_skip(options.on_error):
        return _estimate(resolved(options))


def _estimate(options: Resolved) -> PrecomputeEstimate:
    storage = storage_of(options.out)
    check_place(storage)
    frames, blind = asked_for(options)
    odd = (*blind, *oddities(options, frames))
    held = held_in(storage)
    check_settings(options)
    if held and not is_store(storage):
        odd = (*odd, f"{storage.at(INFO)} is missing: it is made again if these settings are those of what is there")
    check_scenes(frames, held, storage)
    odd = (*odd, *moved_away(options, frames, held))
    anew = read_otherwise(frames, held, storage, datasets.at(options.dataset, options.dataroot))
    tasks = plan(frames, held, options.partition_frames, anew)
    missing = [frame for task in tasks for frame in task.frames]
    rows = [(frame, held[frame.token].row) for frame in frames if frame.token in held]
    workers = options.workers or 1
    times = StageTimes()
    codec, size, seconds = None, 0, 0.0
    sweeps: list[_Sweep] = []
    if missing:
        check_activation(options.encoder, options.weights)
        odd = (*odd, *_no_weights(options))
        job = _job(options.model_copy(update={"weights": RANDOM}), frames)
        codec = job.codec
        first = _first_good(job, missing, times)
        news = any(frame.token not in held or held[frame.token].skipped is None for frame in missing)
        if isinstance(first, FrameError) and (news or len(missing) == len(frames)):
            raise first
        seconds = sum(times.seconds.values())
        size = 0 if isinstance(first, FrameError) else sum(array.nbytes for array in first.arrays.values())
        sweeps = _sweeps(job, sample(missing))
        forget_encoder()
    return PrecomputeEstimate(
        out=storage.at(),
        partitions=len(tasks),
        frames=len(missing),
        frames_before=len(frames) - len(missing),
        moved=sum(row is not None and placed(row, frame) != row for frame, row in rows),
        unlabelled=sum(_bare(frame, held) for frame in frames),
        images=sum(len(frame.cameras) for frame in missing),
        codec=codec,
        bytes=size * len(missing),
        free_bytes=_free_bytes(storage),
        hours=seconds * len(missing) / workers / 3600,
        workers=workers,
        stage_seconds=times.seconds,
        sweeps=sweep_statistics(sweeps),
        warnings=(*odd, *_absent(missing), *sweep_warnings(sweeps)),
    )


def _bare(frame: Frame, held: Mapping[str, Held]) -> bool:
    row = held[frame.token].row if frame.token in held else None
    return frame.labels_path is None and not (row is not None and row.labelled)


def _no_weights(options: Resolved) -> list[str]:
    """Tell of weights that are not there yet: a dry run needs none, the run itself does."""
    if is_outside(clip.get(options.encoder)):
        return []  # of another package, whose loader alone knows
    from ovps.clip.loading import named_weights  # torch

    try:
        named_weights(options.encoder, options.weights)
    except WeightsError as error:
        return [f"without --dry-run this is refused: {error}"]
    return []


def _job(options: Resolved, frames: list[Frame]) -> Job:
    """With an exact codec, where a new store's is not asked for: random features say nothing of the others."""
    if options.like is None and (options.codec or is_store(storage_of(options.out))):
        return prepare(options, frames)[0]
    job, _ = prepare(options.model_copy(update={"codec": "dense", "like": None}), frames)
    if options.like is None:
        return replace(job, codec=exact_codec(job, frames).name)
    codec, state = codec_like(options.like, options.codec, encoder=options.encoder)  # its weights are not loaded here
    return replace(job, codec=codec, state=state)


def sample(frames: Sequence[Frame]) -> list[Frame]:
    """Choose `SAMPLED` frames at most, evenly spread, and that of the smallest point file, which may be cut off."""
    count = min(SAMPLED, len(frames))
    spread = {number * len(frames) // count for number in range(count)}
    smallest = min(range(len(frames)), key=lambda number: _file_bytes(frames[number].points_path))
    return [frames[number] for number in sorted(spread | {smallest})]


def _file_bytes(path: str) -> int:
    """Size of a file; a missing one is smaller than any, so that it is noticed first."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def _absent(frames: Sequence[Frame]) -> list[str]:
    """Warn of images that are not there; those of the frame that is computed are an error already."""
    absent = [c.image_path for frame in frames for c in frame.cameras if not Path(c.image_path).exists()]
    if not absent:
        return []
    return [
        f"{counted(len(absent), 'image')} of cameras missing, the first is {absent[0]}: the run stops there, or leaves"
        " such frames out with --on-error skip"
    ]


def _sweeps(job: Job, frames: list[Frame]) -> list[_Sweep]:
    """Geometry and labels of some frames. A bad one stops the dry run, or is passed over, as in the run itself."""
    tools = tools_of(job)
    found = []
    for frame in frames:
        made = tried(frame, partial(_sweep, frame, tools))
        if not isinstance(made, FrameError):
            found.append(made)
        elif not job.skip_bad_frames:
            raise made
    return found


def _sweep(frame: Frame, tools: Tools) -> _Sweep:
    cloud = read_cloud(frame, tools.dataset)
    lifted = lift_frame(frame, cloud, tools)
    label = read_labels(frame, tools.dataset)
    return _Sweep(
        token=frame.token,
        points=len(cloud),
        voxels=len(lifted.coords),
        beyond_range=lifted.beyond_range,
        global_from_lidar=tuple(frame.global_from_lidar.reshape(-1).tolist()),
        cameras=camera_rows(frame, lifted, tools),
        labelled=label is not None,
        objects=0 if label is None else count_objects(label, tools.taxonomy),
    )


def _first_good(job: Job, frames: list[Frame], times: StageTimes) -> EncodedFrame | FrameError:
    """The first frame that can be computed: bad ones before it are passed over if the run would do so.

    Where all are bad, the error of the last, which is no news of frames that were quarantined before.
    """
    tools = tools_of(job)
    for number, frame in enumerate(frames):
        times.seconds.clear()
        with one_thread():
            (made,) = computed([frame], tools, times)
        if not isinstance(made, FrameError):
            return made
        if not job.skip_bad_frames:
            raise made
        if number == len(frames) - 1:
            return made
    raise ValueError("no frames")


def _free_bytes(storage: Storage) -> int | None:
    """On the disk of a folder, or of the nearest above it that exists."""
    if not isinstance(storage, LocalStorage):
        return None
    existing = next(path for path in (storage.root, *storage.root.parents) if path.exists())
    return shutil.disk_usage(existing).free
