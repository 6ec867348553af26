"""Results of an experiment as a Markdown table, for a README or a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovps.errors import ConfigError
from ovps.evaluation.comparison import spread
from ovps.evaluation.results import HARMONIC, harmonic
from ovps.report.charts import text
from ovps.report.page import counted
from pipelines.experiment.collect import SCORES as FRACTIONS
from pipelines.experiment.join import read_part

GROUPS = ("all", "base", "novel", "novel/things", "novel/stuff", HARMONIC)
SCORES = (*FRACTIONS, "mask_recall", "mask_recall_merged")
NAMES = {
    "proposals": "with clusters of what is left",
    "filled": "with every voxel filled",
    "unsplit": "without splitting at gaps",
    "seen": "on points with a CLIP feature",
    "unseen": "on points without one",
    "random_class": "chance: the segments above, random classes",
    "clip_argmax": "CLIP feature of each voxel, arg-max (no instances)",
    "true_masks": "true masks, pooled CLIP (ceiling of classification)",
}


def markdown(
    folder: Path, score: str = "pq", split: str | None = None, variants: bool = False, parts: bool = False
) -> str:
    """Systems x groups in percent, mean ± sample standard deviation over seeds; reference rows at the end.

    Args:
        folder: `out` of an experiment.
        score: one of SCORES.
        split: which one; None: the first.
        variants: the same runs with one setting of inference changed, too.
        parts: the runs on the points with a CLIP feature, and on those without, too.

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
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        if line["split"] == chosen and line["kind"] not in hidden:
            rows.setdefault((line["system"], line["row"]), []).append(line)
    systems = list(dict.fromkeys(system for system, _ in rows))
    order = sorted(rows, key=lambda key: (rows[key][0]["kind"] == "reference", systems.index(key[0])))
    most = max(len(_seeds(found)) for found in rows.values())
    head = [f"| | {' | '.join(g.replace('/', ' ') for g in GROUPS)} |", f"|---|{'---|' * len(GROUPS)}"]
    return "\n".join([*head, *(_line(key, rows[key], score, key[0] in random, most) for key in order)])


def tables(folder: Path, score: str = "pq") -> str:
    """`markdown` of every split, each under its name.

    Raises:
        ConfigError: no results, or no such score.
    """
    splits = dict.fromkeys(read_part(folder).rows["split"].to_pylist())
    return "\n\n".join(f"{score}, %, split {split}\n\n{markdown(folder, score, split)}" for split in splits)


def _line(key: tuple[str, str], lines: Sequence[Mapping[str, Any]], score: str, random: bool, most: int) -> str:
    system, row = key
    kind, seeds = lines[0]["kind"], len(_seeds(lines))
    changed = f"`{system}` {NAMES.get(row, row)}"
    name = {"system": f"`{system}`", "variant": changed, "part": changed}.get(kind, NAMES.get(row, row))
    notes = ["**random CLIP weights**"] * random + [counted(seeds, "seed")] * (kind != "reference" and seeds < most)
    cells = (text(spread(_values(lines, group, score))) for group in GROUPS)
    return f"| {', '.join([name, *notes])} | {' | '.join(cells)} |"


def _values(lines: Sequence[Mapping[str, Any]], group: str, score: str) -> list[float | None]:
    """A score of a group, seed by seed; harmonic means made here, as results of older versions have none."""
    if group != HARMONIC:
        return [line[score] for line in lines if line["group"] == group]
    found = {(line["seed"], line["group"]): line[score] for line in lines}
    return [harmonic(found.get((seed, "base")), found.get((seed, "novel"))) for seed in sorted(_seeds(lines))]


def _seeds(lines: Sequence[Mapping[str, Any]]) -> set[int]:
    return {line["seed"] for line in lines}
