"""YAML files that ship with ovps, in `ovps/configs/KIND`, by name."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from ovps.errors import ConfigError
from ovps.places import at_home


def names(kind: str) -> tuple[str, ...]:
    """List the files of a kind.

    >>> names("splits")[:2]
    ('all', 'b10n6')
    """
    files = (resources.files("ovps") / "configs" / kind).iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def find(kind: str, name_or_file: str, missing: str, path: str | None = None) -> Traversable | Path:
    """Find a file that ships, by its name, or one of the user's own, by its path.

    Args:
        missing, path: what is said, and which file is named, where there is neither.

    Raises:
        ConfigError: there is neither; the remedy lists the names.
    """
    if name_or_file in names(kind):
        return resources.files("ovps") / "configs" / kind / f"{name_or_file}.yaml"
    file = at_home(Path(name_or_file))
    if not file.is_file():
        remedy = f"Give the path of a YAML file, or one of: {', '.join(names(kind))}"
        raise ConfigError(missing, path=path, remedy=remedy)
    return file
