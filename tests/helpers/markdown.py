"""Code out of the pages of docs/, for tests that run it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language on a page of the repository, in order."""
    return [text for found, text in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if found == language]
