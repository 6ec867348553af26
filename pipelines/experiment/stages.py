"""Stages of an experiment and their times, over all runs that were needed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ovps.errors import ConfigError
from ovps.progress import console
from ovps.training.files import write_whole


class Stages:
    """Seconds by command, kept in a JSON file.

    Args:
        path: of the file.

    Raises:
        ConfigError: the file is there, and is no such file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds = _read(path) if path.is_file() else {}

    @contextmanager
    def stage(self, command: str) -> Iterator[None]:
        """Say what begins; when it ends, however it ends, add its time."""
        announce(command)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add({command: time.perf_counter() - begin})

    def add(self, seconds: dict[str, float]) -> None:
        for command, took in seconds.items():
            self.seconds[command] = self.seconds.get(command, 0.0) + took
        write_whole(self._path, (json.dumps(self.seconds, indent=2) + "\n").encode())

    def took(self) -> dict[str, str]:
        """Time by command, for people."""
        return {command: duration(seconds) for command, seconds in self.seconds.items()}


def _read(path: Path) -> dict[str, float]:
    try:
        return TypeAdapter(dict[str, float]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigError(
            "no times by command: edited, or cut off", path=path, remedy="Delete it: it holds times alone, no result"
        ) from error


def announce(text: str) -> None:
    """Print the heading of a stage on stderr."""
    console.print(f"\n== {text}", style="bold", soft_wrap=True, highlight=False)


def duration(seconds: float) -> str:
    """Format seconds for people: `42 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
