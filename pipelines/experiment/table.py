"""Results of an experiment as a Markdown table, for a README or a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovps.errors import ConfigError, counted
from ovps.evaluation.comparison import Spread, spread
from ovps.evaluation.console import SCORES as FRACTIONS
from ovps.evaluation.results import HARMONIC, harmonic
from ovps.report.charts import text
from pipelines.experiment.join import read_part

GROUPS = ("all", "base", "novel", "novel/things", "novel/stuff", HARMONIC)
SCORES = (*FRACTIONS, "mask_recall", "mask_recall_merged")
NAMES = {
    "proposals": "with clusters of what is left",
    "filled": "with every voxel filled",
    "unsplit": "without splitting at gaps",
    "seen": "on points that a camera sees",
    "unseen": "on points that none sees",
    "random_class": "chance: the segments above, random classes",
    "clip_argmax": "CLIP feature of each voxel, arg-max (no instances)",
    "true_masks": "true masks, pooled CLIP (ceiling of classification)",
}


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        system: that was trained. row: of what: `system`, a variant, a part, or a reference.
        kind: `system`, `variant`, `part` or `reference`.
        seeds: how many.
        random: its CLIP has random weights.
        scores: fractions, mean and spread over seeds by group; None where no seed has one.
    """

    system: str
    row: str
    kind: str
    seeds: int
    random: bool
    scores: dict[str, Spread | None]


@dataclass(frozen=True)
class ResultTable:
    """One score of one split."""

    score: str
    split: str
    rows: list[TableRow]

    def markdown(self) -> str:
        """Write it in percent, mean ± sample standard deviation over seeds."""
        most = max(row.seeds for row in self.rows)
        head = [f"| | {' | '.join(g.replace('/', ' ') for g in GROUPS)} |", f"|---|{'---|' * len(GROUPS)}"]
        return "\n".join([*head, *(_line(row, most) for row in self.rows)])


def result_table(
    folder: Path, score: str = "pq", split: str | None = None, variants: bool = False, parts: bool = False
) -> ResultTable:
    """Systems x groups; reference rows at the end.

    Args:
        folder: `out` of an experiment.
        score: one of SCORES.
        split: which one; None: the first.
        variants: the same runs with one setting of inference changed, too.
        parts: the runs on the points that a camera sees, and on the others, too.

    Raises:
        ConfigError: no results, no such score or split.
    """
    part = read_part(folder)
    lines = part.rows.to_pylist()
    splits = list(dict.fromkeys(line["split"] for line in lines))
    chosen = splits[0] if split is None else split
    if score not in SCORES or chosen not in splits:
        raise ConfigError(
            f"no score {score!r}" if score not in SCORES else f"no split {chosen!r}",
            path=folder,
            remedy=f"Scores: {', '.join(SCORES)}; splits: {', '.join(splits)}",
        )
    random = {record.system for record in part.results.runs if record.cache.weights_random}
    hidden = {kind for kind, shown in (("variant", variants), ("part", parts)) if not shown}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        if line["split"] == chosen and line["kind"] not in hidden:
            found.setdefault((line["system"], line["row"]), []).append(line)
    systems = list(dict.fromkeys(system for system, _ in found))
    order = sorted(found, key=lambda key: (found[key][0]["kind"] == "reference", systems.index(key[0])))
    return ResultTable(score, chosen, [_row(*key, found[key], score, key[0] in random) for key in order])


def tables(folder: Path, score: str = "pq") -> str:
    """Tables of every split in Markdown, each under its name.

    Raises:
        ConfigError: no results, or no such score.
    """
    splits = dict.fromkeys(read_part(folder).rows["split"].to_pylist())
    made = (result_table(folder, score, split) for split in splits)
    return "\n\n".join(f"{score}, %, split {table.split}\n\n{table.markdown()}" for table in made)


def _row(system: str, row: str, lines: Sequence[Mapping[str, Any]], score: str, random: bool) -> TableRow:
    scores = {group: spread(_values(lines, group, score)) for group in GROUPS}
    return TableRow(system, row, lines[0]["kind"], len(_seeds(lines)), random, scores)


def _line(row: TableRow, most: int) -> str:
    changed = f"`{row.system}` {NAMES.get(row.row, row.row)}"
    name = {"system": f"`{row.system}`", "variant": changed, "part": changed}.get(row.kind, NAMES.get(row.row, row.row))
    few = row.kind != "reference" and row.seeds < most
    notes = ["**random CLIP weights**"] * row.random + [counted(row.seeds, "seed")] * few
    cells = (text(row.scores[group]) for group in GROUPS)
    return f"| {', '.join([name, *notes])} | {' | '.join(cells)} |"


def _values(lines: Sequence[Mapping[str, Any]], group: str, score: str) -> list[float | None]:
    """A score of a group, seed by seed; harmonic means made here, as results of older versions have none."""
    if group != HARMONIC:
        return [line[score] for line in lines if line["group"] == group]
    found = {(line["seed"], line["group"]): line[score] for line in lines}
    return [harmonic(found.get((seed, "base")), found.get((seed, "novel"))) for seed in sorted(_seeds(lines))]


def _seeds(lines: Sequence[Mapping[str, Any]]) -> set[int]:
    return {line["seed"] for line in lines}
