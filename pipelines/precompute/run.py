"""The whole stage: tables, store, tasks, summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from pydantic import BaseModel, ConfigDict

import ovps
from cache_schemas.v1 import Codec, Provenance, SkippedRow
from ovps import datasets
from ovps.cache.lock import exclusive
from ovps.cache.manifest import manifest_files, read_manifest
from ovps.cache.reader import read_info
from ovps.cache.writer import check_provenance, create_store, is_store, remove_leftovers
from ovps.clip.text import build_vocabulary
from ovps.errors import DatasetError, FrameError
from ovps.frame import Frame
from ovps.geometry.visibility import Occlusion
from ovps.interrupt import kept
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import entries_of
from pipelines.precompute.display import Display, display
from pipelines.precompute.executor import run_here, run_on_dask
from pipelines.precompute.frame import smaller_codec
from pipelines.precompute.options import PrecomputeOptions
from pipelines.precompute.partition import Done, Job, clip_of, forget_clip, tools_of
from pipelines.precompute.plan import Task, limited, plan


class PrecomputeSummary(BaseModel):
    """What a run has done.

    Attributes:
        frames: computed and committed in this run.
        frames_before: of those asked for, already in the store.
        quarantined: of those asked for, left out, in this run or an earlier one, and why.
        bytes_written: of this run's partitions.
        seconds: wall clock of computing, from the first task to the last.
        stage_seconds: summed over workers.
        peak_worker_bytes: resident memory of the largest worker at its highest.
        weights_random: the CLIP features mean nothing: show it wherever results are shown.
    """

    model_config = ConfigDict(frozen=True)

    out: Path
    partitions: int
    frames: int
    frames_before: int
    quarantined: tuple[SkippedRow, ...]
    images: int
    bytes_written: int
    seconds: float
    images_per_second: float
    frames_per_second: float
    stage_seconds: dict[str, float]
    peak_worker_bytes: int
    workers: int
    weights_random: bool


def precompute(options: PrecomputeOptions) -> PrecomputeSummary:
    """Compute what the store lacks of the frames asked for.

    Raises:
        DatasetError, FrameError, WeightsError, ProvenanceError, CacheError, StorageError: each names what to do.
            Whatever was committed before stays, and the store verifies.
    """
    options = options.resolved()
    frames = frames_of(options)
    job, provenance = prepare(options, frames)
    with exclusive(options.out):
        _open_store(options, job, provenance)
        if options.scheduler or options.workers:
            forget_clip()  # the workers have their own
        remove_leftovers(options.out)
        committed, quarantined = committed_in(options.out)
        tasks = plan(frames, committed | set(quarantined), options.partition_frames)
        start = perf_counter()
        results: list[Done] = []
        todo = sum(len(task.frames) for task in tasks)
        with kept(lambda: _kept(options.out, committed, todo)), display(todo) as shown:
            for done in _run(job, tasks, options, shown):
                shown.partition_done(done)
                results.append(done)
        seconds = perf_counter() - start
        _, quarantined = committed_in(options.out)

    images = sum(done.images for done in results)
    computed = sum(done.frames for done in results)
    return PrecomputeSummary(
        out=options.out,
        partitions=len(results),
        frames=computed,
        frames_before=sum(frame.token in committed for frame in frames),
        quarantined=tuple(quarantined[frame.token] for frame in frames if frame.token in quarantined),
        images=images,
        bytes_written=sum(done.bytes for done in results),
        seconds=seconds,
        images_per_second=images / seconds if results else 0.0,
        frames_per_second=computed / seconds if results else 0.0,
        stage_seconds=dict(sum((Counter(done.seconds) for done in results), Counter())),
        peak_worker_bytes=max((done.peak_bytes for done in results), default=0),
        workers=options.workers or 1,
        weights_random=provenance.weights_random,
    )


def frames_of(options: PrecomputeOptions) -> list[Frame]:
    """The frames asked for; `options` are resolved.

    Raises:
        DatasetError: none, or whatever the data set finds wrong.
    """
    assert options.dataroot is not None
    frames = datasets.get(options.dataset).load_frames(options.dataroot, options.version, options.subsets)
    frames = limited(frames, options.limit)
    if not frames:
        raise DatasetError(
            f"no frames of {options.version} in {', '.join(options.subsets)}",
            path=options.dataroot,
            remedy="Check --version and --split",
        )
    without = next((frame for frame in frames if not frame.cameras), None)
    if without is not None:
        raise DatasetError("a frame without cameras", path=options.dataroot, frame=without.token)
    return frames


def prepare(options: PrecomputeOptions, frames: list[Frame]) -> tuple[Job, Provenance]:
    """What the workers need, and what the store says about itself. Loads CLIP, for the hash of its weights."""
    assert options.device is not None  # resolved
    device = options.device
    clip = clip_of(options.encoder, options.weights, device)
    occlusion = Occlusion() if options.occlusion else None
    job = Job(
        out=options.out,
        dataset=options.dataset,
        encoder=options.encoder,
        weights=options.weights,
        weights_sha256=clip.weights_sha256,
        device=device,
        upscale=options.upscale,
        grid=options.grid,
        occlusion=occlusion,
        codec=options.codec or "dense",
        skip_bad_frames=options.on_error == "skip",
    )
    if options.codec is None:
        # val has no say in how the features that are trained on are rounded
        first = [frame for frame in frames if frame.subset == options.subsets[0]]
        job = replace(job, codec=_choose_codec(job, first))
    camera = frames[0].cameras[0]
    provenance = Provenance(
        dataset=options.dataset,
        dataset_version=options.version,
        taxonomy=datasets.get(options.dataset).TAXONOMY,
        encoder=clip.name,
        weights_sha256=clip.weights_sha256,
        weights_random=clip.weights_random,
        clip_dim=clip.dim,
        image_size=(camera.width, camera.height),
        upscale=options.upscale,
        grid=options.grid,
        occlusion=occlusion.model_dump() if occlusion else None,
        codec=job.codec,
        code_version=ovps.__version__,
    )
    return job, provenance


def _choose_codec(job: Job, frames: list[Frame]) -> Codec:
    """That of the store, if there is one; else the smaller one, by the first frame that can be lifted."""
    if is_store(job.out):
        return read_info(job.out).provenance.codec
    tools = tools_of(job)
    for frame in frames:
        try:
            return smaller_codec(frame, tools)
        except FrameError:  # told when its turn comes
            continue
    return job.codec


def _open_store(options: PrecomputeOptions, job: Job, provenance: Provenance) -> None:
    """Make the store with the vocabulary of the data set's own classes, or check that it may be added to."""
    if is_store(options.out):
        check_provenance(options.out, provenance)
        return
    clip = clip_of(job.encoder, job.weights, job.device)
    create_store(options.out, provenance, build_vocabulary(clip, entries_of(load_taxonomy(provenance.taxonomy))))


def committed_in(store: Path) -> tuple[set[str], dict[str, SkippedRow]]:
    """Tokens of the frames in a store, and its quarantined frames by token."""
    rows = [read_manifest(file) for file in manifest_files(store)]
    tokens = {frame.token for row in rows for frame in row.frames}
    return tokens, {skipped.token: skipped for row in rows for skipped in row.skipped}


def _kept(store: Path, before: set[str], todo: int) -> str:
    new = committed_in(store)[0] - before
    return f"{len(new)} of {todo} frames are committed in {store} and stay"


def _run(job: Job, tasks: list[Task], options: PrecomputeOptions, shown: Display) -> Iterator[Done]:
    if not tasks:
        return iter(())
    if options.scheduler is None and not options.workers:
        return run_here(job, tasks, shown.frame_done)
    return run_on_dask(job, tasks, shown.frame_done, options.workers or 1, options.scheduler)
