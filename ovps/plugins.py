"""Things found by name: those that ovps brings, and those of other installed packages through entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint
from traceback import walk_tb
from typing import Any, Generic, TypeVar

from ovps.errors import ConfigError, OvpsError, SetupError
from ovps.protocols import line_of, unlike
from ovps.shortage import faults

T = TypeVar("T")
E = TypeVar("E", bound=OvpsError)


def entry_points(**asked: str) -> Any:
    """Find the entry points of installed packages, by `group`: `importlib.metadata.entry_points`."""
    return _entry_points(tuple(sys.path), **asked)


@cache  # all metadata of all packages is read: a fifth of the time of a short run where every name was looked for anew
def _entry_points(path: tuple[str, ...], **asked: str) -> Any:
    """Those of the packages on a path, which is the process's own."""
    return metadata.entry_points(**asked)


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Things of one kind, by name.

    Attributes:
        group: of entry points, e.g. `ovps.systems`.
        protocol: what each of them has.
        optional: methods that only those have of which another attribute says so.
        built_in: where those of ovps are, as `module:attribute`, which need no installed ovps, and those that a script
            adds. Another package's of the same name is an error, and replaces none.
    """

    group: str
    protocol: type
    built_in: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> T:
        """Load a thing by name.

        Raises:
            ConfigError: nothing of that name; the remedy lists what there is.
            SetupError: the package that brings it cannot be imported, another one brings the same name, or it is not
                what the protocol says.
        """
        group, built_in = self.group, self.built_in
        listed = [EntryPoint(name, built_in[name], group)] if name in built_in else []  # of a script's own module, too
        brought = [point for point in self.others() if point.name == name]
        found = {point.value: package_of(point) for point in (*listed, *brought)}
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
        except KeyboardInterrupt:
            raise
        except faults(BaseException) as error:  # a module of others may raise anything at import, and end by sys.exit
            raise SetupError(
                f"{name} of {group} cannot be loaded from {where}: {type(error).__name__}: {error}",
                remedy=f"Mend the package {package}, or uninstall it",
            ) from error
        if package != "ovps":
            self._check(thing, name, package)
        self.check_name(thing, name)
        return thing

    def _check(self, thing: Any, name: str, package: str) -> None:
        fault, where = "is a class, not an object of it", None
        if not isinstance(thing, type):
            fault, where = unlike(thing, self.protocol, self.optional) or ("", None)
        if fault:
            remedy = f"Mend the package {package}: {self.group} is for objects like {self.protocol.__name__}"
            raise SetupError(f"{name} of {self.group} {fault}", path=where, remedy=remedy)

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


def misgiven(kind: str, thing: Any, method: str, fault: str, error: type[E], frame: str | None = None) -> E:
    """Make the error of a method that does not give what it should, naming package and line.

    Args:
        kind: of the thing, in words.
        fault: what it gives, and what was expected.
        error: class of the error.
        frame: token of the frame at fault.
    """
    name = getattr(thing, "name", type(thing).__name__)
    package = _packages().get(type(thing).__module__.partition(".")[0], "ovps")
    also = f", of the package {package}" if package != "ovps" else ""
    return error(
        f"`{method}` of {kind} {name} gives {fault}",
        path=line_of(getattr(thing, method, None)),
        frame=frame,
        remedy=f"Mend the {kind} {name}{also}",
    )


def is_outside(thing: Any) -> bool:
    """Tell whether a thing is of another package than ovps."""
    return type(thing).__module__.partition(".")[0] != "ovps"


def _points() -> Iterator[EntryPoint]:
    groups = [group for group in entry_points().groups if group.startswith("ovps.")]
    return (point for group in groups for point in entry_points(group=group))


def _packages() -> dict[str, str]:
    """The packages that bring something, by their top modules."""
    return {point.module.partition(".")[0]: package_of(point) for point in _points()}


def raised_outside(error: BaseException) -> SetupError | None:
    """Name package and line of what a part of another package has raised, if only to end by `sys.exit`.

    Returns:
        None if none has raised it, of an interrupt, and of an `OvpsError`, which says by itself what to do.
    """
    if isinstance(error, (KeyboardInterrupt, OvpsError)):
        return None
    packages = _packages()
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        package = packages.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if package is not None and package != "ovps":
            return SetupError(
                f"{package} has raised {type(error).__name__}: {error}",
                path=f"{frame.f_code.co_filename}:{line}",
                remedy=f"Mend the package {package}",
            )
    return None


@contextmanager
def told() -> Iterator[None]:
    """Turn what a part of another package raises into an error that names package and line.

    Raises:
        SetupError: it has raised something.
    """
    try:
        yield
    except faults(BaseException) as error:
        outside = raised_outside(error)
        if outside is None:
            raise
        raise outside from error
