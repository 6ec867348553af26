"""Files of a store: written as `ovps.files` does, read and hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from ovps import files

LOST = "Restore it, or precompute into a new folder"  # the remedy for what only a whole run writes
THEN = "and run the same command again: what is committed is kept, only the rest is done"


def storage_errors(path: Path) -> AbstractContextManager[None]:
    """Turn an OSError of writing below `path` into a StorageError that names the file."""
    return files.refusals(path, THEN)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: it appears complete and on disk, or not at all.

    Raises:
        StorageError: the disk refuses.
    """
    files.write_whole(path, content, THEN)


def hash_file(path: Path, *, sync: bool = False) -> str:
    """SHA-256 of a file as hex; with `sync` its content is on disk afterwards."""
    with open(path, "rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted by path."""
    yield from sorted(path for path in folder.rglob("*") if not path.is_dir())
