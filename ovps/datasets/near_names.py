"""Files under nearly the name that is looked for, in other upper and lower case or with another ending, and told."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ovps.errors import DatasetError, command
from ovps.shortage import faults


def beside(path: Path) -> str | None:
    """The name of a file that lies where another is missing: the same in other case, else with another ending.

    Args:
        path: of the missing file.
    """
    wanted, stem = path.name.casefold(), path.stem.casefold()
    named = [(name.casefold(), name) for name in _names(path.parent) if name != path.name]
    same = [name for folded, name in named if folded == wanted]
    near = [name for folded, name in named if folded == stem or folded.startswith(f"{stem}.")]
    return next(iter((*same, *near)), None)


def said_beside(path: Path, again: str) -> tuple[str, str]:
    """Say what lies where a file is missing, and the remedy; where nothing does, the message has no more and `again`.

    Args:
        path: of the missing file.
        again: where a whole one comes from.
    """
    name = beside(path)
    if name is None:
        return "", again
    if name.casefold() == path.name.casefold():
        return f", but {name} lies there", renamed(path.parent / name, path.name)
    return f", but {name} lies there", f"{again}; or unpack or convert {name} to {path.name}"


def renamed(path: Path, name: str) -> str:
    """The remedy for a file of another case."""
    return f"Rename it: {command('mv', path, path.with_name(name))}"


def refuse_other_case(folder: Path, names: Iterable[str]) -> None:
    """Refuse a file or folder that would be read if its name were in the right upper and lower case.

    Args:
        folder: where it lies.
        names: which are read there, where they are.

    Raises:
        DatasetError: one of them is there in other case only; the message names it.
    """
    there = _names(folder)
    for name in names:
        other = next((found for found in there if found.casefold() == name.casefold()), None)
        if other is not None and name not in there:  # a link into nothing is there
            raise DatasetError(
                f"{other} is not read: it is to be called {name}",
                path=folder / other,
                remedy=renamed(folder / other, name),
            )


def _names(folder: Path) -> tuple[str, ...]:
    """Names in a folder, those of what can be read there, in order; none of what is no folder."""
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except faults(OSError):
        return ()


@lru_cache(maxsize=16)  # of thousands of files that are missing in one folder each asks
def _listed(folder: Path, changed: int) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir()))
