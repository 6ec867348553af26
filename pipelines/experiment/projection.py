"""Estimate of an experiment's duration, from runs that are there, else from a few steps of each kind of training."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from ovps.errors import CheckpointError, ConfigError
from ovps.evaluation.results import mean_or_none
from ovps.training.config import TrainConfig
from ovps.training.metrics import read_metrics, step_seconds
from ovps.training.run_files import INFO, load_settings
from pipelines.evaluate import METRICS, load_result
from pipelines.experiment.cell import Job, found, steps_of, total_steps
from pipelines.experiment.stages import duration
from pipelines.experiment.trainings import Training, training_key
from pipelines.train import resolve, train

STEPS = 6  # timed; the first WARM_UP do not count
WARM_UP = 2


@dataclass(frozen=True)
class Estimate:
    """Seconds still to go, and what they are taken from."""

    trainings: int
    evaluations: int
    seconds: float
    source: str

    def __str__(self) -> str:
        work = f"{self.trainings} trainings and {self.evaluations} evaluations to do"
        source = f" ({self.source})" if self.source else ""
        return (
            f"{work}, about {duration(self.seconds)}{source}" if self.trainings or self.evaluations else "all is done"
        )


def estimate(jobs: Sequence[Job], runs: Path, processes: int) -> Estimate:
    """Projected time of what is not done yet, `processes` at a time.

    Args:
        jobs: with the threads they will have.
        runs: folder of runs; those of the same settings but for seed and split, as many threads, tell their speed,
            unless they are damaged.

    Raises:
        CheckpointError: the run of a job is damaged.
    """
    known = _speeds(runs)
    scoring = _evaluation_seconds(runs)
    seconds: list[float] = []
    trainings, evaluations, measured, read = 0, 0, 0, 0
    for job in jobs:
        steps = _steps_to_go(job.training)
        read_metrics(job.training.run)  # its curves are needed in the end
        missing = sum(found(job.training, e) is None for e in job.training.evaluations)
        evaluations += missing
        seconds.append(missing * (scoring or 0.0))
        if not steps:
            continue
        trainings += 1
        kind = _kind(resolve(job.as_trained.options))
        if kind in known:
            read += 1
        else:
            known[kind] = measure(job)
            measured += 1
        seconds[-1] += steps * known[kind]
    sources = [f"speed of runs in {runs}"] if read and not measured else []
    sources += [f"{STEPS - WARM_UP} timed steps of each of {measured} kinds of training"] if measured else []
    sources += ["each alone on the machine"] if measured and processes > 1 else []
    sources += ["evaluations not counted"] if evaluations and scoring is None else []
    return Estimate(trainings, evaluations, makespan(seconds, processes), ", ".join(sources))


def makespan(seconds: Iterable[float], processes: int) -> float:
    """Compute when the last of some jobs ends, each taken in order by the process that is free first."""
    ends = [0.0] * processes
    for took in seconds:
        heapq.heapreplace(ends, ends[0] + took)
    return max(ends)


def confirm(expected: Estimate, limit_hours: float, yes: bool, terminal: Callable[[], bool]) -> None:
    """Raise ConfigError if a person on a terminal should say --yes first."""
    if expected.seconds > 3600 * limit_hours and not yes and terminal():
        raise ConfigError(
            f"this takes about {duration(expected.seconds)}",
            remedy="Say --yes, or do less with --systems, --splits or --seeds; stopped, it goes on where it was",
        )


def measure(job: Job) -> float:
    """Seconds per step, of a few steps of a training in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="ovps-timing-") as folder:
        extra = ("log_interval=1", "gradient_interval=0", "data.workers=0")
        planned = job.as_trained.options
        changes = {"out": Path(folder), "overrides": (*planned.overrides, *extra), "stop_after": STEPS}
        try:
            train(planned.model_copy(update=changes))
        except KeyboardInterrupt:  # says that a run is kept, and this one is not
            raise KeyboardInterrupt from None
        seconds = [line["seconds/step"] for line in read_metrics(Path(folder))]
    return median(seconds[WARM_UP:] or seconds)


def _kind(config: TrainConfig) -> str:
    """The same for trainings that are equally fast, whatever the cache, the seed and the split."""
    return f"{training_key(config, '', without=('seed', 'split'))}/{config.threads}"


def _steps_to_go(training: Training) -> int:
    return total_steps(training) - steps_of(training.run)


def _runs(runs: Path) -> list[Path]:
    return sorted(info.parent for info in runs.glob(f"*/{INFO}"))


def _speeds(runs: Path) -> dict[str, float]:
    """Seconds per step by kind, of the runs in a folder, without the first, as `measure` has it."""
    result: dict[str, list[float]] = {}
    for run in _runs(runs):
        with suppress(CheckpointError):  # damaged, or of another version, and perhaps of no experiment of ours
            seconds = step_seconds(read_metrics(run))
            if seconds is not None:
                result.setdefault(_kind(load_settings(run)[0]), []).append(seconds)
    return {kind: fmean(values) for kind, values in result.items()}


def _evaluation_seconds(runs: Path) -> float | None:
    """Of an evaluation, from those that are there."""
    seconds = []
    for folder in [f.parent for run in _runs(runs) for f in run.glob(f"evaluations/*/{METRICS}")]:
        with suppress(ConfigError):  # of another version, or changed: it is scored again
            seconds.append(load_result(folder).seconds)
    return mean_or_none(seconds)
