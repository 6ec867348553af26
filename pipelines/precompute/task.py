"""One task: compute the frames of a partition and commit it. Runs in a worker; loads CLIP once per process."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from cache_schemas import PartitionRow, SkippedRow
from ovps import clip, datasets, machine
from ovps.cache import codecs
from ovps.cache.codecs.choice import Fidelity
from ovps.cache.codecs.protocol import State
from ovps.cache.late_labels import with_labels
from ovps.cache.manifest import find_manifest, unless_replaced, write_manifest
from ovps.cache.partition import Partition
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.cache.writer import EncodedFrame, stored_frames, write_labels, write_partition
from ovps.clip.protocol import Encoder
from ovps.errors import FrameError, WeightsError
from ovps.frame import Frame
from ovps.geometry.grid import Grid
from ovps.geometry.visibility import Occlusion
from pipelines.precompute.compute_frame import StageTimes, Tools, read_labels
from pipelines.precompute.flow import computed, tried
from pipelines.precompute.held import Held
from pipelines.precompute.plan import Task

THREADS = 8  # of a task, beside an accelerator


@dataclass(frozen=True)
class Job:
    """Settings that all tasks of a run have in common; small, and sent with each."""

    out: Storage
    dataset: str
    encoder: str
    weights: str | None
    weights_sha256: str
    device: str
    upscale: float
    grid: str
    occlusion: Occlusion | None
    codec: str
    state: State  # of the codec; a new store does not hold it yet
    skip_bad_frames: bool
    dataroot: Path
    thumbnails: int | None
    sweeps: int = 0
    fidelity: Fidelity | None = None  # of a codec chosen for a new store, to what it was fitted to
    gpus: int = 0  # that workers of a cluster of our own take in turn; 0: `device` is meant as it is


@dataclass(frozen=True)
class Done:
    """Result of a task.

    Attributes:
        frames: computed.
        images: of these.
        bytes: written.
        seconds: by stage.
        peak_bytes: resident memory of the process at its highest so far.
    """

    partition: str
    frames: int
    images: int
    bytes: int
    seconds: dict[str, float]
    peak_bytes: int


OnFrame = Callable[[int], None]  # called after each frame with its number of images


def run_task(job: Job, task: Task, on_frame: OnFrame) -> Done:
    """Compute frames and commit them to their partition, beside what it holds already.

    Raises:
        FrameError: of the first bad frame, unless the job skips those; then nothing of the partition is committed.
        StorageError: the disk refuses; nothing of the partition is committed.
    """
    tools = tools_of(job)
    times = StageTimes()
    frames: list[EncodedFrame] = []
    skipped: list[SkippedRow] = []
    images = 0
    before = find_manifest(job.out, task.name)
    held = {row.token: Held(task.name, task.scene, row) for row in before.frames} if before else {}
    # dask, or another run, may have done some since they were planned
    todo = [f for f in task.frames if f.token in task.anew or f.token not in held or held[f.token].lacks(f)]
    with one_thread(), unless_replaced(job.out, task.name, before):
        there = Partition.open(job.out, before, read_info(job.out).provenance) if before and before.frames else None
        if there and (own := _own(there, todo, job.thumbnails)):
            tools = replace(tools, **own)
        labelled = there if codecs.get(job.codec).keeps_cells else None  # labels can be added to it without CLIP
        known = [frame for frame in todo if labelled and frame.token in held]
        late = {f.token for f in known if f.token not in task.anew and not held[f.token].recalibrated(f)}  # lack labels
        whole = computed([frame for frame in todo if frame.token not in late], tools, times, threads_beside(job.device))
        with closing(whole):
            for frame in todo:
                made = _labelled(frame, labelled, tools) if labelled and frame.token in late else next(whole)
                if isinstance(made, FrameError):
                    if not job.skip_bad_frames:
                        raise made
                    skipped.append(SkippedRow(token=frame.token, kind=made.kind, reason=str(made)))
                else:
                    frames.append(made)
                    images += 0 if frame.token in late else len(frame.cameras)
                on_frame(len(frame.cameras))
        with times.stage("write"):
            written = _commit(job.out, task, before, todo, frames, skipped, late) if todo else 0
    return Done(
        partition=task.name,
        frames=len(frames),
        images=images,
        bytes=written,
        seconds=times.seconds,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _own(there: Partition, todo: Sequence[Frame], thumbnails: int | None) -> dict[str, Any]:
    """Fields of `Tools` by which frames to compute keep what a partition alone has: labels, and images of its width."""
    bare = {frame.token for frame in todo if frame.labels_path is None}
    labels = {row.token: there.label(row.token) for row in there.row.frames if row.labelled and row.token in bare}
    width = thumbnails or there.thumbnail_width()
    return ({"kept_labels": labels} if labels else {}) | ({"thumbnails": width} if width else {})


def _labelled(frame: Frame, there: Partition, tools: Tools) -> EncodedFrame | FrameError:
    def made() -> EncodedFrame:
        label = read_labels(frame, tools.dataset)
        assert label is not None  # it has a path
        return with_labels(there, frame.token, label, tools.taxonomy, frame.labels_path)

    return tried(frame, made)


def _commit(
    out: Storage,
    task: Task,
    before: PartitionRow | None,
    tried: Sequence[Frame],
    frames: list[EncodedFrame],
    skipped: list[SkippedRow],
    late: Set[str],
) -> int:
    """Put frames into a partition, which keeps what else it held `before`; return the bytes of the files written.

    A frame that is in the store without labels stays so if its labels cannot be read; that it is `skipped` is noted.

    Args:
        late: frames of which labels alone have come.
    """
    if before is None:
        row = write_partition(out, task.name, task.scene, frames, skipped)
        return bytes_of(row)
    tokens = {frame.token for frame in tried}
    skipped = [record for record in before.skipped if record.token not in tokens] + skipped
    if not frames:
        if tuple(skipped) != before.skipped:
            write_manifest(out, before.model_copy(update={"skipped": tuple(skipped)}), before)
        return 0
    others = {frame.token for frame in before.frames} - {frame.row.token for frame in frames}
    together = sorted([*stored_frames(out, before, others), *frames], key=lambda frame: frame.row.index)
    if tokens <= late:
        row = write_labels(out, before, together, skipped)
        return sum(file.bytes for file in row.labels.files) if row.labels else 0
    row = write_partition(out, task.name, task.scene, together, skipped, before=before)
    return bytes_of(row)


def bytes_of(row: PartitionRow) -> int:
    """Bytes of all files of a partition."""
    return sum(file.bytes for part in row.parts.values() for file in part.files)


def threads_beside(device: str) -> int:
    """Threads for what a frame takes before and behind an accelerator: this process's share of the cores, `THREADS` at
    most; none beside an encoder that needs the cores itself."""
    if device == "cpu":
        return 0
    return max(1, min(THREADS, machine.cores() // max(1, torch.cuda.device_count())))


def tools_of(job: Job) -> Tools:
    """The tools of a job; CLIP is loaded once per process."""
    dataset = datasets.at(job.dataset, job.dataroot)
    encoder = encoder_of(job.encoder, job.weights, job.device, job.upscale)
    if encoder.weights.sha256 != job.weights_sha256:
        raise WeightsError(
            f"{job.encoder} has weights {encoder.weights.sha256[:12]}… here,"
            f" but {job.weights_sha256[:12]}… at the client",
            path=job.weights,
            remedy="Give all workers the same file",
        )

    return Tools(
        dataset=dataset,
        taxonomy=dataset.taxonomy,
        grid=Grid.parse(job.grid),
        occlusion=job.occlusion,
        codec=codecs.get(job.codec),
        state=job.state,
        dataroot=job.dataroot,
        thumbnails=job.thumbnails,
        sweeps=job.sweeps,
        encoder=encoder,
    )


def encoder_of(name: str, weights: str | None, device: str, upscale: float) -> Encoder:
    """An encoder on a device, kept for the next task, and for others that run beside."""
    with _LOADING:
        return _encoder(name, weights, device, upscale, _stamp(weights))


_LOADING = Lock()


def _stamp(weights: str | None) -> tuple[int, int] | None:
    """When a file of weights was written, and its size: one that is renewed is loaded anew."""
    try:
        state = os.stat(weights) if weights else None
    except OSError:  # a tag, or none there, which loading tells
        return None
    return (state.st_mtime_ns, state.st_size) if state else None


@lru_cache(maxsize=1)
def _encoder(name: str, weights: str | None, device: str, upscale: float, stamp: tuple[int, int] | None) -> Encoder:
    with one_thread():
        return clip.load(name, weights, device=device, upscale=upscale)


def forget_encoder() -> None:
    """Free the encoder's memory: the client needs it for the vocabulary only."""
    _encoder.cache_clear()
    gc.collect()


_ONE = Lock()
_inside: list[int] = []  # of each that runs torch on one thread: how many it had before


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: with more, sums may be ordered otherwise, and bytes would depend on the machine.

    Several tasks of a process may be within; the last one that leaves gives back the threads that the first one found.
    """
    with _ONE:
        _inside.append(_inside[0] if _inside else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _ONE:
            before = _inside.pop()
            if not _inside:
                torch.set_num_threads(before)
