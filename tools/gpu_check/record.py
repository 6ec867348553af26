"""Results as they come: one JSON line per measurement, on the disk before the next one begins."""

from __future__ import annotations

import json
import os
import shlex
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ovps.errors import OvpsError

RESULTS = "results.jsonl"
LOG = "log.txt"


class Line(BaseModel):
    """One measurement or check.

    Attributes:
        stage: of the check, one letter.
        name: what was measured.
        value: None where it failed or is no number.
        unit: of value and predicted.
        predicted: what was expected before measuring.
        tolerance: largest value that passes.
        ok: whether a check passed; None where nothing can fail.
        note: whatever else there is to say, an error among it.
        seconds: since the stage began.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    name: str
    value: float | None = None
    unit: str = ""
    predicted: float | None = None
    tolerance: float | None = None
    ok: bool | None = None
    note: str = ""
    seconds: float = 0.0


class Recorder:
    """Appends lines of one stage to `results.jsonl`, each written through to the disk.

    Args:
        out: folder of the file.
        stage: letter of the stage.
        terminal: file descriptor to tell each line to as well.
        work: scratch, which another version of ovps may have left; None: nothing is said of it.
    """

    def __init__(self, out: Path, stage: str, terminal: int | None = None, work: Path | None = None) -> None:
        self._path, self._stage, self._terminal, self._work = out / RESULTS, stage, terminal, work
        self._begin = time.monotonic()

    def add(
        self,
        name: str,
        value: float | None = None,
        unit: str = "",
        *,
        predicted: float | None = None,
        tolerance: float | None = None,
        ok: bool | None = None,
        note: str = "",
    ) -> None:
        """Write one line. With a tolerance, `ok` says whether the value is within; NaN is not."""
        if tolerance is not None and value is not None:
            ok = value <= tolerance
        line = Line(
            stage=self._stage,
            name=name,
            value=value,
            unit=unit,
            predicted=predicted,
            tolerance=tolerance,
            ok=ok,
            note=note,
            seconds=time.monotonic() - self._begin,
        )
        append(self._path, line)
        if self._terminal is not None:
            os.write(self._terminal, f"{text_of(line)}\n".encode())

    @contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Whatever fails inside is a line and a traceback in the log, and the stage goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.failed(name, error)

    def failed(self, name: str, error: BaseException) -> None:
        """Write a line about an error: of ours all of it, for it ends with the remedy."""
        text = str(error).strip()
        if not isinstance(error, OvpsError):
            text = text[:300]
        elif self._work and error.path and Path(error.path).is_relative_to(self._work):
            text += f". If another version of ovps left it there: rm -r {shlex.quote(str(self._work))}"
        self.add(name, ok=False, note=f"{type(error).__name__}: {text}")


def append(path: Path, line: Line) -> None:
    """Add a line to a file of lines; it is on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line.model_dump()) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(out: Path) -> list[Line]:
    """All lines in the order they came; a last one cut short by a kill is left out."""
    path = out / RESULTS
    result = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            result.append(Line(**json.loads(text)))
        except json.JSONDecodeError:
            continue
    return result


def number(value: float | None) -> str:
    """For people: four digits, or nothing."""
    return "" if value is None else f"{value:.4g}"


def text_of(line: Line) -> str:
    """A line for people."""
    parts = [f"[{line.stage} {line.seconds:5.1f} s] {line.name}"]
    if line.value is not None:
        parts.append(f"{number(line.value)} {line.unit}".strip())
    if line.predicted is not None:
        parts.append(f"(predicted {number(line.predicted)})")
    if line.tolerance is not None:
        parts.append(f"(at most {number(line.tolerance)})")
    if line.ok is not None:
        parts.append("ok" if line.ok else "FAILED")
    return "  ".join([*parts, line.note]).rstrip()
