"""Things found by name: those that ovps brings, and those of other installed packages through entry points."""

from __future__ import annotations

from collections.abc import Mapping
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
        SetupError: the package that brings it cannot be imported, another one brings the same name, or it calls itself
            otherwise.
    """
    found = {built_in[name]} if name in built_in else {p.value for p in _others(group, built_in) if p.name == name}
    if not found:
        kind = group.rpartition(".")[2].removesuffix("s")
        raise ConfigError(
            f"no {kind} named {name!r}",
            remedy=f"There are: {', '.join(names(group, built_in))}. Another package adds one by an entry point in"
            f" {group}",
        )
    if len(found) > 1:
        raise SetupError(
            f"{name} of {group} is in several packages: {', '.join(sorted(found))}", remedy="Uninstall all but one"
        )
    (where,) = found
    try:
        thing = EntryPoint(name, where, group).load()
    except (ImportError, AttributeError) as error:
        raise SetupError(
            f"{name} of {group} cannot be loaded from {where}: {error}", remedy="`ovps doctor` says what is missing"
        ) from error
    check_name(thing, name, group)
    return thing


def check_name(thing: Any, name: str, group: str) -> None:
    """Raise SetupError if a thing calls itself otherwise: stores and runs name it, and it is looked for by that."""
    own = getattr(thing, "name", name)
    if own != name:
        raise SetupError(
            f"{name} of {group} calls itself {own!r}",
            remedy="Mend its package: entry point and `name` must be one",
        )


def names(group: str, built_in: Mapping[str, str]) -> tuple[str, ...]:
    """Names of all there are, built-in ones first."""
    return (*built_in, *sorted({point.name for point in _others(group, built_in)}))


def _others(group: str, built_in: Mapping[str, str]) -> list[EntryPoint]:
    return [point for point in entry_points(group=group) if point.name not in built_in]
