"""Progress with ETA, one style for every command. On stderr, so that `--json` stays clean.

On a terminal it is a bar. In a log it is a line when the work begins, when it ends, and every `TELL_EVERY` seconds
between, so that no log is silent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

console = Console(stderr=True, markup=False)  # names and paths may have brackets in them
LISTED = 8  # of many, those that are named to people


def show_warnings(warnings: Sequence[str]) -> None:
    """Print warnings on stderr, one a line; of many the first, and how many more there are."""
    more = [f"and {len(warnings) - LISTED} more, see --json"] if len(warnings) > LISTED else []
    for text in [*warnings[:LISTED], *more]:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text("warning: ", "yellow") + Text(text, "default"))


TELL_EVERY = 20.0  # seconds between lines in a log
SPEED_OVER = 300.0  # seconds of the past that an ETA is taken from


class Counter:
    """State of one task: how much of it is done, and how fast.

    The speed counts from the beginning, later from `SPEED_OVER` seconds ago, to now. So several things that end in one
    moment, as those of several processes do, say nothing of the next, and it falls where nothing comes.
    """

    def __init__(self, progress: Progress, task: TaskID, unit: str) -> None:
        self._progress, self._task, self._unit = progress, task, unit
        self._past = deque([(progress.get_time(), self._state.completed)])

    @property
    def _state(self) -> Task:
        return next(t for t in self._progress.tasks if t.id == self._task)

    def advance(self, note: str | None = None) -> None:
        """One more is done; `note` is free text after the ETA, None leaves it."""
        if note is not None:
            self._progress.update(self._task, note=note)
        self._progress.advance(self._task)
        self._note_time()

    def show(self, done: int, note: str = "") -> None:
        """Show that so many are done in all."""
        self._progress.update(self._task, completed=done, note=note)
        self._note_time()

    def _note_time(self) -> None:
        now = self._progress.get_time()
        if now - self._past[-1][0] >= SPEED_OVER / 100:  # a hundred of them are enough
            self._past.append((now, self._state.completed))

    @property
    def speed(self) -> float:
        """Things a second; 0 while there are none."""
        now = self._progress.get_time()
        while len(self._past) > 1 and now - self._past[1][0] >= SPEED_OVER:
            self._past.popleft()
        since, done = self._past[0]
        return (self._state.completed - done) / (now - since) if now > since else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to the end; None while nobody can know."""
        speed, remaining = self.speed, self._state.remaining
        return remaining / speed if speed > 0 and remaining is not None else None

    def __str__(self) -> str:
        """For a log: `precompute: 12 of 240 frames, 0:01:10, 0.17 frames/s, eta 0:22:21, 2.1 MB`."""
        task = self._state
        parts = [f"{task.description}: {task.completed:.0f} of {task.total or 0:.0f} {self._unit}"]
        parts += [_clock(task.elapsed)] if task.elapsed and task.elapsed >= 1 else []
        eta = self.eta
        if eta is not None and not task.finished:
            parts += [f"{self.speed:.3g} {self._unit}/s", f"eta {_clock(eta)}"]
        return ", ".join(parts + ([task.fields["note"]] if task.fields["note"] else []))


class _EtaColumn(ProgressColumn):
    """The ETA of the counter that a task has: `0:22:21`."""

    max_refresh = 0.5  # seconds, so that it can be read

    def render(self, task: Task) -> Text:
        counter = task.fields.get("counter")
        eta = 0.0 if task.finished else counter.eta if counter else None
        return Text("-:--:--" if eta is None else _clock(eta), style="progress.remaining")


@contextmanager
def progress(name: str, unit: str, total: int, *, done: int = 0, note: str = "") -> Iterator[Counter]:
    """Show how far `total` things, called `unit`, are done.

    In a narrow terminal the bar gives way; counts and times stay whole.

    Args:
        name: of the task.
        done: already.
        note: free text after the ETA.

    >>> with progress("precompute", "frames", total=10) as counter:
    ...     counter.advance("12.0 images/s")
    """
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("eta"),
        _EtaColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_interactive,
    )
    with bar:
        task = bar.add_task(name, total=total, completed=done, note=note)
        counter = Counter(bar, task, unit)
        bar.update(task, counter=counter)
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
    console.print(text, soft_wrap=True, highlight=False)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
