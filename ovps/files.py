"""The one way to write a file: whole and on the disk, or not at all; a disk that refuses, told plainly; and locks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

from ovps.errors import ConfigError, OvpsError, StorageError
from ovps.shortage import faults

TEMPORARY = ".tmp-"  # what files are called until they are whole
CHOOSE = "or choose another folder"
AGAIN = "and run the same command again: what is committed is kept, only the rest is done"

_MENDS = {
    0: "Free some space, or raise the limit on file sizes (ulimit -f)",  # numpy says how much was written, and not why
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space: the disk quota is used up",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "Choose a folder on a disk that can be written",
    errno.EISDIR: "A folder of that name is there: give another name",
    errno.ENOTDIR: "A file stands where a folder is to be: move it away",
    errno.EEXIST: "A file stands where a folder is to be: move it away",
    errno.ENAMETOOLONG: "Give a shorter name",
}


@contextmanager
def refusals(path: Path, then: str = CHOOSE, error: type[OvpsError] = StorageError) -> Iterator[None]:
    """Turn the disk's refusal of something below `path` into an error that names the file.

    Args:
        path: named where the system names none.
        then: what to do once the disk is mended, as the end of a sentence.
        error: its class.
    """
    try:
        yield
    except faults(OSError) as refusal:
        fault = _at_fault(refusal, path)
        mend = _MENDS.get(refusal.errno or 0, "Mend the disk")
        if refusal.errno == errno.EACCES:
            mend = f"Make {_closed(fault.absolute())} writable"
        remedy = mend if refusal.errno == errno.EROFS and then == CHOOSE else f"{mend}, {then}"
        told = error(f"cannot write: {refusal.strerror or refusal}", path=fault, remedy=remedy)
        told.reading = False
        raise told from refusal


def check_writable(path: Path, *, file: bool = False) -> None:
    """Try whether something can be written at a place, before the work whose result it is; nothing is left there.

    Args:
        path: the folder that files are to be written in, or the file.
        file: it is a file.

    Raises:
        StorageError: the disk refuses, or something else stands there.
    """
    folder = path.parent if file else path
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    with refusals(path):
        if file and path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        try:
            TemporaryFile(dir=there).close()
        except OSError as refusal:
            refusal.filename = str(there)  # not the file that was tried
            raise


def _closed(path: Path) -> Path:
    """What may not be written: a file, or the folder that is there of those above it."""
    if path.is_file() and not os.access(path, os.W_OK):
        return path
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _at_fault(refusal: OSError, path: Path) -> Path:
    """The file as its user knows it: not the temporary one, and the one that is in the way of a folder."""
    named = Path(os.fsdecode(refusal.filename)) if refusal.filename is not None else path
    if refusal.errno in (errno.ENOTDIR, errno.EEXIST):
        return next((part for part in (named, *named.parents) if part.is_file()), named)
    return path if named.name.startswith(TEMPORARY) else named


def write_whole(path: Path, content: bytes, then: str = CHOOSE, error: type[OvpsError] = StorageError) -> Path:
    """Write a file atomically: readers see the old one or the new one. Its folder is made if missing.

    Args:
        then, error: see `refusals`.

    Raises:
        StorageError, or another `error`: the disk refuses; what was there is untouched.
    """
    write_together({path: content}, then, error)
    return path


def write_together(contents: Mapping[Path, bytes], then: str = CHOOSE, error: type[OvpsError] = StorageError) -> None:
    """Write files that belong together: none takes its name, the last given last, before all are on the disk.

    Args:
        then, error: see `refusals`.

    Raises:
        StorageError, or another `error`: the disk refuses; where that is for want of room, what was there is untouched.
    """
    parts = {path: path.with_name(f"{TEMPORARY}{uuid4().hex}") for path in contents}
    try:
        for path, part in parts.items():
            with refusals(path, then, error):
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(part, "wb") as file:
                    file.write(contents[path])
                    file.flush()
                    os.fsync(file.fileno())
        for path, part in parts.items():
            with refusals(path, then, error):
                os.replace(part, path)
                sync_folder(path.parent)
    except (OSError, error):
        for part in parts.values():
            with suppress(OSError):
                part.unlink()
        raise


@contextmanager
def locked(path: Path, busy: OvpsError, then: str = CHOOSE, error: type[OvpsError] = StorageError) -> Iterator[None]:
    """Hold a lock file; its folder is made if missing. The lock goes with the process that holds it, however that ends.

    Args:
        busy: raised where another process holds it, or this one already.
        then, error: see `refusals`.

    Raises:
        OvpsError: `busy`.
        ConfigError: this is a worker process that runs its parent's script again.
        StorageError, or another `error`: the disk refuses.
    """
    with refusals(path, then, error):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115  held for as long as the caller runs
    with file:
        with refusals(path, then, error):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as refusal:
                raise (_run_again() if _imports_main() else busy) from refusal
        yield


def _imports_main() -> bool:
    """Tell whether this process has only begun: multiprocessing imports the script that started it, by this mark."""
    return getattr(multiprocessing.current_process(), "_inheriting", False)


def _run_again() -> OvpsError:
    return ConfigError(
        "a worker process imports the script that started it, and with it does again all that the script does",
        remedy='Put what the script does below `if __name__ == "__main__":`',
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safetensors_metadata(content: bytes) -> dict[str, str]:
    """Read the metadata of a safetensors file from its content: 8 bytes of length, little-endian, and JSON.

    The library reads it from files alone, whose paths it takes in UTF-8 only.

    Raises:
        ValueError: no such file.
    """
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__") or {})


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
