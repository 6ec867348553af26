"""Puts the tables of docs/results/worlds in place: PQ of each world, its spread over worlds, and over seeds within one.

python -m tools.worlds_page
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev, variance

import pyarrow.parquet as pq

from ovps.report.charts import NOTHING

RESULTS = Path(__file__).parent.parent / "docs/results"
WORLDS = {"101": RESULTS / "table2", "102": RESULTS / "worlds/102", "103": RESULTS / "worlds/103"}
SYSTEMS = ("pfc", "openscene", "ovps")
GROUPS = {
    "all": "all",
    "base": "base",
    "novel": "novel",
    "novel/things": "novel things",
    "novel/stuff": "novel stuff",
}
SECTION = re.compile(r"(^## PQ, `(?P<split>\w+)`\n\n)(?P<tables>.*?)(?=^## )", re.MULTILINE | re.DOTALL)

Scores = Mapping[str, Sequence[float]]  # PQ in percent of each seed, by world; a world without a training is not there


def page_of(page: str, worlds: Mapping[str, Path] = WORLDS) -> str:
    """Make the Markdown page with the tables of each `## PQ, split` anew from the results of the worlds."""
    return SECTION.sub(lambda found: found[1] + tables(found["split"], worlds) + "\n", page)


def tables(split: str, worlds: Mapping[str, Path]) -> str:
    """Make both tables of a split: the worlds one by one, and the spreads over them.

    Args:
        worlds: folders with `results.parquet`, by world.
    """
    scores = {(system, group): scores_of(worlds, split, system, group) for system in SYSTEMS for group in GROUPS}
    head = " | ".join(GROUPS.values())
    one = [f"| world | system | seeds | {head} |", "|---|---|---|" + "---|" * len(GROUPS)]
    for world in worlds:
        for system in SYSTEMS:
            if world in scores[system, "all"]:
                cells = [_cell(scores[system, group][world]) for group in GROUPS]
                one.append(f"| {world} | `{system}` | {len(scores[system, 'all'][world])} | {' | '.join(cells)} |")
    all_of_them = [f"| | {head} |", "|---|" + "---|" * len(GROUPS)]
    for system in SYSTEMS:
        over = [over_worlds(scores[system, group]) for group in GROUPS]
        count = len(scores[system, "all"])
        all_of_them.append(f"| `{system}`, over {count} worlds | {' | '.join(over)} |")
        within = [over_seeds(scores[system, group]) for group in GROUPS]
        all_of_them.append(f"| `{system}`, over seeds within a world | {' | '.join(within)} |")
    return "\n".join([*one, "", TELLS, "", *all_of_them, ""])


TELLS = (
    "Mean and sample standard deviation over the worlds, of their means over seeds; and the standard deviation over\n"
    "seeds within a world, pooled over the worlds that have several:"
)


def scores_of(worlds: Mapping[str, Path], split: str, system: str, group: str) -> Scores:
    """Read PQ in percent of each seed in order, by world."""
    found: dict[str, list[tuple[int, float]]] = {}
    for world, folder in worlds.items():
        for row in pq.read_table(folder / "results.parquet").to_pylist():
            if (row["row"], row["split"], row["system"], row["group"]) == ("system", split, system, group):
                found.setdefault(world, []).append((row["seed"], 100 * row["pq"]))
    return {world: [score for _, score in sorted(of_seeds)] for world, of_seeds in found.items()}


def over_worlds(scores: Scores) -> str:
    """Mean and spread over worlds of their means."""
    means = [mean(values) for values in scores.values()]
    return f"{mean(means):.1f} ± {stdev(means):.1f}" if len(means) > 1 else _cell(means)


def over_seeds(scores: Scores) -> str:
    """Spread over seeds, pooled over the worlds that have several; a dash where none has."""
    several = [values for values in scores.values() if len(values) > 1]
    if not several:
        return NOTHING
    freedom = sum(len(values) - 1 for values in several)
    pooled = sum((len(values) - 1) * variance(values) for values in several) / freedom
    return f"± {pooled**0.5:.1f}"


def _cell(values: Sequence[float]) -> str:
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{mean(values):.1f}"


if __name__ == "__main__":
    file = RESULTS / "worlds/README.md"
    file.write_text(page_of(file.read_text()))
