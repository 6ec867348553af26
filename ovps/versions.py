"""Files that another version of ovps wrote: told as that, never as damage, so that nobody throws away what is whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

WROTE_IT = "Use the ovps that wrote it"


def other_format(content: Any, ours: str) -> str | None:
    """Say that the content of a file states a format of another version; None where it states ours, or none.

    >>> other_format({"format": "ovps-run-2"}, "ovps-run-1")
    'it has format ovps-run-2, this ovps reads ovps-run-1'
    """
    return other_format_among([content.get("format")] if isinstance(content, dict) else [], ours)


def other_format_among(names: Iterable[object], ours: str) -> str | None:
    """Say that one of some names is that of a format as another version has it."""
    others = re.compile(re.escape(ours.rpartition("-")[0]) + r"-\d+")
    there = [name for name in names if isinstance(name, str) and name != ours and others.fullmatch(name)]
    return f"it has format {there[0]}, this ovps reads {ours}" if there else None


def only_unknown(error: Exception) -> str | None:
    """Say that nothing is wrong with a file but fields that this version does not know; None where something else is.

    Args:
        error: of pydantic; None comes of any other.
    """
    faults: list[Any] = error.errors() if hasattr(error, "errors") else []
    if not faults or any(fault["type"] != "extra_forbidden" for fault in faults):
        return None
    names = [".".join(map(str, fault["loc"])) for fault in faults]
    return f"it has what this ovps does not know: {', '.join(names)}"
