"""Summaries as people and machines read them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovps import strict_json
from ovps.json_output import print_json
from ovps.progress import LISTED, show_warnings

WIDE = 1000  # columns where there is no terminal: a log or a program reads whole names and whole lines
_TERMINAL = sys.stdout is not None and sys.stdout.isatty()  # None: closed by whoever started the program
out = Console(width=None if _TERMINAL else WIDE, markup=False)  # names and paths may have brackets in them


def show(summary: Any, as_json: bool) -> None:
    """A summary (dataclass, pydantic model or dict) as JSON, a table, or where there is no terminal as whole lines.

    Its warnings go to stderr.
    """
    record = TypeAdapter(type(summary)).dump_python(summary, mode="json")
    show_warnings(record.get("warnings", []))
    if as_json:
        print_json(strict_json.dumps(record, indent=2))
        return
    record.pop("warnings", None)
    if hasattr(summary, "in_words"):
        record = TypeAdapter(dict[str, Any]).dump_python(summary.in_words(), mode="json")
    else:
        record = _in_words(summary, record)
    if not out.is_terminal:
        for name, value in _flat(record):
            for item in value if isinstance(value, list) and value else [value]:
                out.print(f"{name}: {_text(item)}", highlight=False, soft_wrap=True)
        return
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _flat(record):
        table.add_row(Text(name), Text(_text(value)))
    out.print(table)


def _in_words(value: Any, record: Any) -> Any:
    """Fields without underscores. Keys of a dict stay: people copy names of topics, cameras and frames."""
    if not isinstance(record, dict):
        return record
    if isinstance(value, dict):
        return {name: _in_words(value.get(name), inner) for name, inner in record.items()}
    return {name.replace("_", " "): _in_words(getattr(value, name, None), inner) for name, inner in record.items()}


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from ((f"{name} / {inner}", v) for inner, v in _flat(value))
        else:
            yield name, value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        return _listed([_text(item) for item in value]) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _listed(items: list[str]) -> str:
    """In a row, or one a line if there are commas in them; a long list names its first, and how many more there are."""
    more = [f"and {len(items) - LISTED} more, see --json"] if len(items) > LISTED else []
    return ("\n" if any("," in item for item in items) else ", ").join(items[:LISTED] + more)
