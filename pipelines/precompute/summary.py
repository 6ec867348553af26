"""Outcome of a run, and its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from cache_schemas import Provenance, SkippedRow
from ovps.cache.codecs.choice import Fidelity
from ovps.cache.info import feature_warnings
from ovps.cache.storage import Storage
from ovps.cache.sweeps import SweepStatistics, sweep_statistics, sweep_warnings
from ovps.errors import DatasetError, command, counted
from ovps.frame import Frame
from pipelines.precompute.held import Held, twins
from pipelines.precompute.options import Resolved
from pipelines.precompute.task import Done, Job


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run: the store before and after, by token, and what was tried in between."""

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


class PrecomputeSummary(BaseModel, frozen=True):
    """Summary of `ovps precompute`.

    Attributes:
        partitions: written in this run, new or with frames added.
        frames: computed and committed in this run.
        frames_before: of those asked for, already in the store, where nothing was missing.
        relabelled: of `frames`, in the store before, but without the labels that the data set has now.
        recalibrated: of `frames`, in the store before, but computed with other cameras or images, another calibration
            of them, or other rules for reading the points; with earlier sweeps, also with other poses.
        mended: of `frames`, quarantined before.
        moved: of those asked for, in another subset, at another place in the scene, or with another time or pose than
            before; not computed again.
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


def check_outcome(outcome: Outcome) -> None:
    """A run that has nothing to show is no success, whatever may be skipped.

    Frames that were quarantined before and still cannot be computed are no news, as long as the store has others.

    Raises:
        DatasetError: nothing that was tried for the first time could be computed, or nothing at all is in the store.
    """
    tried, before, after = outcome.tried, outcome.before, outcome.after
    failed = [frame for frame in tried if after[frame.token].lacks(frame)]
    news = any(frame.token not in before or before[frame.token].skipped is None for frame in failed)
    empty = all(after[frame.token].row is None for frame in outcome.frames)
    if len(failed) < len(tried) or not (news or empty):
        return
    record = after[failed[0].token].skipped
    reason = record.reason.rstrip(".") if record else "no reason is known"
    there = sum(after[frame.token].row is not None for frame in outcome.frames)
    others = f". {counted(there, 'other frame')} of those asked for can be used as they are" if there else ""
    raise DatasetError(
        f"none of {len(failed)} frames could be computed, all are quarantined. The first one: {reason}",
        remedy=f"Mend what it names and run the same command again: it tries quarantined frames again{others}",
    )


def summary_of(options: Resolved, outcome: Outcome) -> PrecomputeSummary:
    """Sum up an outcome."""
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
        f"the manifest of partition {partition} was lost, and its first frame is not asked for, or in another partition"
        f" by now: what it holds is kept ({command('ovps', 'cache', 'verify', storage.at())} says what helps)"
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
