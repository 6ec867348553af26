"""What a run would cost, from one frame computed and thrown away."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ovps.cache.writer import EncodedFrame, is_store
from ovps.clip.loading import RANDOM
from ovps.errors import FrameError
from ovps.frame import Frame
from pipelines.precompute.frame import StageTimes, compute_frame
from pipelines.precompute.held import check_scenes, held_in
from pipelines.precompute.options import PrecomputeOptions
from pipelines.precompute.partition import Job, forget_clip, one_thread, tools_of
from pipelines.precompute.plan import plan
from pipelines.precompute.run import frames_of, prepare


class PrecomputeEstimate(BaseModel):
    """A dry run. Nothing was written, nothing downloaded: the encoder was timed with random weights.

    Attributes:
        frames: to compute, quarantined ones and those with new labels too.
        frames_before: of those asked for, in the store already.
        bytes: before compression, which takes off some 10 to 30 %.
        free_bytes: on the disk of the store.
        hours: as `workers` that do not slow each other down would need.
        stage_seconds: of the one frame, on one thread.
    """

    model_config = ConfigDict(frozen=True)

    out: Path
    partitions: int
    frames: int
    frames_before: int
    images: int
    bytes: int
    free_bytes: int
    hours: float
    workers: int
    stage_seconds: dict[str, float]


def estimate(options: PrecomputeOptions) -> PrecomputeEstimate:
    """Count what is missing and compute one frame of it.

    Raises:
        DatasetError, FrameError, ConfigError: as the run itself would.
    """
    options = options.resolved()
    frames = frames_of(options)
    held = held_in(options.out) if is_store(options.out) else {}
    check_scenes(frames, held, options.out)
    tasks = plan(frames, held, options.partition_frames)
    missing = [frame for task in tasks for frame in task.frames]
    workers = options.workers or 1
    times = StageTimes()
    size, seconds = 0, 0.0
    if missing:
        job, _ = prepare(options.model_copy(update={"weights": RANDOM}), frames)
        first = _first_good(job, missing, times)
        seconds = sum(times.seconds.values())
        size = sum(array.nbytes for array in first.arrays.values())
        forget_clip()
    return PrecomputeEstimate(
        out=options.out,
        partitions=len(tasks),
        frames=len(missing),
        frames_before=len(frames) - len(missing),
        images=sum(len(frame.cameras) for frame in missing),
        bytes=size * len(missing),
        free_bytes=shutil.disk_usage(_existing(options.out)).free,
        hours=seconds * len(missing) / workers / 3600,
        workers=workers,
        stage_seconds=times.seconds,
    )


def _first_good(job: Job, frames: list[Frame], times: StageTimes) -> EncodedFrame:
    """The first frame that can be computed: bad ones before it are passed over if the run would do so."""
    tools = tools_of(job)
    for number, frame in enumerate(frames):
        times.seconds.clear()
        try:
            with one_thread():
                return compute_frame(frame, tools, times)
        except FrameError:
            if not job.skip_bad_frames or number == len(frames) - 1:
                raise
    raise ValueError("no frames")


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(p for p in (path, *path.parents) if p.exists())
