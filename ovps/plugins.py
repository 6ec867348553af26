"""Things found by name: those that ovps brings, and those of other installed packages through entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ovps.errors import ConfigError, SetupError

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Things of one kind, by name.

    Attributes:
        group: of entry points, e.g. `ovps.systems`.
        built_in: where those of ovps are, as `module:attribute`, which need no installed ovps; no other package can
            replace one.
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
        found = {built_in[name]} if name in built_in else {p.value for p in self._others() if p.name == name}
        if not found:
            kind = group.rpartition(".")[2].removesuffix("s")
            raise ConfigError(
                f"no {kind} named {name!r}",
                remedy=f"There are: {', '.join(self.names())}. Another package adds one by an entry point in {group}",
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
        return (*self.built_in, *sorted({point.name for point in self._others()}))

    def _others(self) -> list[EntryPoint]:
        return [point for point in entry_points(group=self.group) if point.name not in self.built_in]
