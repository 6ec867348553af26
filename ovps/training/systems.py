"""Systems to compare: changes to whatever config they are trained with, so that one file serves every scale."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ovps.errors import ConfigError
from ovps.training.config import check_key


class System(BaseModel):
    """One file of `pipelines/configs/systems`.

    Attributes:
        name: of the file.
        description: a few words for tables.
        settings: values by dotted name, on top of the config.
        train_split: what it is trained with, whatever split is asked for: `all` for an upper bound.
        cache: of an experiment's caches, the one it needs instead of the first.
        vocabulary: `single`: at test time only the first synonym of every class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str = ""
    settings: dict[str, Any] = {}
    train_split: str | None = None
    cache: str | None = None
    vocabulary: Literal["own", "single"] = "own"

    @property
    def overrides(self) -> tuple[str, ...]:
        """The settings as `--set` takes them."""
        return overrides_of(self.settings)


def overrides_of(settings: dict[str, Any]) -> tuple[str, ...]:
    """Values by dotted name as `key=value`."""
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())


def systems() -> tuple[str, ...]:
    """Names of the systems shipped in `pipelines/configs/systems`."""
    folder = resources.files("pipelines") / "configs" / "systems"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_system(name_or_file: str) -> System:
    """A shipped system by name, or a YAML file of the user's own.

    Raises:
        ConfigError: no such system, not YAML, or a setting that no config has.
    """
    shipped = resources.files("pipelines") / "configs" / "systems" / f"{name_or_file}.yaml"
    source = shipped if name_or_file in systems() else Path(name_or_file)
    if not source.is_file():
        raise ConfigError(
            f"no system {name_or_file!r}",
            remedy=f"Give the path of a YAML file, or one of: {', '.join(systems())}",
        )
    try:
        values = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
        system = System.model_validate({**values, "name": Path(name_or_file).stem})
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise ConfigError(
            f"not a valid system: {error}",
            path=str(source),
            remedy="Write settings (dotted keys), description, train_split, cache or vocabulary; see docs/systems.md",
        ) from error
    for key in system.settings:
        check_key(key, path=str(source))
    return system
