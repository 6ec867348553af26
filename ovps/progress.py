"""Progress with ETA, one style for every command. On stderr, so that `--json` stays clean.

On a terminal it is a bar. In a log it is a line when the work begins, when it ends, and every `TELL_EVERY` seconds
between, so that no log is silent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

console = Console(stderr=True)
LISTED = 8  # of many, those that are named to people


def show_warnings(warnings: Sequence[str]) -> None:
    """Print warnings on stderr, one a line; of many the first, and how many more there are."""
    more = [f"and {len(warnings) - LISTED} more, see --json"] if len(warnings) > LISTED else []
    for text in [*warnings[:LISTED], *more]:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text("warning: ", "yellow") + Text(text, "default"))


TELL_EVERY = 20.0  # seconds between lines in a log


class Counter:
    """State of one task: how much of it is done."""

    def __init__(self, progress: Progress, task: TaskID, unit: str) -> None:
        self._progress, self._task, self._unit = progress, task, unit

    def advance(self, note: str | None = None) -> None:
        """One more is done; `note` is free text after the ETA, None leaves it."""
        if note is not None:
            self._progress.update(self._task, note=note)
        self._progress.advance(self._task)

    def show(self, done: int, note: str = "") -> None:
        """Show that so many are done in all."""
        self._progress.update(self._task, completed=done, note=note)

    def __str__(self) -> str:
        """For a log: `precompute: 12 of 240 frames, 0:01:10, 0.17 frames/s, eta 0:22:21, 2.1 MB`."""
        task = next(t for t in self._progress.tasks if t.id == self._task)
        parts = [f"{task.description}: {task.completed:.0f} of {task.total or 0:.0f} {self._unit}"]
        parts += [_clock(task.elapsed)] if task.elapsed and task.elapsed >= 1 else []
        if task.speed and not task.finished:
            parts += [f"{task.speed:.3g} {self._unit}/s"]
            parts += [f"eta {_clock(task.time_remaining)}"] if task.time_remaining is not None else []
        return ", ".join(parts + ([task.fields["note"]] if task.fields["note"] else []))


@contextmanager
def progress(
    name: str, unit: str, total: int, *, done: int = 0, note: str = "", speed_over: float = 30.0
) -> Iterator[Counter]:
    """Show how far `total` things, called `unit`, are done.

    In a narrow terminal the bar gives way; counts and times stay whole.

    Args:
        name: of the task.
        done: already.
        note: free text after the ETA.
        speed_over: seconds of the past that the ETA is taken from.

    >>> with progress("precompute", "frames", total=10) as counter:
    ...     counter.advance("12.0 images/s")
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("eta"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}"),
        console=console,
        speed_estimate_period=speed_over,
        disable=not console.is_interactive,
    )
    with bar:
        counter = Counter(bar, bar.add_task(name, total=total, completed=done, note=note), unit)
        if console.is_interactive:
            yield counter
        else:
            with _told_in_lines(counter):
                yield counter


@contextmanager
def _told_in_lines(counter: Counter) -> Iterator[None]:
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(TELL_EVERY):
            say(str(counter))

    say(str(counter))
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        say(str(counter))


def say(text: str) -> None:
    """A line about what goes on, whole however long it is."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
