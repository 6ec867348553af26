"""Files of a run, written as `ovps.files` does: a disk that refuses is an error of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from ovps import files
from ovps.errors import CheckpointError

LOCK = ".lock"
_THEN = "then run the same command again: it goes on from the last checkpoint, if there is one"


def full_disk(path: Path) -> AbstractContextManager[None]:
    """Turn the disk's refusal to take `path` into a CheckpointError."""
    return files.refusals(path, _THEN, CheckpointError)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old one or the new one, never a part; the folder is made if missing.

    Raises:
        CheckpointError: the disk refuses; what was there is untouched.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together, as `ovps.files` does.

    Raises:
        CheckpointError: the disk refuses; where that is for want of room, what was there is untouched.
    """
    files.write_together(contents, _THEN, CheckpointError)


def exclusive(run: Path) -> AbstractContextManager[None]:
    """Hold the folder of a run for writing; it is made if missing.

    Raises:
        CheckpointError: another process trains or scores it; or the disk refuses.
    """
    busy = CheckpointError("another process trains or scores this run", path=run, remedy="Wait until it ends")
    return files.locked(run / LOCK, busy, _THEN, CheckpointError)
