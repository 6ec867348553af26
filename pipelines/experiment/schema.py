"""An experiment as a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, field_validator, model_validator

from ovps import plain_yaml, shipped
from ovps.errors import ConfigError, faults_of, listed
from ovps.options import Once
from ovps.places import at_home
from ovps.taxonomy import load_split
from ovps.training.config import check_key, dotted
from ovps.training.run_files import ANSWERS
from ovps.training.system_files import IDENTITY, OF_A_RUN, load_system
from pipelines.options import ClipOptions, DataOptions, Place, WorldOptions


class _Settings(BaseModel, frozen=True, extra="forbid"):
    """Settings: nobody changes them, and none is unknown."""

    _at_home = field_validator("*")(at_home)


Names = Annotated[tuple[str, ...], Field(min_length=1), Once]


class Experiment(_Settings):
    """Description of an experiment: the systems, what they are compared on, and where everything goes.

    Attributes:
        name: of the file.
        world: to build first.
        data, clip: what `ovps precompute` makes the cache of; without them the cache must exist.
        cache: the store.
        caches: further stores of the same frames, by the name that a system asks for: what differs from `clip`.
            They lie beside the first: CACHE-NAME.
        runs: folder of the trained runs. Experiments on the same cache may share it: a training is never done twice.
        out: folder of results.parquet, results.json and logs.
        report: HTML file.
        train: config that the systems change.
        splits: which classes are novel; everything is done for each.
        seeds: of training.
        systems: to compare, in the order of the table.
        set: settings of all of them by dotted name, under those that make the systems.
        tuned: settings of single systems, over all others: thresholds that `ovps tune` chose for this data.
        subset: the data set's own split to score on.
        show: systems to draw beside the truth; None: the first four.
    """

    name: str = ""
    world: WorldOptions | None = None
    data: DataOptions | None = None
    clip: ClipOptions | None = None
    cache: Place
    caches: dict[str, dict[str, Any]] = {}
    runs: Path
    out: Path
    report: Path
    train: str
    splits: Names
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), Once] = (0,)
    systems: Names
    set: dict[str, Any] = {}
    tuned: dict[str, dict[str, Any]] = {}
    subset: str = "val"
    show: Annotated[tuple[str, ...] | None, Once] = None

    @field_validator("set")
    @classmethod
    def _are_named_one_by_one(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return dotted(settings)

    @field_validator("tuned")
    @classmethod
    def _are_named_one_by_one_too(cls, tuned: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {system: dotted(settings) for system, settings in tuned.items()}

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        if (self.data is None) != (self.clip is None):
            raise ValueError("give both data and clip, or, for a cache that exists, neither")
        if self.world and not (self.data and self.data.dataroot):
            raise ValueError("a world is built at data.dataroot: give data and clip too")
        for name in self.caches:
            self.clip_of(name)
        for names in (self.systems, self.splits):
            same = [name for name in names if [Path(n).stem for n in names].count(Path(name).stem) > 1]
            if same:
                raise ValueError(f"{' and '.join(same)} have one name, by which their scores are known; rename a file")
        tuned = [Path(name).stem for name in self.tuned]
        same = [name for name in self.tuned if tuned.count(Path(name).stem) > 1]
        if same:
            raise ValueError(f"tuned: {' and '.join(same)} are one system, by the name of its file; keep one")
        learned = [k for settings in self.tuned.values() for k in settings if not k.startswith(ANSWERS)]
        for key in OF_A_RUN:
            if key in self.set:
                raise ValueError(f"set: {key} is of each run, and has no say here: name `{key}s`")
        identity = [k for k in self.set if k in IDENTITY]
        if identity:
            raise ValueError(f"set: {', '.join(identity)} makes a system what it is; make a system of its own")
        if learned:
            raise ValueError(f"tuned: {', '.join(learned)} is no setting of inference; make a system of its own")
        return self

    def tuned_of(self, system: str) -> dict[str, Any]:
        """Look up the settings of a system of the experiment, by the name of its file, whatever the path."""
        return next((found for name, found in self.tuned.items() if Path(name).stem == Path(system).stem), {})

    def cache_of(self, name: str | None) -> str:
        """The store that a system's `cache` means.

        Raises:
            ConfigError: the experiment has none of that name.
        """
        if name is None:
            return self.cache
        if name not in self.caches:
            raise ConfigError(
                f"experiment {self.name} has no cache named {name!r}",
                remedy=f"Add `caches: {{{name}: {{...}}}}` with the clip settings that differ, or leave the system out",
            )
        return f"{self.cache.rstrip('/')}-{name}"

    def clip_of(self, name: str | None) -> ClipOptions | None:
        """The clip settings of a cache.

        Raises:
            ValueError: it has others than `clip` has.
        """
        if self.clip is None or name is None:
            return self.clip
        try:
            return ClipOptions.model_validate(self.clip.model_dump() | self.caches[name])
        except ValidationError as error:
            fields = ", ".join(ClipOptions.model_fields)
            raise ValueError(f"caches.{name}: {faults_of(error)}; these may stand there: {fields}") from error


def load_experiment(name_or_file: str) -> Experiment:
    """An experiment shipped in `ovps/configs/experiments` by name, or a YAML file; splits and systems are looked up.

    Raises:
        ConfigError: no such experiment, not a valid one, or a system or split that does not exist.
    """
    source = shipped.find("experiments", name_or_file, f"no experiment {name_or_file!r}")
    others = ", ".join(shipped.names("experiments"))
    try:
        values = plain_yaml.loads(source.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("an experiment is a mapping of settings")
        experiment = Experiment.model_validate({**values, "name": Path(name_or_file).stem})
    except ValidationError as error:
        raise ConfigError(
            f"not a valid experiment: {faults_of(error)}",
            path=str(source),
            remedy=f"Settings are: {', '.join(Experiment.model_fields)}; see those of {others}",
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"not a valid experiment: {error}",
            path=str(source),
            remedy=f"Write YAML like that of {others}",
        ) from error
    check(experiment, str(source))
    systems = {Path(name).stem for name in experiment.systems}
    if unknown := [name for name in experiment.show or () if Path(name).stem not in systems and not _is_system(name)]:
        raise ConfigError(
            f"show: no system {listed(unknown)}",
            path=str(source),
            remedy=f"Name some of its systems: {', '.join(experiment.systems)}",
        )
    return experiment


def _is_system(name: str) -> bool:
    """Whether there is one, which `--systems` may ask for."""
    try:
        load_system(name)
    except ConfigError:
        return False
    return True


def check(experiment: Experiment, source: str | None = None) -> None:
    """Raise ConfigError, with the file `source`, unless every system, split and cache that is named exists."""
    for key in (*experiment.set, *(key for settings in experiment.tuned.values() for key in settings)):
        check_key(key, path=source)
    try:
        for name in (*experiment.systems, *experiment.tuned):
            experiment.cache_of(load_system(name).cache)
        files: dict[str, str] = {}
        for file in experiment.splits:
            name = load_split(file).name
            if (before := files.setdefault(name, file)) != file:
                raise ConfigError(
                    f"splits {before} and {file} are both called {name!r}",
                    remedy="Give each file a `name` of its own: scores are told apart by it",
                )
    except ConfigError as error:
        raise ConfigError(error.message, path=error.path or source, remedy=error.remedy) from error


def selected(
    experiment: Experiment,
    systems: tuple[str, ...] | None = None,
    splits: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
) -> Experiment:
    """The experiment with other systems, splits or seeds; None keeps its own.

    Raises:
        ConfigError: one of them does not exist, or is named twice.
    """
    asked = {"systems": systems, "splits": splits, "seeds": seeds}
    values = experiment.model_dump() | {k: v for k, v in asked.items() if v is not None}
    try:
        changed = Experiment.model_validate(values)
    except ValidationError as error:
        remedy = "Name each once, and at least one; seeds are whole numbers, as in 0,1,2"
        raise ConfigError(faults_of(error), remedy=remedy) from error
    check(changed)
    return changed
