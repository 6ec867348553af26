"""The whole stage: frames asked for, store, tasks, outcome."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Literal

from cache_schemas import Provenance
from ovps import datasets
from ovps.cache.leftovers import lost_partitions, remove_leftovers
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.cache.where import check_place, storage_of
from ovps.cache.writer import check_provenance, is_store
from ovps.errors import CacheError, FrameError, StorageError
from ovps.frame import Frame
from ovps.interrupt import kept
from ovps.progress import show_warnings
from pipelines.options import PrecomputeOptions
from pipelines.precompute.asked import asked_for
from pipelines.precompute.codec_choice import codec_warnings
from pipelines.precompute.display import Display, display
from pipelines.precompute.executor import run_here, run_on_dask
from pipelines.precompute.held import Held, check_scenes, held_in, move, placed
from pipelines.precompute.oddities import alike_features, moved_away, oddities
from pipelines.precompute.options import Resolved, resolved
from pipelines.precompute.plan import Task, plan
from pipelines.precompute.prepare import open_store, prepare
from pipelines.precompute.reread import read_otherwise
from pipelines.precompute.summary import Outcome, PrecomputeSummary, check_outcome, summary_of
from pipelines.precompute.task import Done, Job, forget_encoder

_Missing = tuple[dict[str, Held], Collection[str], list[Task]]


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


def _complete(options: Resolved) -> PrecomputeSummary:
    outcome = _computed(options)
    check_outcome(outcome)
    return summary_of(options, outcome)


def _computed(options: Resolved) -> Outcome:
    storage = storage_of(options.out)
    check_place(storage)
    frames, blind = asked_for(options)
    odd = (*blind, *oddities(options, frames))
    begun = is_store(storage)
    job, provenance = prepare(options, frames)
    there = _complete_store(options, frames, provenance) if begun else None
    with _locked(storage, needed=there is None) as locked:
        warnings = open_store(job, provenance) if there is None else []
        if locked:
            remove_leftovers(storage)
        if options.scheduler or options.workers:
            forget_encoder()  # the workers have their own
        before, anew, tasks = there or _missing(options, frames)
        warnings += moved_away(options, frames, before)
        moved = move(frames, storage)
        start = perf_counter()
        results: list[Done] = []
        tried = [frame for task in tasks for frame in task.frames]
        warnings += codec_warnings(job, len(tried)) if begun and options.codec is None else ()
        show_warnings(warnings)  # before what may take hours
        with kept(lambda: _kept(storage, before, tried)), display(len(tried)) as shown:
            for done in _run(job, tasks, options, shown):
                shown.partition_done(done)
                results.append(done)
        seconds = perf_counter() - start
        # those of partitions that were made anew, too
        lost = remove_leftovers(storage) if locked else list(lost_partitions(storage, read_info(storage)))
        after = held_in(storage)
        warnings += alike_features(storage, [after[frame.token] for frame in tried]) if results else []
    return Outcome(
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
    if tasks:
        return None
    held = [(before[frame.token], frame) for frame in frames if frame.token in before]
    return found if all(one.row and placed(one.row, frame) == one.row for one, frame in held) else None


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
