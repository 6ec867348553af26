"""The whole stage: tables, store, tasks, summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Literal

from pydantic import BaseModel

import ovps
from cache_schemas import Provenance, SkippedRow
from ovps import datasets
from ovps.cache.codecs.choice import Fidelity
from ovps.cache.codecs.state import state_sha256
from ovps.cache.info import feature_warnings
from ovps.cache.leftovers import lost_partitions, remove_leftovers
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.cache.sweeps import SweepStatistics, sweep_statistics, sweep_warnings
from ovps.cache.where import check_place, storage_of
from ovps.cache.writer import check_provenance, create_store, is_store
from ovps.clip.protocol import Encoder
from ovps.clip.text import build_vocabulary
from ovps.datasets import Dataset
from ovps.errors import CacheError, DatasetError, FrameError, StorageError, command
from ovps.frame import Frame
from ovps.interrupt import kept
from ovps.progress import show_warnings
from ovps.vocabulary import entries_of
from pipelines.options import PrecomputeOptions
from pipelines.precompute.codec_choice import choose_codec, codec_warnings
from pipelines.precompute.display import Display, display
from pipelines.precompute.executor import run_here, run_on_dask
from pipelines.precompute.held import Held, check_scenes, held_in, move, twins
from pipelines.precompute.oddities import oddities
from pipelines.precompute.options import Resolved, resolved
from pipelines.precompute.plan import Task, check_unique, limited, plan, with_cameras
from pipelines.precompute.reread import read_otherwise
from pipelines.precompute.task import Done, Job, encoder_of, forget_encoder

_Missing = tuple[dict[str, Held], Collection[str], list[Task]]


class PrecomputeSummary(BaseModel, frozen=True):
    """Summary of `ovps precompute`.

    Attributes:
        partitions: written in this run, new or with frames added.
        frames: computed and committed in this run.
        frames_before: of those asked for, already in the store, where nothing was missing.
        relabelled: of `frames`, in the store before, but without the labels that the data set has now.
        recalibrated: of `frames`, in the store before, but computed with other cameras, another calibration of them, or
            other rules for reading the points.
        mended: of `frames`, quarantined before.
        moved: of those asked for, in another subset or at another place in the scene than before; not computed again.
        unlabelled: of those asked for, in the store without labels.
        quarantined: of those asked for, not computed, or not with their labels, and why.
        bytes_written: of this run's partitions.
        seconds: wall clock of computing, from the first task to the last.
        stage_seconds: summed over workers.
        peak_worker_bytes: resident memory of the largest worker at its highest.
        weights_random: the CLIP features mean nothing: show it wherever results are shown.
        codec: of the store.
        fidelity: of a codec that was chosen now, to the training frames that it was fitted to; None of any other.
        sweeps: of the frames asked for that are in the store now; None if none is.
        warnings: what in them should be looked into.
    """

    out: str
    partitions: int
    frames: int
    frames_before: int
    relabelled: int
    recalibrated: int
    mended: int
    moved: int
    unlabelled: int
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
    codec: str
    fidelity: Fidelity | None
    sweeps: SweepStatistics | None
    warnings: tuple[str, ...]


def precompute(options: PrecomputeOptions) -> PrecomputeSummary:
    """Compute what the store lacks of the frames asked for.

    That is frames that it has never seen, quarantined frames, and frames that had no labels and have some now. What has
    changed inside a file of a committed frame is not noticed, and what the data set does not have any more stays.

    Raises:
        DatasetError, FrameError, WeightsError, ProvenanceError, CacheError, StorageError: each names what to do.
            Whatever was committed before stays, and the store verifies.
    """
    with may_skip(options.on_error):
        return complete(options)


@contextmanager
def may_skip(on_error: Literal["stop", "skip"]) -> Iterator[None]:
    """Add to what is said of a bad frame that it may be left out: data sets do not know who asks them."""
    try:
        yield
    except FrameError as error:
        if on_error == "skip":
            raise
        also = "leave such frames out with --on-error skip"
        remedy = f"{error.remedy}; or {also}" if error.remedy else also.capitalize()
        raise error.with_remedy(remedy) from error


def complete(options: PrecomputeOptions) -> PrecomputeSummary:
    """Do as `precompute`, for commands that say themselves how a bad frame is left out, if they can."""
    return _complete(resolved(options))


@dataclass(frozen=True)
class _Outcome:
    """What a run did: the store before and after, by token, and what was tried in between."""

    storage: Storage
    job: Job
    provenance: Provenance
    frames: list[Frame]  # asked for
    tried: list[Frame]
    anew: Collection[str]
    before: Mapping[str, Held]
    after: Mapping[str, Held]
    moved: int
    results: list[Done]
    seconds: float
    lost: list[str]  # partitions without a manifest
    warnings: tuple[str, ...]  # of the data set and of the codec, before the first task


def _complete(options: Resolved) -> PrecomputeSummary:
    outcome = _computed(options)
    _check_outcome(outcome.frames, outcome.tried, outcome.before, outcome.after)
    return _summary(options, outcome)


def _computed(options: Resolved) -> _Outcome:
    storage = storage_of(options.out)
    check_place(storage)
    frames = frames_of(options)
    odd = oddities(options, frames)
    begun = is_store(storage)
    job, provenance = prepare(options, frames)
    there = _complete_store(options, frames, provenance) if begun else None
    with _locked(storage, needed=there is None) as locked:
        if there is None:
            _open_store(job, provenance)
        if locked:
            remove_leftovers(storage)
        if options.scheduler or options.workers:
            forget_encoder()  # the workers have their own
        before, anew, tasks = there or _missing(options, frames)
        moved = move(frames, storage)
        start = perf_counter()
        results: list[Done] = []
        tried = [frame for task in tasks for frame in task.frames]
        warnings = codec_warnings(job, len(tried)) if begun and options.codec is None else ()
        show_warnings(warnings)  # before what may take hours
        with kept(lambda: _kept(storage, before, tried)), display(len(tried)) as shown:
            for done in _run(job, tasks, options, shown):
                shown.partition_done(done)
                results.append(done)
        seconds = perf_counter() - start
        # those of partitions that were made anew, too
        lost = remove_leftovers(storage) if locked else list(lost_partitions(storage, read_info(storage)))
        after = held_in(storage)
    return _Outcome(
        storage=storage,
        job=job,
        provenance=provenance,
        frames=frames,
        tried=tried,
        anew=anew,
        before=before,
        after=after,
        moved=moved,
        results=results,
        seconds=seconds,
        lost=lost,
        warnings=(*odd, *warnings),
    )


@contextmanager
def _locked(storage: Storage, *, needed: bool) -> Iterator[bool]:
    """Keep other runs from writing; who may only read a complete store, or reads while another writes, does without."""
    with ExitStack() as stack:
        locked = True
        try:
            stack.enter_context(storage.exclusive())
        except (CacheError, StorageError):
            if needed:
                raise
            locked = False
        yield locked


def _missing(options: Resolved, frames: Sequence[Frame]) -> _Missing:
    """What the store holds, which of it is read otherwise now, and what is to be computed."""
    storage, dataset = storage_of(options.out), datasets.at(options.dataset, options.dataroot)
    before = held_in(storage)
    check_scenes(frames, before, storage)
    anew = read_otherwise(frames, before, storage, dataset)
    return before, anew, plan(frames, before, options.partition_frames, anew)


def _complete_store(options: Resolved, frames: Sequence[Frame], provenance: Provenance) -> _Missing | None:
    """What `_missing` gives where a store holds all that is asked for, each frame in its place; else None."""
    check_provenance(storage_of(options.out), provenance)
    found = _missing(options, frames)
    before, _, tasks = found
    rows = ((frame, before[frame.token].row) for frame in frames if frame.token in before)
    placed = all(row and (row.subset, row.index) == (frame.subset, frame.index) for frame, row in rows)
    return found if placed and not tasks else None


def _summary(options: Resolved, outcome: _Outcome) -> PrecomputeSummary:
    storage, frames, before, after = outcome.storage, outcome.frames, outcome.before, outcome.after
    complete = [frame for frame in outcome.tried if not after[frame.token].lacks(frame)]
    known = [(before[frame.token], frame) for frame in complete if frame.token in before]
    asked = [after[frame.token] for frame in frames]
    rows = [held.row for held in asked if held.row is not None]
    results, seconds = outcome.results, outcome.seconds
    images = sum(done.images for done in results)
    computed = sum(done.frames for done in results)
    return PrecomputeSummary(
        out=storage.at(),
        partitions=sum(done.frames > 0 for done in results),
        frames=computed,
        frames_before=len(frames) - len(outcome.tried),
        relabelled=sum(held.unlabelled(frame) for held, frame in known),
        recalibrated=sum(frame.token in outcome.anew or held.recalibrated(frame) for held, frame in known),
        mended=sum(held.row is None for held, _ in known),
        moved=outcome.moved,
        unlabelled=sum(held.row is not None and not held.row.labelled for held in asked),
        quarantined=tuple(_quarantined(frames, outcome.tried, after)),
        images=images,
        bytes_written=sum(done.bytes for done in results),
        seconds=seconds,
        images_per_second=images / seconds if results else 0.0,
        frames_per_second=computed / seconds if results else 0.0,
        stage_seconds=dict(sum((Counter(done.seconds) for done in results), Counter())),
        peak_worker_bytes=max((done.peak_bytes for done in results), default=0),
        workers=options.workers or 1,
        weights_random=outcome.provenance.weights_random,
        codec=outcome.job.codec,
        fidelity=outcome.job.fidelity,
        sweeps=sweep_statistics(rows),
        warnings=(
            *(*outcome.warnings, *sweep_warnings(rows), *feature_warnings(rows, outcome.provenance)),
            *(_lost(storage, name) for name in outcome.lost),
            *map(_twin, twins(after)),
            *_without_images(options, asked),
        ),
    )


def _quarantined(frames: Sequence[Frame], tried: Sequence[Frame], after: Mapping[str, Held]) -> Iterator[SkippedRow]:
    """Of those asked for, but for what the store has whole, and once had to be labelled or computed again in vain."""
    now = {frame.token for frame in tried}
    for frame in frames:
        held = after[frame.token]
        if held.skipped is not None and (held.lacks(frame) or frame.token in now):
            yield held.skipped


def _lost(storage: Storage, partition: str) -> str:
    return (
        f"the manifest of partition {partition} was lost, and its frames are none of those asked for: what it holds is"
        f" kept ({command('ovps', 'cache', 'verify', storage.at())})"
    )


def _without_images(options: Resolved, asked: Sequence[Held]) -> list[str]:
    rows = [held.row for held in asked if held.row is not None]
    without = sum(not any(camera.thumbnail_bytes for camera in row.cameras) for row in rows)
    if not options.thumbnails or not without:
        return []
    return [
        f"{without} of {len(rows)} frames were computed before without thumbnails, and stay so: a new place for the"
        " store will have them"
    ]


def _twin(scenes: tuple[str, str]) -> str:
    return (
        f"frames of scenes {' and '.join(sorted(scenes))} are as many, with as many points and voxels: if a folder was"
        " renamed or copied, precompute into a new --out"
    )


def frames_of(options: Resolved) -> list[Frame]:
    """The frames asked for.

    Raises:
        DatasetError: none, two of one token, two scenes of one name, or whatever the data set finds wrong.
    """
    asked = {"sweeps": options.sweeps} if options.sweeps else {}
    dataset = datasets.get(options.dataset)
    frames = datasets.frames_of(dataset, options.dataroot, options.version, options.subsets, **asked)
    check_unique(frames)
    if options.only:
        unknown = sorted(set(options.only) - {frame.token for frame in frames})
        if unknown:
            raise DatasetError(
                "no such frame in these splits",
                path=options.dataroot,
                frame=unknown[0],
                remedy="Check --only and --split",
            )
        wanted = set(options.only)
        frames = [frame for frame in frames if frame.token in wanted]
    frames = [with_cameras(frame, options.cameras) for frame in limited(frames, options.limit)]
    if not frames:
        raise DatasetError(
            f"no frames of {options.version} in {', '.join(options.subsets)}",
            path=options.dataroot,
            remedy="Check --version and --split",
        )
    without = next((frame for frame in frames if not frame.cameras), None)
    if without is not None:
        raise DatasetError(
            "a frame without cameras, of which CLIP cannot say anything",
            path=options.dataroot,
            frame=without.token,
            remedy="Give it its cameras, or take it out of the data set",
        )
    return frames


def _check_outcome(
    frames: Sequence[Frame], tried: Sequence[Frame], before: Mapping[str, Held], after: Mapping[str, Held]
) -> None:
    """A run that has nothing to show is no success, whatever may be skipped.

    Frames that were quarantined before and still cannot be computed are no news, as long as the store has others.

    Raises:
        DatasetError: nothing that was tried for the first time could be computed, or nothing at all is in the store.
    """
    failed = [frame for frame in tried if after[frame.token].lacks(frame)]
    news = any(frame.token not in before or before[frame.token].skipped is None for frame in failed)
    empty = all(after[frame.token].row is None for frame in frames)
    if len(failed) < len(tried) or not (news or empty):
        return
    record = after[failed[0].token].skipped
    reason = record.reason.rstrip(".") if record else "no reason is known"
    raise DatasetError(
        f"none of {len(failed)} frames could be computed, all are quarantined. The first one: {reason}",
        remedy="Mend what it names and run the same command again: it tries quarantined frames again",
    )


def prepare(options: Resolved, frames: list[Frame]) -> tuple[Job, Provenance]:
    """Prepare what the workers need, and what the store says about itself. Loads CLIP, to hash its weights.

    A new store's codec may be fitted to training frames: CLIP is run on them.
    """
    device, dataset = options.device, datasets.at(options.dataset, options.dataroot)
    encoder = encoder_of(options.encoder, options.weights, device, options.upscale)
    occlusion = dataset.occlusion if options.occlusion else None
    job = Job(
        out=storage_of(options.out),
        dataset=options.dataset,
        encoder=options.encoder,
        weights=options.weights,
        weights_sha256=encoder.weights.sha256,
        device=device,
        upscale=options.upscale,
        grid=options.grid,
        occlusion=occlusion,
        codec=options.codec or "dense",
        state={},
        skip_bad_frames=options.on_error == "skip",
        dataroot=options.dataroot,
        thumbnails=options.thumbnails,
        sweeps=options.sweeps,
        gpus=options.gpus if device == "cuda" else 0,
    )
    # val has no say in how the features that are trained on are rounded; it may be all there is
    first = [frame for frame in frames if frame.subset == options.subsets[0]] or frames
    chosen = choose_codec(job, options.codec, options.like, first)
    job = replace(job, codec=chosen.name, state=chosen.state, fidelity=chosen.fidelity)
    provenance = provenance_of(
        options,
        dataset,
        encoder,
        precision=getattr(encoder, "precision", "float32"),
        occlusion=occlusion.model_dump() if occlusion else None,
        cameras=options.cameras or None,
        codec=job.codec,
        codec_state_sha256=state_sha256(job.state),
    )
    return job, provenance


def provenance_of(options: Resolved, dataset: Dataset, encoder: Encoder, **features: Any) -> Provenance:
    """State what a store is made of; `features` are the fields that say how its features come about."""
    return Provenance(
        dataset=options.dataset,
        dataset_version=options.version,
        taxonomy=dataset.taxonomy.name,
        taxonomy_sha256=dataset.taxonomy.sha256,
        encoder=encoder.name,
        weights_sha256=encoder.weights.sha256,
        weights_random=encoder.weights.random,
        clip_dim=encoder.dim,
        upscale=options.upscale,
        grid=options.grid,
        code_version=ovps.__version__,
        sweeps=options.sweeps,
        **features,
    )


def _open_store(job: Job, provenance: Provenance) -> None:
    """Make the store with the vocabulary of the data set's own classes, or check that it may be added to."""
    if is_store(job.out):
        check_provenance(job.out, provenance)
        return
    encoder = encoder_of(job.encoder, job.weights, job.device, job.upscale)
    taxonomy = datasets.at(job.dataset, job.dataroot).taxonomy
    create_store(job.out, provenance, taxonomy, build_vocabulary(encoder, entries_of(taxonomy)), job.state)


def _kept(storage: Storage, before: Mapping[str, Held], tried: Sequence[Frame]) -> str:
    now, tokens = held_in(storage), [frame.token for frame in tried]
    new = sum(token in now and now[token].row is not None and before.get(token) != now[token] for token in tokens)
    return f"{new} of {len(tokens)} frames are committed in {storage.at()} and stay"


def _run(job: Job, tasks: list[Task], options: Resolved, shown: Display) -> Iterator[Done]:
    if not tasks:
        return iter(())
    if options.scheduler is None and not options.workers:
        return run_here(job, tasks, shown.frame_done)
    return run_on_dask(job, tasks, shown.frame_done, options.workers or 1, options.scheduler)
