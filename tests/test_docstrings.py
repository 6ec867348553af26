"""Docstrings stand alone in an editor's hover: they begin with a verb or a noun, not in mid-sentence."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ovps", "pipelines", "driveworld", "cache_schemas")
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
# what a sentence goes on with: prepositions, conjunctions, pronouns, words that ask
MIDWAY = re.compile(
    r"(of|over|by|as|from|their|its|with|without|at|if|so|for|in|into|on|to|not|between|below|above|inside|within|because"
    r"|before|after|until|during|and|or|but|than|then|it|they|there|these|those|that|this"
    r"|what|which|where|when|who|whose|why|how|whether|is|are|was|has)\b",
    re.IGNORECASE,
)
SCOPES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _midway(text: str) -> bool:
    return MIDWAY.match(text) is not None or re.match(r"[A-Z0-9`]", text) is None


def _faults(source: str) -> list[str]:
    """Names of what is public and begins in mid-sentence, and of functions and classes of a module without a word."""
    module = ast.parse(source)
    found = []
    for node in ast.walk(module):
        name = getattr(node, "name", "module")
        if not isinstance(node, SCOPES) or name.startswith("_"):
            continue
        text = ast.get_docstring(node)
        if text and _midway(text):
            found.append(f"{name}: {text.splitlines()[0]}")
        elif not text and node in module.body:
            found.append(f"{name}: no docstring")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_stand_alone(file: Path) -> None:
    assert _faults(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ('def spread(values):\n    """Of the values that are there."""', 1),
        ('def spread(values):\n    """(N,) of some values."""', 1),
        ('def spread(values):\n    """values to their spread."""', 1),
        ("def spread(values):\n    return 0", 1),
        ('"""What is spread."""', 1),
        ('class Spread:\n    def of(self):\n        """Whether it is."""', 2),
        ('class Spread:\n    """Values."""\n    @property\n    def low(self):\n        return 0', 0),
        ('def spread(values):\n    """Compute the spread of some values."""', 0),
        ("def _spread(values):\n    return 0", 0),
    ],
)
def test_a_docstring_that_begins_in_mid_sentence_is_found(source: str, faults: int) -> None:
    assert len(_faults(source)) == faults


EXAMPLES = [file for file in FILES if ">>> " in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_examples_in_docstrings_give_what_they_say(file):
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted > 0 == done.failed
