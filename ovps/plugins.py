"""Things found by name: those that ovps brings, and those of other installed packages through entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ovps.errors import ConfigError, SetupError


def find(group: str, name: str, built_in: Mapping[str, str]) -> Any:
    """Load a thing by name.

    Args:
        group: of entry points, e.g. `ovps.systems`.
        name: of one of them, or of a built-in one, which no other package can replace.
        built_in: where the built-in ones are, as `module:attribute`; they need no installed ovps.

    Raises:
        ConfigError: nothing of that name; the remedy lists what there is.
        SetupError: the package that brings it cannot be imported.
    """
    others = _others(group, built_in)
    try:
        if name in built_in:
            module, _, attribute = built_in[name].partition(":")
            return getattr(import_module(module), attribute)
        if name in others:
            return others[name].load()
    except (ImportError, AttributeError) as error:
        where = built_in.get(name) or others[name].value
        raise SetupError(
            f"{name} of {group} cannot be loaded from {where}: {error}", remedy="`ovps doctor` says what is missing"
        ) from error
    kind = group.rpartition(".")[2].removesuffix("s")
    raise ConfigError(
        f"no {kind} named {name!r}",
        remedy=f"There are: {', '.join(names(group, built_in))}. Another package adds one by an entry point in {group}",
    )


def names(group: str, built_in: Mapping[str, str]) -> tuple[str, ...]:
    """Names of all there are, built-in ones first."""
    return (*built_in, *sorted(_others(group, built_in)))


def _others(group: str, built_in: Mapping[str, str]) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group) if point.name not in built_in}
