"""Files of a run, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovps.errors import CheckpointError


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn the disk's refusal to take `path` into a CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot write: {error.strerror or error}",
            path=path,
            remedy="Make room, then run the same command again: it goes on from the last checkpoint",
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old one or the new one, never a part; the folder is made if missing.

    Raises:
        CheckpointError: the disk refuses; what was there is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
