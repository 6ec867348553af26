"""Systems as YAML files: what is trained and how it answers. A config is the scale it is trained at."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError, field_validator

from ovps import plain_yaml, shipped
from ovps.errors import ConfigError, faults_of
from ovps.training.config import check_key, check_settings, dotted, stated_settings

ROOT = "ovps"
# What makes a system what it is. The root of all sets each of these, so that no config can change what a system means.
IDENTITY = (
    "system",
    "model.fusion",
    "model.cluster_queries",
    "loss.terms",
    "loss.proposals.at_ground",
    "loss.unlabelled",
    "loss.voxel_form",
    "merge.masks",
    "classifier.classes",
)


OF_A_RUN = {  # settings that a system or an experiment would set in vain, and where they belong
    "split": "Leave it out: `ovps train`, or an experiment's `splits`, names it; `train_split` is of one for all",
    "seed": "Leave it out: `ovps train`, or an experiment's `seeds`, names it",
}


@dataclass(frozen=True)
class System:
    """A system, with all that it takes from what it is based on.

    Attributes:
        name: of its file.
        description: a few words for tables.
        settings: values by dotted name, on top of the config; all of IDENTITY is among them.
        changes: how many of the settings are not the root's.
        train_split: what it is trained with, whatever split is asked for: `all` for an upper bound.
        cache: of an experiment's caches, the one it needs instead of the first.
        vocabulary: `single`: at test time only the first synonym of every class.
    """

    name: str
    description: str
    settings: dict[str, Any]
    changes: int
    train_split: str | None
    cache: str | None
    vocabulary: Literal["own", "single"]

    @property
    def overrides(self) -> tuple[str, ...]:
        """The settings as `--set` takes them."""
        return overrides_of(self.settings)


class _File(BaseModel, frozen=True, extra="forbid"):
    """One file of `ovps/configs/systems`: a change of the system `base`."""

    description: str = ""
    base: str = ROOT
    settings: dict[str, Any] = {}
    train_split: str | None = None
    cache: str | None = None
    vocabulary: Literal["own", "single"] | None = None

    @field_validator("settings")
    @classmethod
    def _are_named_one_by_one(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return dotted(settings)


def overrides_of(settings: dict[str, Any]) -> tuple[str, ...]:
    """Values by dotted name as `key=value`."""
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())


def load_system(name_or_file: str) -> System:
    """Load a shipped system by name, or a YAML file of the user's own.

    Raises:
        ConfigError: no such system or base, not YAML, a setting that no config has, a value that does not fit, bases in
            a circle, or a file that is called as a shipped system and is another.
    """
    system = _load(name_or_file, ())
    if system.name != name_or_file and system.name in shipped.names("systems"):
        theirs = _load(system.name, ())
        if replace(system, description="", changes=0) != replace(theirs, description="", changes=0):
            raise ConfigError(
                f"a system called {system.name}, as one that ovps ships, with other settings",
                path=name_or_file,
                remedy="Give the file a name of its own: scores are told apart by it",
            )
    return system


def check_config(name_or_file: str, system: System) -> None:
    """Raise a ConfigError if a config sets what makes a system, and to something else than this system does."""
    stated = stated_settings(name_or_file)
    differing = [key for key in IDENTITY if key in stated and stated[key] != system.settings[key]]
    if differing:
        raise ConfigError(
            "; ".join(
                f"{k} is {stated[k]!r} in the config and {system.settings[k]!r} in {system.name}" for k in differing
            ),
            path=name_or_file,
            remedy="Leave them out of the config, which holds scale and schedule; the system names what is trained",
        )


def _load(name_or_file: str, above: tuple[str, ...]) -> System:
    own, source = _read(name_or_file)
    if source in above:
        raise ConfigError(
            f"systems based on each other in a circle: {' -> '.join((*above, source))}",
            path=source,
            remedy=f"Name another base; without one it is {ROOT}",
        )
    for key in own.settings:
        check_key(key, path=source)
        if key in OF_A_RUN:
            raise ConfigError(
                f"a system does not set {key}, which is chosen for each run",
                path=source,
                remedy=OF_A_RUN[key],
            )
    name, description = Path(name_or_file).stem, own.description
    if name_or_file == ROOT:
        return System(name, description, own.settings, 0, own.train_split, own.cache, own.vocabulary or "own")
    base = _load(_beside(own.base, source), (*above, source))
    settings = base.settings | own.settings
    check_settings(settings, source)
    return System(
        name=name,
        description=description,
        settings=settings,
        changes=base.changes
        + sum(base.settings.get(k, v) != v or k not in base.settings for k, v in own.settings.items()),
        train_split=own.train_split or base.train_split,
        cache=own.cache or base.cache,
        vocabulary=own.vocabulary or base.vocabulary,
    )


def _beside(base: str, source: str) -> str:
    """A base that is a file is named as seen from the file that names it."""
    if base in (known := shipped.names("systems")):
        return base
    file = Path(source).parent / base
    if not file.exists():
        raise ConfigError(
            f"its base {base!r} is no system",
            path=source,
            remedy=f"Name a YAML file, as seen from this one, or one of: {', '.join(known)}",
        )
    return str(file)


def _read(name_or_file: str) -> tuple[_File, str]:
    """What one file says, and where it lies."""
    source = shipped.find("systems", name_or_file, f"no system {name_or_file!r}")
    try:
        return _File.model_validate(plain_yaml.loads(source.read_text(encoding="utf-8")) or {}), str(source)
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"not a valid system: {faults_of(error)}",
            path=str(source),
            remedy="Write base, settings, description, train_split, cache or vocabulary; see docs/systems.md",
        ) from error
