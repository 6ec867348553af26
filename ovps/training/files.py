"""Files of a run, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from ovps.errors import CheckpointError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old one or the new one, never a part; the folder is made if missing.

    Raises:
        CheckpointError: the disk refuses; what was there is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write: {error.strerror or error}",
            path=path,
            remedy="Make room, then run the same command again: it goes on from the last checkpoint",
        ) from error
