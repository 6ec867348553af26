"""One tree of errors. Each has a stable `kind` (for machines) and an exit code (for shells).

A message says what is wrong, names the file or frame, and ends with what to do about it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

_DENIED = "may not be read"
_WORDS = {  # for what pydantic says in Python's words
    "tuple_type": "expected a list, as in [a, b]",
    "list_type": "expected a list, as in [a, b]",
    "dict_type": "expected names with values, as in {a: 1}",
    "model_type": "expected names with values, as in {a: 1}",
    "missing": "is missing",
    "extra_forbidden": "no such field",
}


def command(*words: object) -> str:
    """Write a command for a message, as a shell takes it: a path with a space in it is quoted."""
    return shlex.join(map(str, words))


def faults_in(error: Any) -> list[Any]:
    """List what pydantic found wrong, but for lists that are too short only because items of them do not count."""
    found: list[Any] = error.errors()
    places = [fault["loc"] for fault in found]
    return [
        fault
        for fault in found
        if fault["type"] != "too_short"
        or not any(len(p) > len(fault["loc"]) and p[: len(fault["loc"])] == fault["loc"] for p in places)
    ]


def faults_of(error: Exception) -> str:
    """Write what is wrong with a file, field by field where pydantic has found it."""
    if not hasattr(error, "errors"):
        return " ".join(str(error).split())
    found = faults_in(error)
    places = [(".".join(map(str, fault["loc"])), _WORDS.get(fault["type"], fault["msg"])) for fault in found]
    return "; ".join(f"{place}: {words}" if place else words for place, words in places).replace("Value error, ", "")


def counted(number: int, what: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def listed(items: Iterable[object], most: int = 8) -> str:
    """Write some names for a message; of many the first, and how many more there are.

    >>> listed(range(5), 3)
    '0, 1, 2 and 2 more'
    >>> listed([])
    'none'
    """
    names = list(map(str, items))
    return ", ".join(names[:most] or ["none"]) + (f" and {len(names) - most} more" if len(names) > most else "")


def right_to_read(path: str | bytes | PathLike[str]) -> str:
    """Say what to do about a file or folder that may not be read, as a remedy: it, or a folder above it, is closed."""
    place = _closed(path) or Path(os.fsdecode(path))
    mode = "u+rx" if place.is_dir() else "u+r"
    return f"Give yourself, or have its owner give you, the right to read it: {command('chmod', mode, place)}"


def _closed(path: str | bytes | PathLike[str]) -> Path | None:
    """What has to be opened for a file or folder to be read: a folder above it, or itself; None if nothing has."""
    place = Path(os.fsdecode(path))
    asked = [*((folder, os.X_OK) for folder in reversed(place.parents)), (place, os.R_OK)]
    return next((one for one, right in asked if os.path.lexists(one) and not os.access(one, right)), None)


def unread(error: Exception, path: str | PathLike[str], remedy: str) -> str:
    """Say in one line that a file cannot be read, and what to do: as `OvpsError` does, for a list of faults.

    Args:
        error: of reading it.
        remedy: what to do, unless the right to read is lacking.
    """
    if isinstance(error, PermissionError) and _closed(path):
        return f"{_DENIED}: {right_to_read(path)}"
    return f"cannot be read: {faults_of(error)}: {remedy}"


def _denied(error: BaseException) -> PermissionError | None:
    """The refusal that an error was raised from, of whatever right."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, PermissionError):
        cause = cause.__cause__
    return cause


class OvpsError(Exception):
    """Anything a user can cause or mend.

    Args:
        message: what is wrong, one sentence without a full stop.
        path: the file or folder at fault; where the right to read was lacking, what may not be read is named instead.
        frame: the token of the frame at fault.
        remedy: what the user can do; where the right to read was lacking, that is said instead.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    reading = True  # what a PermissionError that it was raised from has refused; else its remedy says all

    def __init__(
        self,
        message: str,
        *,
        path: str | bytes | PathLike[str] | None = None,
        frame: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, path, frame, remedy)
        self._message = message
        self._path = path
        self.frame = frame
        self._remedy = remedy

    @property
    def path(self) -> str | None:
        """The file or folder at fault; None if the error is of none."""
        path = self._path if self._unread is None else self._unread
        return None if path is None else os.fsdecode(path)

    @property
    def message(self) -> str:
        """One sentence without a full stop; what may not be read is not called damaged."""
        known = self._unread is None or _DENIED in self._message
        return self._message if known else _DENIED

    @property
    def remedy(self) -> str | None:
        """A sentence about what the user can do; None if nothing is known."""
        return self._remedy if self._unread is None else right_to_read(self._unread)

    @property
    def unreadable(self) -> bool:
        """Tell whether the right to read a file is all that was lacking."""
        return self._unread is not None

    @property
    def _unread(self) -> str | bytes | PathLike[str] | None:
        """The file that could not be read for want of the right; None if the error is of something else."""
        denied = _denied(self) if self.reading else None
        file = (denied.filename or self._path) if denied is not None else None
        return file if file is not None and _closed(file) else None  # else it was to be written, or is no file

    def with_remedy(self, remedy: str) -> Self:
        """Give the same error with another remedy."""
        told = type(self)(self.message, path=self.path, frame=self.frame, remedy=remedy)
        told.reading = self.reading
        return told

    def __str__(self) -> str:
        where = [f"file {self.path}"] if self.path else []
        where += [f"frame {self.frame}"] if self.frame else []
        text = self.message + (f" ({', '.join(where)})" if where else "")
        return f"{text}. {self.remedy}" if self.remedy else text

    def __reduce__(self):  # keyword arguments survive the trip back from a worker process
        return _rebuild, (type(self), self.message, self.path, self.frame, self.remedy)


def _rebuild(cls, message, path, frame, remedy):
    return cls(message, path=path, frame=frame, remedy=remedy)


class ConfigError(OvpsError):
    """A setting, a split, a class name or a command line that cannot be used."""

    kind = "config"
    exit_code = 2


class DatasetError(OvpsError):
    """The data set as a whole: folder, version, tables, split."""

    kind = "dataset"
    exit_code = 3


class FrameError(DatasetError):
    """One frame: missing, truncated or senseless files. May be skipped under `--on-error skip`."""

    kind = "frame"


class CacheError(OvpsError):
    """A store that is missing, damaged, of another schema version, or of another provenance."""

    kind = "cache"
    exit_code = 4


class ProvenanceError(CacheError):
    """Two encoders, grids, data sets, ... in one store."""

    kind = "provenance"


class CorruptStoreError(CacheError):
    """Bytes on disk are not the bytes that were written."""

    kind = "corrupt"


class StorageError(CacheError):
    """A disk that refuses (full, read-only, no right to read), or a bucket whose server refuses or is silent."""

    kind = "storage"
    reading = False


class WeightsError(OvpsError):
    """CLIP weights that are missing, damaged or of another model."""

    kind = "weights"
    exit_code = 5


class CheckpointError(OvpsError):
    """A training run or checkpoint that is missing, damaged or of another architecture."""

    kind = "checkpoint"
    exit_code = 6


class VocabularyError(OvpsError):
    """A vocabulary that cannot be parsed, or is of another CLIP than the cache."""

    kind = "vocabulary"
    exit_code = 7


class SetupError(OvpsError):
    """The installation: a package or build that is missing or does not fit; or memory and threads that are lacking."""

    kind = "setup"
    exit_code = 8


class TrainingError(OvpsError):
    """A loss or gradient that is no number, a process that trains or loads and has gone, or two trainings in one."""

    kind = "training"
    exit_code = 9


class Interrupted(OvpsError):
    """Ctrl-C, SIGTERM or SIGHUP: the command ended before its work did, in order."""

    kind = "interrupted"
    exit_code = 130
