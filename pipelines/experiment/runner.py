"""The whole way: plan, data set and caches, trainings and evaluations, results, report. Only what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovps import datasets, systems
from ovps.cache.reader import Store
from ovps.errors import ConfigError, OvpsError
from ovps.files import check_writable
from ovps.inference.session import labelled_frames_of
from ovps.machine import check_processes
from ovps.places import check_free
from ovps.progress import console, say, show_warnings
from ovps.taxonomy import load_split
from ovps.training.run_files import LAST
from ovps.training.system_files import load_system
from pipelines.evaluate import file_sha256
from pipelines.experiment.cell import Job
from pipelines.experiment.collect import (
    JSON,
    PARQUET,
    RunRecord,
    check_kept,
    collect,
    earlier,
    left_out,
    save,
    warnings_of,
)
from pipelines.experiment.comparison_page import write_report
from pipelines.experiment.projection import confirm, estimate
from pipelines.experiment.provenance import command_line
from pipelines.experiment.queue import of_one_run, run_all
from pipelines.experiment.schema import Experiment, load_experiment, selected
from pipelines.experiment.stages import Stages, announce
from pipelines.experiment.stores import prepare
from pipelines.experiment.trainings import Training, located, of_other_content, plan
from pipelines.train import resolve

ASK_ABOVE_HOURS = 4.0


@dataclass(frozen=True)
class ExperimentSummary:
    """Summary of an experiment.

    Attributes:
        report, results, table: files written.
        done, missing: cells (system, split, seed) that are scored, and that are not.
        warnings: what the evaluations warn of, a sentence each.
    """

    report: Path
    results: Path
    table: Path
    done: int
    missing: list[str]
    warnings: list[str]


def run_experiment(
    experiment: Experiment, *, whole: Experiment | None = None, jobs: int = 1, yes: bool = False
) -> ExperimentSummary:
    """Do what is missing of an experiment, then write results and report.

    Args:
        experiment: what is to be done, perhaps a part of `whole`.
        whole: the experiment it is a part of: cells of it that are done already are shown too, as are those of the
            parts whose results are in `out`.
        jobs: trainings at a time, each in a process with one thread. 1, or nothing but one training: in this process,
            with the config's threads.
        yes: start without asking, however long it takes.

    Raises:
        OvpsError: whatever stops a stage. Running it again goes on there.
    """
    check_processes("--jobs", jobs)
    check_free(experiment.report, file=".html")
    check_writable(experiment.report, file=True)
    for place in (experiment.runs, experiment.out):
        check_free(place)
    check_writable(experiment.out)
    check_kept(experiment.out)
    _check_splits(experiment)
    stages = Stages(experiment.out / "seconds.json")
    trainings = plan(experiment)
    if not all(training.run.is_dir() for training in trainings):
        check_writable(experiment.runs)
    jobs = min(jobs, len(trainings))
    print_plan(experiment, trainings)
    caches = list(dict.fromkeys(load_system(name).cache for name in experiment.systems))
    prepare(experiment, caches, stages)
    _check_stores(trainings)
    trainings = _of_now(trainings)
    show_warnings(of_other_content(trainings))

    todo = [Job(training, 1 if jobs > 1 else None) for training in trainings]
    expected = estimate(todo, experiment.runs, jobs)
    console.print(str(expected), highlight=False, soft_wrap=True)
    confirm(expected, ASK_ABOVE_HOURS, yes, sys.stdin.isatty)
    try:
        run_all(todo, jobs, experiment.out / "logs", stages)
    except (OvpsError, KeyboardInterrupt) as error:  # what is done is not lost on anyone
        _results(experiment, whole, stages, report=of_one_run(error))
        raise
    return _results(experiment, whole, stages)


def run(
    experiment: str,
    *,
    systems: tuple[str, ...] | None = None,
    splits: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
    jobs: int = 1,
    yes: bool = False,
) -> ExperimentSummary:
    """Run a shipped experiment or a YAML file, with its own systems, splits and seeds or with others.

    Raises:
        ConfigError: a name that does not exist.
        OvpsError: whatever stops a stage.
    """
    whole = load_experiment(experiment)
    return run_experiment(selected(whole, systems, splits, seeds), whole=whole, jobs=jobs, yes=yes)


def _results(
    experiment: Experiment, whole: Experiment | None, stages: Stages, *, report: bool = True
) -> ExperimentSummary:
    everything = _together(experiment, whole)
    cells, missing = collect(located(plan(everything)))
    warnings: list[str] = []
    before = earlier(experiment.out)
    if before is not None:
        was = before.experiment
        still = {"systems": _known(was.systems, load_system), "splits": _known(was.splits, load_split)}
        everything = _together(everything, was.model_copy(update=still))
        cells, _ = collect(located(plan(everything)))
        warnings = _other_results(left_out(before, cells), was, everything)
    if cells:
        save(everything, cells, missing, command_line(), stages.seconds)
    if cells and report:
        announce(f"report: {experiment.report}")
        write_report(everything, cells, missing, stages)
    show_warnings(warnings)
    return ExperimentSummary(
        report=experiment.report,
        results=experiment.out / JSON,
        table=experiment.out / PARQUET,
        done=len(cells),
        missing=missing,
        warnings=warnings_of(cells),
    )


def _other_results(runs: Sequence[RunRecord], was: Experiment, now: Experiment) -> list[str]:
    """Rows of other settings or data would make a mean of unlike things: they go, and their runs stay."""
    which = "" if was.name == now.name else f"the experiment {was.name}, with "
    told: dict[str, list[str]] = {}
    for run in runs:
        if not Path(run.run).is_dir():
            of = "runs that are not here any more"
        elif file_sha256(Path(run.run) / LAST) != run.checkpoint_sha256:
            of = "weights that their runs do not have any more"
        else:
            of = f"{which}other settings or data, whose runs stay"
        told.setdefault(of, []).append(f"{run.system}, {run.split}, seed {run.seed} in {run.run}")
    return [
        f"left out of {now.out / JSON}, which had them: results of {of} ({'; '.join(names)})"
        for of, names in told.items()
    ]


def _check_splits(experiment: Experiment) -> None:
    """Splits are of the data set's classes; those of a store that is there already are checked by what is trained.

    Raises:
        ConfigError: one is not, or leaves no class to learn from to a system that learns from labels.
    """
    asked = map(load_system, experiment.systems)
    taught = any(s.train_split is None and systems.get(s.settings["system"]).needs_labels for s in asked)
    data = experiment.data
    if data is not None and data.dataroot is not None:
        taxonomy = datasets.at(data.dataset, data.dataroot).taxonomy
        for name in experiment.splits:
            try:
                split = load_split(name).of(taxonomy)
                if taught and not split.base_ids(taxonomy):
                    raise ConfigError(
                        f"split {split.name} leaves no base class to train on",
                        remedy="Name a split with fewer novel classes, or systems that learn from no label",
                    )
            except ConfigError as error:
                raise ConfigError(error.message, path=error.path or name, remedy=error.remedy) from error


def _check_stores(trainings: Iterable[Training]) -> None:
    """Tell of the stores, before anything is trained, what would be told of each training, perhaps in its log alone.

    Raises:
        CacheError: no store, or a damaged one.
        ConfigError: it has no frame to score on.
    """
    every = [(training, evaluation) for training in trainings for evaluation in training.evaluations]
    asked = {
        (training.cache, evaluation.subset, resolve(training.options).data.unlabelled_frames): None
        for training, evaluation in every
    }
    warnings: list[str] = []
    for cache, subset, unlabelled in asked:
        store = Store.open(cache)
        labelled_frames_of(store, subset, unlabelled)
        warnings += store.warnings()
    show_warnings(list(dict.fromkeys(warnings)))


def _known(names: Iterable[str], load: Callable[[str], object]) -> tuple[str, ...]:
    """Those that are still there."""
    known = []
    for name in names:
        try:
            load(name)
        except ConfigError as error:
            say(f"results of {name} are left out: {error}")
        else:
            known.append(name)
    return tuple(known)


def _together(part: Experiment, whole: Experiment | None) -> Experiment:
    """The whole, with what the part has beyond it, or instead: scores are told apart by names of files and splits."""
    if whole is None:
        return part
    systems = _replaced(whole.systems, part.systems, lambda file: (Path(file).stem,))
    splits = _replaced(whole.splits, part.splits, lambda file: (Path(file).stem, load_split(file).name))
    seeds = tuple(dict.fromkeys((*whole.seeds, *part.seeds)))
    return part.model_copy(update={"systems": systems, "splits": splits, "seeds": seeds})


def _replaced(files: Sequence[str], by: Sequence[str], names: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """Put files, perhaps the same by another path, in the place of others that share a name with them."""
    known = {name: file for file in by for name in names(file)}
    kept: dict[str, None] = {}
    for file in files:
        now = next((known[name] for name in names(file) if name in known), file)
        kept[now] = None
        if Path(now).resolve() != Path(file).resolve():
            say(f"results of {file} are left out: {now} has its name")
    return (*kept, *(file for file in by if file not in kept))


def _of_now(trainings: list[Training]) -> list[Training]:
    """The trainings in the folders that go with the stores; says which runs do not."""
    current = located(trainings)
    for before, now in zip(trainings, current, strict=True):
        if before.run != now.run and not now.run.exists():
            say(
                f"{before.run.name} learned from other frames or features than {now.cache} holds now: it stays, and is"
                f" trained again as {now.run.name}"
            )
    return current


def print_plan(experiment: Experiment, trainings: list[Training]) -> None:
    """Print the runs of an experiment, and which systems share them."""
    announce(
        f"experiment {experiment.name}: {len(experiment.systems)} systems, {len(experiment.splits)} splits,"
        f" {len(experiment.seeds)} seeds, {len(trainings)} trainings"
    )
    for training in trainings:
        console.print(
            f"  {training.run.name}: {'; '.join(e.label for e in training.evaluations)}",
            highlight=False,
            soft_wrap=True,
        )
