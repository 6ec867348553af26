"""Trainings of an experiment, each once, and the evaluations that share them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from ovps.cache.disk import LocalStorage
from ovps.cache.reader import Store
from ovps.cache.where import storage_of
from ovps.cache.writer import is_store
from ovps.errors import OvpsError, command, listed
from ovps.model.classify import ClassifierConfig
from ovps.model.panoptic import MergeConfig
from ovps.taxonomy import load_split
from ovps.training.cache_content import content_of, load_content
from ovps.training.config import TrainConfig, flat
from ovps.training.run_files import FREE, INFO, load_settings
from ovps.training.system_files import load_system, overrides_of
from pipelines.experiment.schema import Experiment
from pipelines.train import TrainOptions, content_differences, resolve
from pipelines.train import plan as plan_training


class _Record(BaseModel, frozen=True, extra="forbid"):
    """A part of a plan: nobody changes it, and no field is unknown."""


class Evaluation(_Record):
    """One system, scored for one split and seed.

    Attributes:
        merge, classifier: inference settings of the system, which need not be those its run was trained with.
        vocabulary: see `System`.
        subset: to score on.
    """

    system: str
    split: str
    seed: int
    merge: MergeConfig
    classifier: ClassifierConfig
    vocabulary: Literal["own", "single"]
    subset: str

    @property
    def label(self) -> str:
        """Label of the evaluation, for people."""
        return f"{Path(self.system).stem}, {load_split(self.split).name}, seed {self.seed}"


class Training(_Record):
    """One run, and the systems that are scored with its weights.

    Attributes:
        key: SHA-256 of all that changes what is learned, see `training_key`.
        run: its folder.
        cache: trained and scored on this store.
        config, system, split, overrides: as in `TrainOptions`.
        seed: among the overrides too.
        evaluations: that share it.
    """

    key: str
    run: Path
    cache: str
    config: str
    system: str
    split: str
    overrides: tuple[str, ...]
    seed: int
    evaluations: tuple[Evaluation, ...]

    @property
    def options(self) -> TrainOptions:
        return TrainOptions(
            cache=self.cache,
            out=self.run,
            config=self.config,
            system=self.system,
            split=self.split,
            overrides=self.overrides,
        )

    @property
    def command(self) -> str:
        """Command line for the same run."""
        system = () if self.system == "ovps" else ("--system", self.system)
        sets = (word for setting in self.overrides for word in ("--set", setting))
        settings = ("--config", self.config, *system, "--split", self.split, *sets)
        return command("ovps", "train", "--cache", self.cache, *settings, "--out", self.run)

    def folder(self, evaluation: Evaluation) -> Path:
        """Folder of the scores. Its name says what they are of, so that experiments can share it."""
        system, split = Path(evaluation.system).stem, Path(evaluation.split).stem
        return self.run / "evaluations" / f"{system}-{split}-{evaluation.subset}"


def plan(experiment: Experiment) -> list[Training]:
    """The trainings of an experiment in the order of its systems, seeds outermost: early results are whole tables.

    Raises:
        ConfigError: settings that cannot be used.
    """
    found: dict[str, Training] = {}
    for seed, split, name in product(experiment.seeds, experiment.splits, experiment.systems):
        training, evaluation = _cell(experiment, name, split, seed)
        same = found.get(training.key, training)
        plainest = min(same, training, key=lambda t: _changes(t.system))  # of two alike, the first
        evaluations = (*same.evaluations, evaluation)
        found[training.key] = plainest.model_copy(update={"evaluations": evaluations})
    trainings = list(found.values())
    alone = len({training.cache for training in trainings}) == 1  # stores of one experiment are told apart by name
    return [_as_before(training) for training in trainings] if alone else trainings


def _as_before(training: Training) -> Training:
    """The training as the run of it is called, where the experiment was given from another working folder before."""
    storage = storage_of(training.cache)
    if training.run.is_dir() or not isinstance(storage, LocalStorage):
        return training
    config, name = resolve(training.options), training.run.name.removesuffix(f"-{training.key[:8]}")
    for cache in (storage.root, *(storage.root.relative_to(folder) for folder in storage.root.parents)):
        key = training_key(config, str(cache))
        run = run_folder(training.run.parent, name, key[:8])
        if run.is_dir() and _of_same_files(run, training):
            return training.model_copy(update={"key": key, "run": run})
    return training


def _of_same_files(run: Path, training: Training) -> bool:
    """Tell whether a run began with the very files of a training's store: one of another store may be called alike."""
    with suppress(OvpsError):
        before = load_content(run)
        batches, _ = plan_training(Store.open(training.cache), resolve(training.options))
        return before is not None and not before.renewed(content_of(batches.store, batches.frames))
    return False


def located(trainings: Iterable[Training]) -> list[Training]:
    """The trainings, each in a folder whose run, if there is one, learned from what its store holds now.

    A store that has got other frames, or was made anew, does not go with what was trained on it before: that run stays
    where it is, and the training has a folder of its own, named after what the store holds.
    """
    return [_located(training) for training in trainings]


def _located(training: Training) -> Training:
    if not (training.run / INFO).is_file() or not is_store(storage_of(training.cache)):
        return training
    try:
        _, there = load_settings(training.run)
        _, now = plan_training(Store.open(training.cache), resolve(training.options))
    except OvpsError:  # told by whoever trains, or reads the run
        return training
    if not content_differences(there, now):
        return training
    content = f"{now.clip.model_dump_json()} {now.vocabulary_sha256} {now.frames_sha256}"
    suffix = f"{training.key[:8]}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    run = run_folder(training.run.parent, training.run.name.removesuffix(f"-{training.key[:8]}"), suffix)
    return training.model_copy(update={"run": run})


def of_other_content(trainings: Iterable[Training]) -> list[str]:
    """Warn of runs that learned from other labels or features than their stores hold now: they are not trained again.

    Labels count where the system learns from labels. What cannot be read is told by whoever trains.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for training in trainings:
        with suppress(OvpsError):
            if (before := load_content(training.run)) is None:
                continue
            batches, _ = plan_training(Store.open(training.cache), resolve(training.options))
            anew = before.renewed(content_of(batches.store, batches.frames))
            if learned := [part for part in anew if part == "features" or batches.base is not None]:
                found.setdefault((" and ".join(learned), training.cache), []).append(training.run.name)
    return [
        f"{anew} of {cache} lie in other files than when {listed(runs)} began to learn from them; scores are of what it"
        " holds now, and the runs stay: delete the folder of one to have it trained on that"
        for (anew, cache), runs in found.items()
    ]


def _changes(name: str) -> int:
    """How much a system changes: what shares a training is trained as, and named after, the plainest."""
    system = load_system(name)
    return system.changes + (system.vocabulary != "own")


def _cell(experiment: Experiment, name: str, split: str, seed: int) -> tuple[Training, Evaluation]:
    system = load_system(name)
    common = {k: v for k, v in experiment.set.items() if k not in system.settings} | experiment.tuned_of(name)
    cache = experiment.cache_of(system.cache)
    trained_on = system.train_split or split
    options = TrainOptions(
        cache=cache,
        out=Path(),
        config=experiment.train,
        system=name,
        split=trained_on,
        overrides=(*overrides_of(common), f"seed={seed}"),
    )
    config = resolve(options)
    key = training_key(config, store_name(cache))
    training = Training(
        key=key,
        run=run_folder(experiment.runs, f"{system.name}-{Path(trained_on).stem}-s{seed}", key[:8]),
        cache=cache,
        config=options.config,
        system=name,
        split=trained_on,
        overrides=options.overrides,
        seed=seed,
        evaluations=(),
    )
    evaluation = Evaluation(
        system=name,
        split=split,
        seed=seed,
        merge=config.merge,
        classifier=config.classifier,
        vocabulary=system.vocabulary,
        subset=experiment.subset,
    )
    return training, evaluation


def training_key(config: TrainConfig, cache: str, without: Iterable[str] = ()) -> str:
    """SHA-256 of the settings that change what is learned, of the classes that are hidden and of the cache's name.

    Two systems with one key are one training. What the cache holds is compared by `located`.

    Args:
        cache: see `store_name`.
        without: names of settings to leave out too.
    """
    ignored = tuple(without)
    settings = {k: v for k, v in flat(config).items() if not k.startswith(FREE) and k not in ignored}
    if "split" in settings:
        settings["split"] = sorted(load_split(config.split).hidden)  # a split is what it hides, not its name
    text = json.dumps({"settings": settings, "cache": cache}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def store_name(cache: str) -> str:
    """The name of a store below the working folder, `./z` and `file:///.../z` too; any other place as it is written."""
    storage = storage_of(cache)
    if isinstance(storage, LocalStorage) and storage.root.is_relative_to(Path.cwd()):
        return str(storage.root.relative_to(Path.cwd()))
    return str(cache)


def run_folder(runs: Path, name: str, suffix: str) -> Path:
    """Folder that ends in `suffix`: of this `name`, or else the one there is, under whatever name.

    Of several the shortest: a copy is called `backup-NAME-SUFFIX`, or `._NAME-SUFFIX` by macOS.
    """
    own = runs / f"{name}-{suffix}"
    there = [run for run in runs.glob(f"*-{suffix}") if run.is_dir()] if runs.is_dir() else []
    return own if own in there or not there else min(there, key=lambda run: (len(run.name), run.name))
