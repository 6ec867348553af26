"""Things found by name: those that ovps brings, and those of other installed packages through entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ovps.errors import ConfigError, SetupError
from ovps.shortage import faults

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Things of one kind, by name.

    Attributes:
        group: of entry points, e.g. `ovps.systems`.
        built_in: where those of ovps are, as `module:attribute`, which need no installed ovps. Another package's of the
            same name is an error, and replaces none.
    """

    group: str
    built_in: Mapping[str, str]

    def get(self, name: str) -> T:
        """Load a thing by name.

        Raises:
            ConfigError: nothing of that name; the remedy lists what there is.
            SetupError: the package that brings it cannot be imported, another one brings the same name, or it calls
                itself otherwise.
        """
        group, built_in = self.group, self.built_in
        others = {point.value: point for point in self.others() if point.name == name}
        found = {built_in[name]: "ovps"} if name in built_in else {}
        found |= {where: package_of(point) for where, point in others.items()}
        if not found:
            kind = group.rpartition(".")[2].removesuffix("s")
            raise ConfigError(
                f"no {kind} named {name!r}",
                remedy=f"There are: {', '.join(self.names())}. Another package adds one by an entry point in {group}",
            )
        if len(found) > 1:
            several = ", ".join(f"{package} ({where})" for where, package in sorted(found.items()))
            own = "all but ovps, or have them use another name" if name in built_in else "all but one"
            raise SetupError(f"{name} of {group} is in several packages: {several}", remedy=f"Uninstall {own}")
        ((where, package),) = found.items()
        try:
            thing = EntryPoint(name, where, group).load()
        except faults(Exception) as error:  # a module of others may raise anything at import
            raise SetupError(
                f"{name} of {group} cannot be loaded from {where}: {type(error).__name__}: {error}",
                remedy=f"Mend the package {package}, or uninstall it",
            ) from error
        self.check_name(thing, name)
        return thing

    def check_name(self, thing: Any, name: str) -> None:
        """Raise SetupError if a thing calls itself otherwise: stores and runs name it, and it is looked for by that."""
        own = getattr(thing, "name", name)
        if own != name:
            raise SetupError(
                f"{name} of {self.group} calls itself {own!r}",
                remedy="Mend its package: entry point and `name` must be one",
            )

    def names(self) -> tuple[str, ...]:
        """List the names of all there are: the built-in ones, then those of other installed packages."""
        return (*self.built_in, *sorted({point.name for point in self.others()} - self.built_in.keys()))

    def others(self) -> list[EntryPoint]:
        """List what other installed packages bring."""
        return list(entry_points(group=self.group))


def package_of(point: EntryPoint) -> str:
    """Name the installed package that brings an entry point; its top module where that is not known."""
    return point.dist.name if point.dist is not None else point.value.partition(":")[0].partition(".")[0]
