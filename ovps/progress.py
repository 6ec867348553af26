"""Progress bars with ETA, one style for every command. They write to stderr, so that `--json` stays clean."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

console = Console(stderr=True)
LISTED = 8  # of many, those that are named to people


def show_warnings(warnings: Sequence[str]) -> None:
    """On stderr, one a line; of many the first, and how many more there are."""
    more = [f"and {len(warnings) - LISTED} more, see --json"] if len(warnings) > LISTED else []
    for text in [*warnings[:LISTED], *more]:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text("warning: ", "yellow") + Text(text, "default"))


def progress_bar(speed_over: float = 30.0) -> Progress:
    """A rich Progress; use as a context manager. The task field `note` is free text after the ETA.

    In a narrow terminal the bar gives way; counts and times stay whole.

    Args:
        speed_over: seconds of the past that the ETA is taken from.

    >>> with progress_bar() as bar:
    ...     task = bar.add_task("frames", total=10, note="")
    ...     bar.update(task, advance=1, note="12.0 images/s")
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("eta"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}"),
        console=console,
        speed_estimate_period=speed_over,
    )
