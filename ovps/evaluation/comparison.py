"""Several systems, splits and seeds side by side: means and spreads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ovps.evaluation.results import EvalResult, Row

MAIN = "ovps"


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one system, for one split and seed.

    Attributes:
        system: its name.
        training_minutes: None where it was not logged.
    """

    system: str
    split: str
    seed: int
    result: EvalResult
    training_minutes: float | None = None


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and the sample standard deviation (n - 1); None of one seed."""

    mean: float
    sd: float | None
    count: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Compute mean and spread of a score over seeds, ignoring seeds without a value; None if none has one."""
    found = [v for v in values if v is not None]
    return Spread(fmean(found), stdev(found) if len(found) > 1 else None, len(found)) if found else None


def main_system(systems: Sequence[str]) -> str:
    """Choose the system that the others are compared with: the method, or the last one where it is not among them."""
    return MAIN if MAIN in systems else systems[-1]


def references_of(cells: Sequence[Scored], main: str) -> Scored:
    """Choose the run whose reference rows speak for a split: the main system's lowest seed, else the first there is."""
    return min(cells, key=lambda c: (c.system != main, c.seed))


def group_spread(cells: Sequence[Scored], group: str, score: str, row: str = "system") -> Spread | None:
    """Compute mean and spread of a group's score over seeds.

    Args:
        group: one of GROUPS, or HARMONIC.
        score: a field of GroupScore, or `recall`, `recall_merged`, or `pq_seen`, `pq_unseen`: of a part of the points.
    """
    return spread(_score(cell.result, group, score, row) for cell in cells)


def class_spread(cells: Sequence[Scored], name: str, score: str) -> Spread | None:
    """Compute mean and spread of a class's score over seeds: a field of ClassScore."""
    return spread(getattr(c, score) for cell in cells for c in cell.result.system.panoptic.classes if c.name == name)


def _score(result: EvalResult, group: str, score: str, row: str) -> float | None:
    if score in ("recall", "recall_merged"):
        return result.mask_recall["queries" if score == "recall" else "merged"].score(group)
    if score in ("pq_seen", "pq_unseen"):
        row, score = score.removeprefix("pq_"), "pq"
    chosen: Row | None = next((r for r in result.rows if r.name == row), None)
    return chosen.score(group, score) if chosen else None
