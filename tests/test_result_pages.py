"""The figures in README and on the results pages are those of the committed results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.result_pages import SECTION, with_tables

ROOT = Path(__file__).parent.parent
PAGES = {"table1": 3 * 6, "ablation": 6}  # splits x scores
SPREAD = re.compile(r"\d+\.\d ± \d+\.\d")


@pytest.mark.parametrize("name", PAGES)
def test_tables_of_a_page_are_those_of_its_results(name: str) -> None:
    page = (ROOT / "docs/results" / name / "README.md").read_text()
    assert len(SECTION.findall(page)) == PAGES[name]
    assert with_tables(page, ROOT / "docs/results" / name) == page


def test_a_wrong_figure_is_put_right() -> None:
    folder = ROOT / "docs/results/ablation"
    page = (folder / "README.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| `pfc` |"))
    wrong = page.replace(row, re.sub(r"\d", "9", row), 1)
    assert wrong != page
    assert with_tables(wrong, folder) == page


def test_every_mean_and_spread_in_readme_is_on_a_results_page() -> None:
    pages = " ".join(path.read_text() for path in (ROOT / "docs/results").glob("*/README.md"))
    readme = (ROOT / "README.md").read_text()
    found = SPREAD.findall(readme)
    assert len(found) > 100
    assert set(found) <= set(SPREAD.findall(pages))


def test_every_row_in_readme_of_a_name_on_a_results_page_is_a_row_there() -> None:
    pages = [(ROOT / "docs/results" / name / "README.md").read_text() for name in PAGES]
    rows = {line for page in pages for line in page.splitlines() if line.startswith("| ")}
    names = {(_cells(row)[0], len(_cells(row))) for row in rows}
    readme = [line.replace("**", "") for line in (ROOT / "README.md").read_text().splitlines()]
    found = [line for line in readme if line.startswith("|") and (_cells(line)[0], len(_cells(line))) in names]
    assert len(found) > 15
    assert [line for line in found if line not in rows] == []


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]
