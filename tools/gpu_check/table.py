"""Everything that was measured as one table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from tools.gpu_check.record import Line, number


def show(lines: Sequence[Line], console: Console) -> None:
    """Print the table, predictions beside measurements, and what failed once more below it."""
    table = Table(title="GPU check", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in ("", "what", "value", "predicted", "at most", "", "note"):
        table.add_column(heading, overflow="fold")
    for before, line in zip([None, *lines], lines, strict=False):
        if before is not None and before.stage != line.stage:
            table.add_section()
        value = f"{number(line.value)} {line.unit}".strip() if line.value is not None else ""
        verdict = "" if line.ok is None else "ok" if line.ok else "FAILED"
        table.add_row(
            line.stage, line.name, value, number(line.predicted), number(line.tolerance), verdict, _short(line.note)
        )
    console.print(table)
    failed = failures(lines)
    checks = sum(line.ok is not None for line in lines)
    console.print(f"{len(lines)} lines, {checks} checks, {len(failed)} failed", highlight=False)
    for line in failed:
        console.print(f"failed: {line.stage} {line.name}: {line.note}", style="red", highlight=False, soft_wrap=True)


def _short(note: str, most: int = 60) -> str:
    """The file has the whole of it."""
    return note if len(note) <= most else f"{note[: most - 1]}…"


def failures(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.ok is False]
