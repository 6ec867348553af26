"""Curves of a run: `metrics.jsonl` for the report, TensorBoard for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import fmean
from types import TracebackType

from ovps import strict_json
from ovps.errors import CheckpointError
from ovps.training.board import Board
from ovps.training.files import full_disk, write_whole

METRICS = "metrics.jsonl"
_RATIO = "gradient_ratio"  # of a step that measured it
TENSORBOARD = "tensorboard"


class MetricsLog:
    """Writes scalars by step. Opened at step `start`, it forgets lines of later steps, which a resumed run repeats."""

    def __init__(self, run: Path, start: int) -> None:
        kept = [line for line in read_metrics(run) if line["step"] <= start]
        write_whole(run / METRICS, "".join(strict_json.dumps(line) + "\n" for line in kept).encode())
        self._path = run / METRICS
        with full_disk(self._path):
            self._file = self._path.open("a", encoding="utf-8")
            self._board = Board(run / TENSORBOARD, start + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with full_disk(self._path):
            self._file.write(strict_json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            self._board.write(step, values)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # closing writes what is left: what was refused before is under way already, and says more
        with full_disk(self._path) if kind is None else suppress(OSError), ExitStack() as stack:
            stack.callback(self._board.close)
            stack.callback(self._file.close)


def training_seconds(metrics: Sequence[Mapping[str, float]], steps: int) -> float | None:
    """Estimate the wall clock of a training of `steps` steps from those that it logged; None where none is logged.

    The first step warms up, which later ones do not repeat: it counts once, and `step_seconds` for the rest.

    Args:
        metrics: see `read_metrics`.

    >>> training_seconds([{"step": s, "seconds/step": t} for s, t in ((1, 40.0), (10, 5.0), (20, 3.0))], 20)
    116.0
    """
    later = step_seconds(metrics)
    if later is None:
        return None
    first = next((line["seconds/step"] for line in metrics if line["step"] == 1 and "seconds/step" in line), later)
    return first + later * (steps - 1)


def step_seconds(metrics: Sequence[Mapping[str, float]]) -> float | None:
    """Estimate the mean wall clock of a step behind the first, or that of the first alone; None where none is logged.

    A step that measured the ratio of the gradients took longer, and each of them is logged: it counts as often as it
    was, and the mean of the other lines for the others.

    >>> usual, slow = {"step": 10, "seconds/step": 1.0}, {"step": 21, "seconds/step": 2.0, "gradient_ratio": 0.5}
    >>> step_seconds([usual, slow])
    1.05
    """
    logged = [line for line in metrics if "seconds/step" in line]
    later = [line for line in logged if line["step"] > 1]
    slow = [line["seconds/step"] for line in later if _RATIO in line]
    usual = [line["seconds/step"] for line in later if _RATIO not in line]
    if not usual:
        return fmean(slow or [line["seconds/step"] for line in logged]) if logged else None
    count = int(max(line["step"] for line in later)) - 1
    return (sum(slow) + (count - len(slow)) * fmean(usual)) / count


def last_step(run: Path) -> int:
    """The step of the last whole line, 0 while there is none; cheap enough to ask again and again."""
    path = run / METRICS
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in reversed(lines[-2:]):  # the last may be half written
        with suppress(ValueError, TypeError):
            return int(_scalars(line)["step"])
    return 0


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`, oldest first; a last line cut short by a killed run is left out.

    What was NaN or infinity when it was written, and is null there, is NaN.

    Raises:
        CheckpointError: another line is damaged.
    """
    path = run / METRICS
    lines = path.read_bytes().splitlines() if path.is_file() else []
    result = []
    for number, line in enumerate(lines):
        try:
            result.append(_scalars(line))
        except (ValueError, TypeError) as error:
            if number + 1 < len(lines):
                raise CheckpointError(
                    f"line {number + 1} is damaged", path=path, remedy="Remove the line: only the curves need it"
                ) from error
    return result


def lost_curves(run: Path, step: int, total: int, interval: int) -> list[str]:
    """Warn of a `metrics.jsonl` that ends before the last step that the run has logged, as a disk can leave it.

    None of a run without the file.

    Args:
        step, total: where the run is, and where it ends.
        interval: of the log: earlier versions wrote no line of a checkpoint's step but by it.

    Raises:
        CheckpointError: see `read_metrics`.
    """
    path = run / METRICS
    logged = step if step == total else step - step % interval
    last = max((line["step"] for line in read_metrics(run)), default=0)
    if last >= logged or not path.is_file():
        return []
    text = f"the curves of {path} end at step {last:,}, and the run is at step {step:,}"
    return [f"{text}: the rest of the file is lost or damaged; restore it if you have a copy"]


def _scalars(line: bytes) -> dict[str, float]:
    """What a line holds, by name; raise ValueError or TypeError if it is damaged."""
    values = {name: math.nan if x is None else x for name, x in dict(json.loads(line.decode())).items()}
    if not all(isinstance(x, int | float) for x in values.values()) or not isinstance(values.get("step"), int):
        raise ValueError("no numbers of a step")
    return values
