"""Thresholds of a run by the PQ of base classes: the network runs once, every setting is scored on its answer.

ovps tune --run runs/driveworld-ovps --cache zarr/driveworld

Every kind of system is tried with the same number of settings, and novel classes are no part of the choice: their
points are taken as unlabelled, so that nothing is known of what lies there.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ovps.batch.settings import UnlabelledFrames
from ovps.cache.object_numbers import without_numbers
from ovps.cache.where import Where
from ovps.errors import ConfigError
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import nothing_to_find, panoptic_result
from ovps.inference.prediction import class_ids
from ovps.inference.session import check_classes, labelled_frames_of, left_out, open_session, seen_in_training
from ovps.model.panoptic import MergeConfig
from ovps.progress import progress
from ovps.systems import asked
from ovps.taxonomy import Split


@dataclass(frozen=True)
class Trial:
    """One setting, and the PQ of base classes it gives."""

    setting: dict[str, float]
    base_pq: float


@dataclass(frozen=True)
class TuneSummary:
    """Summary of `ovps tune`: what was tried, best first.

    Attributes:
        set: the best as `--set` takes it; None where no setting found a segment of a base class.
        warnings: what makes the answers of the run worse than they could be.
    """

    run: Path
    subset: str
    frames: int
    base_classes: list[str]
    trials: list[Trial]
    set: str | None
    warnings: list[str]


def tune(
    run: Path,
    cache: Where,
    *,
    split: str | None = None,
    subset: str = "val",
    unlabelled_frames: UnlabelledFrames | None = None,
    device: str | None = None,
    backend: str | None = None,
) -> TuneSummary:
    """Try every setting on one subset.

    Args:
        run: folder of a training run.
        cache: a store of the same CLIP, labelled. Frames to tune on are no frames to report on.
        split: which classes are base, instead of the run's split; for a run trained on all classes.
        subset: the data set's own split.
        unlabelled_frames: `skip` scores the others; None: as the run was trained (`data.unlabelled_frames`).
        device: None: a GPU if there is one.
        backend: engine of the sparse convolutions; None: that of the training, where it is installed.

    Raises:
        CheckpointError, CacheError, ConfigError: see `pipelines.evaluate.evaluate`.
        ConfigError: the split leaves no base class.
    """
    session = open_session(run, cache, split=split, device=device, backend=backend)
    taxonomy, network, system = session.taxonomy, session.run.network, session.run.system
    base = [c for c in taxonomy.classes if c.id not in session.novel]
    if not base:
        raise ConfigError(
            f"split {session.split.name} has no base class to choose thresholds by", remedy="Name another with --split"
        )
    known = taxonomy.without(c.name for c in taxonomy.classes if c.id in session.novel)
    settings = list(_settings(system.tuning))
    counts = [PanopticCounts.empty() for _ in settings]
    class_of = class_ids(session.vocabulary, taxonomy)
    check_classes(session.store, session.run.taxonomy)
    frames = labelled_frames_of(session.store, subset, unlabelled_frames or session.run.config.data.unlabelled_frames)
    with progress("tune", "frames", len(frames), note=f"{len(settings)} settings") as counter:
        for ref in frames:
            frame = session.store.read(ref)
            assert frame.label is not None
            batch = session.run.batch(frame).to(session.device)
            with torch.inference_mode():
                answer = asked.answer(system, network, batch, session.classes, session.merge, session.classifier)
            semantic, instance = known.true_segments(frame.label)
            points = batch.point_voxel.cpu().numpy()
            for setting, count in zip(settings, counts, strict=True):
                merged = asked.segmented(system, answer, _with(session.merge, setting), batch, session.classes)
                entry, number = (x.cpu().numpy()[points] for x in (merged.voxel_class, merged.voxel_instance))
                count.add(semantic, instance, class_of[entry], number, min_points=taxonomy.min_points)
            counter.advance()
    scores = [panoptic_result(c, known, ()) for c in counts]  # base classes alone
    trials = [Trial(setting, one.groups["base"].pq) for setting, one in zip(settings, scores, strict=True)]
    trials.sort(key=lambda trial: -trial.base_pq)
    best = " ".join(f"--set merge.{name}={value}" for name, value in trials[0].setting.items())
    return TuneSummary(
        run=run,
        subset=subset,
        frames=len(frames),
        base_classes=[c.name for c in base],
        trials=trials,
        set=best if trials[0].base_pq > 0 else None,
        warnings=[
            *session.warnings(),
            *nothing_to_find(scores[0]),
            *left_out(session.store, subset, frames),
            *without_numbers(session.store, frames),
            *seen_in_training(session.run.info, frames),
            *_of_hidden(session.run.split, [c.name for c in base]),
        ],
    )


def _of_hidden(trained: Split, base: Sequence[str]) -> list[str]:
    """Warn of classes whose labels choose here and had to be hidden, as novel ones are."""
    hidden = [name for name in base if name in trained.hidden]
    if not hidden:
        return []
    return [
        f"labels of {', '.join(hidden)} take part in the choice, and split {trained.name}, by which the run was"
        " trained, hides them: scores of that split with these thresholds are not those of novel classes"
    ]


def _settings(values: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def _with(merge: MergeConfig, setting: dict[str, float]) -> MergeConfig:
    return MergeConfig.model_validate(merge.model_dump() | setting)
