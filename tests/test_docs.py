"""README and the pages of docs/: short where it must be, and nothing they point to is missing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ovps.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_PATH = re.compile(r"`((?:ovps|pipelines|driveworld|cache_schemas|tests|tools|benchmarks|docs)/[\w./]+)`")


def _missing(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    links = [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    return links + [path for path in _PATH.findall(text) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_path_on_a_page_leads_somewhere(page: Path) -> None:
    assert _missing(page) == []


def test_a_dead_link_and_a_dead_path_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("[a](gone.md#there) [b](https://example.org) `ovps/gone.py` `ovps/frame.py`")
    assert _missing(tmp_path / "page.md") == ["gone.md", "ovps/gone.py"]


def test_readme_is_short_and_its_picture_small() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    assert (ROOT / "docs/images/driveworld.png").stat().st_size < 400_000


def test_each_question_of_a_newcomer_has_its_files() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text[text.index("## Where is, how do I") : text.index("## Rules")]
    answers = [line for line in section.splitlines() if line.startswith("| ") and "?" in line]
    assert len(answers) >= 10
    for line in answers:
        files = _PATH.findall(line)
        assert files, line
        assert all((ROOT / file).exists() for file in files), line


def _commands(page: Path) -> list[list[str]]:
    """The words behind `ovps` of every command line on a page, without its comment."""
    blocks = re.findall(r"^```\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if re.search(r"(^|-m )ovps ", line)]
    return [shlex.split(re.sub(r".*?(^|-m )ovps ", "", line), comments=True) for line in lines]


def _unknown(words: list[str]) -> list[str]:
    """Commands and options that ovps does not have."""
    command: Any = get_command(app)
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            return words[:1]
        command, words = command.commands[words[0]], words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return [word for word in words if word.startswith("--") and word not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_exists(page: Path) -> None:
    assert [word for words in _commands(page) if "|" not in words for word in _unknown(words)] == []


def test_an_unknown_command_or_option_is_found() -> None:
    assert len(_commands(ROOT / "README.md")) > 8
    assert _unknown(["trian", "--cache", "x"]) == ["trian"]
    assert _unknown(["train", "--cache", "x", "--speed", "3"]) == ["--speed"]
