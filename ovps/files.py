"""Files that readers see as a whole or not at all, and a disk that refuses, told plainly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ovps.errors import StorageError


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn the disk's refusal to change `path` into a StorageError that names it."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write: {error.strerror or error}",
            path=path,
            remedy="Free some space, or choose a folder that can be written",
        ) from error


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file beside its place and move it there; its folder is made if missing.

    It is not waited for until the bytes are on the disk: what loss of power takes is written again.

    Raises:
        StorageError: the disk refuses; what was there is untouched.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            os.replace(part, path)
        finally:
            with suppress(OSError):  # where there is no folder, there is no part
                part.unlink()
    return path
