"""Puts the tables of a results page in place: under each heading `## SCORE` or `## SCORE, split`, those of its results.

    python tools/result_pages.py docs/results/table1 docs/results/ablation

A row of a variant ("with clusters of what is left") is shown where the page shows it already; a row of nothing is not.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ovps.report.charts import NOTHING
from pipelines.experiment.table import result_table

SCORES = {
    "PQ": "pq",
    "mIoU": "miou",
    "RQ": "rq",
    "SQ": "sq",
    "Mask recall at IoU 0.5, any query's mask": "mask_recall",
    "Mask recall at IoU 0.5, after the merge": "mask_recall_merged",
}
SECTION = re.compile(
    rf"^## (?P<score>{'|'.join(map(re.escape, SCORES))})(, `(?P<split>\w+)`)?\n\n(?P<table>(\|.*\n)+)", re.MULTILINE
)


def with_tables(page: str, results: Path) -> str:
    """The Markdown page with each table made anew from `results.json` and `results.parquet` of a folder."""

    def section(found: re.Match[str]) -> str:
        old = found["table"].splitlines()
        score, split = SCORES[found["score"]], found["split"]
        plain = set(result_table(results, score, split).markdown().splitlines())
        shown = {_name(line) for line in old}
        new = [
            line
            for line in result_table(results, score, split, variants=True).markdown().splitlines()
            if (line in plain or _name(line) in shown) and set(_cells(line)) != {NOTHING}
        ]
        return found[0].replace(found["table"], "\n".join(new) + "\n")

    return SECTION.sub(section, page)


def _name(line: str) -> str:
    """The row's name without what follows a comma outside backticks: the number of seeds."""
    return re.sub(r", \d+ seeds?$", "", line.split(" | ")[0])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")[1:]]


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        page = folder / "README.md"
        page.write_text(with_tables(page.read_text(), folder))
