"""The figures of README, of docs/results/README.md and of each results page are those of the committed results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tools import worlds_page
from tools.result_pages import SECTION, with_tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs/results"
OVERVIEW = RESULTS / "README.md"
PAGES = {
    "table1": 3 * 6,
    "table2": 3 * 3,
    "ablation": 6,
    "driveworld-kitti": 2,
    "worlds/102": 3 * 2,
    "worlds/103": 3 * 2,
}  # splits x scores
SPREAD = re.compile(r"\d+\.\d ± \d+\.\d")


@pytest.mark.parametrize("name", PAGES)
def test_tables_of_a_page_are_those_of_its_results(name: str) -> None:
    page = (ROOT / "docs/results" / name / "README.md").read_text()
    assert len(SECTION.findall(page)) == PAGES[name]
    assert with_tables(page, ROOT / "docs/results" / name) == page


def test_tables_of_the_worlds_are_those_of_their_results() -> None:
    page = (RESULTS / "worlds" / "README.md").read_text()
    assert [split for _, split, _ in worlds_page.SECTION.findall(page)] == ["b12n4", "b11n5", "b10n6"]
    assert worlds_page.page_of(page) == page


@pytest.mark.parametrize("split", ["b12n4", "b11n5", "b10n6"])
@pytest.mark.parametrize("system", ["pfc", "openscene", "ovps"])
def test_spreads_over_worlds_and_over_seeds_are_apart(split: str, system: str) -> None:
    worlds = []  # (seeds, groups) each
    for folder in worlds_page.WORLDS.values():
        wanted = (pc.field("row") == "system") & (pc.field("split") == split) & (pc.field("system") == system)
        rows = pq.read_table(folder / "results.parquet").filter(wanted).to_pylist()
        found = {(row["seed"], row["group"]): 100 * row["pq"] for row in rows}
        seeds = sorted({seed for seed, _ in found})
        worlds += [np.array([[found[seed, group] for group in worlds_page.GROUPS] for seed in seeds])] if seeds else []
    means = np.array([values.mean(axis=0) for values in worlds])
    residuals = np.concatenate([values - values.mean(axis=0) for values in worlds])
    within = np.sqrt((residuals**2).sum(axis=0) / (len(residuals) - len(worlds)))
    spread = zip(means.mean(axis=0), means.std(axis=0, ddof=1), strict=True)
    made = worlds_page.tables(split, worlds_page.WORLDS)
    assert f"| `{system}`, over {len(worlds)} worlds | {' | '.join(f'{m:.1f} ± {s:.1f}' for m, s in spread)} |" in made
    assert f"| `{system}`, over seeds within a world | {' | '.join(f'± {s:.1f}' for s in within)} |" in made


def test_a_wrong_figure_is_put_right() -> None:
    folder = ROOT / "docs/results/ablation"
    page = (folder / "README.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| `pfc` |"))
    wrong = page.replace(row, re.sub(r"\d", "9", row), 1)
    assert wrong != page
    assert with_tables(wrong, folder) == page


def test_every_mean_and_spread_in_the_overview_is_on_a_results_page() -> None:
    pages = " ".join(path.read_text() for path in RESULTS.glob("*/README.md"))
    found = SPREAD.findall(OVERVIEW.read_text())
    assert len(found) > 100
    assert set(found) <= set(SPREAD.findall(pages))


def test_every_row_in_the_overview_of_a_name_on_a_results_page_is_a_row_there() -> None:
    lines = {line for name in PAGES for line in _lines(RESULTS / name / "README.md")}
    names = {(head, _cells(row)[0]) for head, row in lines}
    found = [(head, row) for head, row in _lines(OVERVIEW) if (head, _cells(row)[0]) in names]
    assert len(found) > 15
    assert [line for line in found if line not in lines] == []


def test_every_figure_in_readme_is_in_the_overview() -> None:
    """Rows whole, so that no figure stands under another system or column; what stands in sentences by itself."""
    readme = ROOT / "README.md"
    found = [row for row in _rows(readme) if SPREAD.search(row)]
    assert len(found) == 5 + 4
    assert [row for row in found if row not in _rows(OVERVIEW)] == []
    heads = [row for row in _rows(readme) if "novel things" in _cells(row)]
    assert len(heads) == 2
    assert set(heads) <= set(_rows(OVERVIEW))
    assert set(SPREAD.findall(readme.read_text())) <= set(SPREAD.findall(OVERVIEW.read_text()))


@pytest.mark.parametrize(("split", "things", "stuff"), [("b11n5", 3, 2), ("b10n6", 4, 2)])
def test_closed_set_in_the_groups_of_another_split_is_made_of_its_class_scores(
    split: str, things: int, stuff: int
) -> None:
    runs = json.loads((ROOT / "docs/results/table1/results.json").read_text())["runs"]
    other = next(run for run in runs if run["split"] == split and run["system"] == "ovps")
    novel = {c["name"]: c["kind"] for c in other["classes"]["system"] if c["novel"]}
    assert sorted(novel.values()) == ["stuff"] * stuff + ["thing"] * things
    groups = [lambda c: True, lambda c: c["name"] not in novel, lambda c: c["name"] in novel]
    groups += [lambda c, kind=kind: novel.get(c["name"]) == kind for kind in ("thing", "stuff")]
    page = (ROOT / "docs/results/table1/README.md").read_text()
    for name, score in {"PQ": "pq", "mIoU": "iou", "RQ": "rq", "SQ": "sq"}.items():
        cells = []
        for group in groups:
            seeds = [
                100 * mean(c[score] for c in run["classes"]["system"] if group(c))
                for run in runs
                if run["system"] == "closed_set"
            ]
            assert len(seeds) == 3
            cells.append(f"{mean(seeds):.1f} ± {stdev(seeds):.1f}")
        assert f"| {name}, `{split}` | {' | '.join(cells)} |" in page


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def _lines(page: Path) -> list[tuple[str, str]]:
    """Lines of tables that have a name, each with the head of its table."""
    found, head = [], ""
    for row in _rows(page):
        if not _cells(row)[0]:
            head = row
        elif set(row) != set("|-"):
            found.append((head, row))
    return found


def _rows(page: Path) -> list[str]:
    """Lines of tables, without bold."""
    return [line.replace("**", "") for line in page.read_text().splitlines() if line.startswith("|")]
