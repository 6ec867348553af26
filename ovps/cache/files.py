"""Files that are either there as a whole or not at all, and a disk that refuses, told plainly."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from ovps.errors import StorageError

TEMPORARY = ".tmp-"

_REMEDIES = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space: the disk quota is used up",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "Choose a folder on a disk that can be written",
    errno.EACCES: "Make the folder writable",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of writing below `path` into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write: {error.strerror or error}",
            path=error.filename or path,
            remedy=f"{_REMEDIES.get(error.errno or 0, 'Mend the disk')} and run the same command again: "
            "what is committed is kept, only the rest is done",
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: it appears complete and on disk, or not at all."""
    temporary = path.with_name(f"{TEMPORARY}{uuid4().hex}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_file(path: Path, *, sync: bool = False) -> str:
    """SHA-256 of a file as hex; with `sync` its content is on disk afterwards."""
    with open(path, "rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted by path."""
    yield from sorted(path for path in folder.rglob("*") if not path.is_dir())
