"""Packages that only some of ovps needs: the extras of pyproject, and what is said where one is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from ovps.errors import SetupError

SET_UP = "rm -f .venv/.ovps-setup && make setup"  # without the mark it would take what is there for whole


def installed(module: str) -> bool:
    """Tell whether a top-level module can be found, without importing it."""
    return find_spec(module) is not None


@contextmanager
def extra(name: str, remedy: str | None = None) -> Iterator[None]:
    """Around imports of packages of an extra: one that is missing is a `SetupError` that says how to get it.

    Raises:
        SetupError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise SetupError(
            f"{error.name} is not installed; it belongs to the extra [{name}]",
            remedy=remedy or f'Run: {SET_UP}, or pip install "ovps[{name}]"',
        ) from error
