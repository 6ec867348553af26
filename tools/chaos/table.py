"""What came of a campaign as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from tools.chaos.outcome import WATCHERS, Outcome

COLUMNS = ("faults", "run", *WATCHERS, "repair", "precompute", "nothing", "lost", "wrong")


def rows(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, ...]]:
    """By kind, and all of them: faults; told by; mended by; lost and wrong bytes."""
    kinds = dict.fromkeys(outcome.kind for outcome in outcomes)
    found = {kind: _row([outcome for outcome in outcomes if outcome.kind == kind]) for kind in kinds}
    return found | {"all": _row(outcomes)}


def _row(outcomes: Sequence[Outcome]) -> tuple[int, ...]:
    seen = [sum(who in o.seen for o in outcomes) for who in ("run", *WATCHERS)]
    mended = [sum(o.mended == how for o in outcomes) for how in ("repair", "precompute", "nothing")]
    return len(outcomes), *seen, *mended, sum(o.lost for o in outcomes), sum(o.wrong for o in outcomes)


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the table, and below it what was not as it should be."""
    table = Table(title="Faults: told by, mended by, bytes", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for kind, row in rows(outcomes).items():
        if kind == "all":
            table.add_section()
        table.add_row(kind, *map(str, row))
    console.print(table)
    for outcome in outcomes:
        if not outcome.good:
            text = f"{outcome.kind}: {outcome.what}: lost {outcome.lost}, wrong {outcome.wrong}. {outcome.note}"
            console.print(text, highlight=False, soft_wrap=True, markup=False)
