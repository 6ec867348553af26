"""Rows of a nuScenes table, batch after batch: a table of gigabytes is never in memory as a whole.

A table is a JSON array of objects. It is cut where a row ends and each piece is parsed by orjson, to which integers
beyond 64 bits are floats; what orjson does not take is left to the standard library, which knows NaN and says where a
fault is.
"""

from __future__ import annotations

import gc
import json
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from ovps import strict_json
from ovps.datasets.near_names import said_beside
from ovps.errors import DatasetError
from ovps.shortage import faults

Row = dict[str, Any]

BLOCK = 2**24  # bytes that are read at a time
_MARK = b"\xef\xbb\xbf"  # of the byte order, as some editors write it


def read_rows(
    path: Path,
    columns: Mapping[str, type],
    remedy: str,
    *,
    keep: Callable[[Row], bool] | None = None,
    block: int = BLOCK,
) -> list[Row]:
    """The rows of a table. Every row is checked, also those that are not asked for.

    Args:
        path: of the table; it may begin with a byte order mark, and its lines may end as on Windows.
        columns: that every row must have beside `token`, and of which type.
        remedy: for a table that is missing or not as it was shipped.
        keep: which rows are asked for; None: all.
        block: bytes that are parsed at a time.

    Raises:
        DatasetError: a table that is missing, not JSON, not rows with these columns, or has a token twice.
    """
    needed = {"token": str, **columns}
    found: list[Row] = []
    hashes: list[np.ndarray] = []  # of tokens: 8 bytes a row
    count = 0
    with _no_collector():
        for rows in batches(path, remedy, block):
            _check_columns(rows, needed, count, path, remedy)
            hashes.append(np.fromiter((hash(row["token"]) for row in rows), np.int64, len(rows)))
            count += len(rows)
            found += filter(keep, rows) if keep else rows
    if hashes:
        values, counts = np.unique(np.concatenate(hashes), return_counts=True)
        if len(values) < count:
            _check_tokens(path, set(values[counts > 1].tolist()), remedy)
    return found


@contextmanager
def _no_collector() -> Iterator[None]:
    """Rows have no cycles: looking for some, again and again, would take as long as reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def batches(path: Path, remedy: str, block: int = BLOCK) -> Iterator[list[Row]]:
    """The rows of a table, as many at a time as `block` bytes hold.

    Raises:
        DatasetError: a table that is missing, cannot be read, or is not a JSON array of objects.
    """
    if not path.is_file():
        there, remedy = said_beside(path, remedy)
        raise DatasetError(f"table {path.stem} is missing{there}", path=path, remedy=remedy)
    try:
        with path.open("rb") as file:
            yield from _pieces(file, path, remedy, block)
    except faults(OSError) as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=path, remedy=remedy) from error


def read_json(path: Path, remedy: str) -> Any:
    """A small JSON file that people write, with or without a byte order mark.

    Raises:
        DatasetError: not JSON, an object that names a key twice, or it cannot be read.
    """
    try:
        text = path.read_bytes().removeprefix(_MARK)
    except faults(OSError) as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=path, remedy=remedy) from error
    try:
        return _told(text, strict_json.loads)
    except (_Fault, UnicodeDecodeError) as error:
        raise _not_json(error, 1, path, remedy) from error


def _pieces(file: BinaryIO, path: Path, remedy: str, block: int) -> Iterator[list[Row]]:
    text = file.read(len(_MARK)).removeprefix(_MARK)
    while not text.strip() and (more := file.read(block)):
        text += more
    try:
        text = _after_bracket(text, path, remedy)
    except UnicodeDecodeError as error:
        raise _not_json(error, 1, path, remedy) from error
    before, lines, ended = b"[", 1, False
    while not ended:
        more = file.read(block)
        ended = not more
        text += more
        end = len(text) if ended else text.rfind(b"}") + 1
        if end == 0 and not ended:
            continue
        try:
            rows = _parsed(before + text if ended else b"%b%b]" % (before, text[:end]))
        except (_Fault, UnicodeDecodeError) as fault:
            if isinstance(fault, _Fault) and fault.at_end and not ended:
                continue  # cut within a row: more text tells
            raise _not_json(fault, lines, path, remedy) from fault
        yield _objects(rows[1:] if before != b"[" else rows, path, remedy)
        lines += text.count(b"\n", 0, end)
        text = text[end:]
        before = b"[0"  # stands for the rows that are done: a comma must follow


class _Fault(ValueError):
    """Text that is not JSON.

    Attributes:
        line: counted from 1; 0 where nobody knows.
        at_end: more text might mend it.
    """

    def __init__(self, reason: str, line: int = 0, at_end: bool = False) -> None:
        super().__init__(reason)
        self.line = line
        self.at_end = at_end


def _parsed(text: bytes) -> Any:
    """Raises: _Fault, UnicodeDecodeError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _told(text, json.loads)


def _told(text: bytes, loads: Callable[[str], Any]) -> Any:
    """Raises: _Fault, which says where, UnicodeDecodeError."""
    try:
        return loads(text.decode())
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc) - 1 or error.msg.startswith("Unterminated")
        raise _Fault(error.msg, error.lineno, at_end) from error
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # numbers or nesting beyond all reason
        raise _Fault(str(error)) from error


def _after_bracket(text: bytes, path: Path, remedy: str) -> bytes:
    """What follows the bracket that begins an array."""
    begin = text.lstrip()
    if not begin.startswith(b"["):
        shown = getincrementaldecoder("utf-8")().decode(begin[:20])  # which may end within a character
        what = f"it begins with {shown!r}" if shown else "it is empty"
        raise DatasetError(f"table {path.stem} is not a list of rows: {what}", path=path, remedy=remedy)
    return text.replace(b"[", b"", 1)


def _not_json(fault: ValueError, lines: int, path: Path, remedy: str) -> DatasetError:
    if isinstance(fault, UnicodeDecodeError):
        return DatasetError("the file is not UTF-8, as JSON is", path=path, remedy=f"Save it as UTF-8. {remedy}")
    line = f", line {lines + fault.line - 1:,}" if isinstance(fault, _Fault) and fault.line else ""
    return DatasetError(f"not JSON: {fault}{line}", path=path, remedy=remedy)


def _objects(rows: Any, path: Path, remedy: str) -> list[Row]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"table {path.stem} is not a list of rows", path=path, remedy=remedy)
    return rows


def _check_columns(rows: list[Row], columns: Mapping[str, type], before: int, path: Path, remedy: str) -> None:
    for column, kind in columns.items():
        without = next((number for number, row in enumerate(rows) if not isinstance(row.get(column), kind)), None)
        if without is not None:
            raise DatasetError(
                f"row {before + without:,} of table {path.stem} has no usable {column}", path=path, remedy=remedy
            )


def _check_tokens(path: Path, hashes: set[int], remedy: str) -> None:
    """Read again what looks as if it were there twice: two tokens may have one hash."""
    seen = Counter(row["token"] for rows in batches(path, remedy) for row in rows if hash(row["token"]) in hashes)
    twice = [token for token, count in seen.items() if count > 1]
    if twice:
        raise DatasetError(
            f"table {path.stem} has {len(twice)} tokens twice, the first is {twice[0]}",
            path=path,
            remedy=f"{remedy}; where tables were joined, keep one row of each token",
        )
