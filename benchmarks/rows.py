"""What a benchmark tells: rows of one table, each a figure beside its reference of the same run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        figure: what was measured.
        reference: what it is measured against: another program, a limit, or a number that was set.
        measured, against: both in `unit`.
        aim: of measured / against; None: there is none.
        more: the aim is the least that is wanted, not the most.
    """

    figure: str
    reference: str
    measured: float
    against: float
    unit: str
    aim: float | None = None
    more: bool = False

    @property
    def ratio(self) -> float:
        return self.measured / self.against

    @property
    def met(self) -> bool | None:
        """Tell whether the aim is met; None where there is none."""
        if self.aim is None:
            return None
        return self.ratio >= self.aim if self.more else self.ratio <= self.aim


def rows_of(name: str) -> list[Row]:
    """Run the benchmark `bench_NAME`."""
    return list(importlib.import_module(f"benchmarks.bench_{name}").rows())


HEAD = ("figure", "reference", "measured", "ratio", "aim", "met")


def table(rows: Sequence[Row]) -> str:
    """Rows as one table for people, columns aligned."""
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    aim = "" if row.aim is None else f"{'>=' if row.more else '<='} {row.aim:g}"
    met = {None: "", True: "yes", False: "NO"}[row.met]
    reference = f"{row.reference}: {row.against:.4g} {row.unit}"
    return (row.figure, reference, f"{row.measured:.4g} {row.unit}", f"{row.ratio:.3g}", aim, met)


def record(row: Row) -> dict[str, Any]:
    """A row for JSON."""
    return asdict(row) | {"ratio": row.ratio, "met": row.met}
