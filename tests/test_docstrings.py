"""Docstrings stand alone in an editor's hover: they begin with a verb or a noun, not in mid-sentence."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_PARTS = ("cli.py", "doctor.py", "interrupt.py")  # texts of the command line, and of signals
FILES = [file for file in sorted((ROOT / "ovps").rglob("*.py")) if file.name not in NOT_PARTS]
# what a sentence goes on with, and a shape, which is no subject
MIDWAY = (
    "(",
    "of ",
    "over ",
    "by ",
    "as ",
    "from ",
    "their ",
    "its ",
    "what ",
    "which ",
    "where ",
    "for ",
    "with ",
    "not ",
)


def _midway(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            text = ast.get_docstring(node) or ""
            if text.lower().startswith(MIDWAY):
                found.append(f"{node.name}: {text.splitlines()[0]}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_stand_alone(file: Path) -> None:
    assert _midway(file.read_text(encoding="utf-8")) == []


def test_a_docstring_that_begins_in_mid_sentence_is_found() -> None:
    assert len(_midway('def spread(values):\n    """Of the values that are there."""\n')) == 1
    assert _midway('def spread(values):\n    """Compute the spread of some values."""\n') == []
