"""Pieces of files read from a bucket, kept on this machine's disk: bounded, shared by all processes, LRU.

Pieces are named after the hash of the file that they are of, so none is ever stale, whichever store it came from.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from uuid import uuid4

from ovps.errors import ConfigError
from ovps.files import TEMPORARY
from ovps.progress import show_warnings
from ovps.shortage import faults

SIZE = "OVPS_READ_CACHE_GB"  # 0: nothing is kept
FOLDER = "OVPS_READ_CACHE"
DEFAULT_GB = 50.0
RESERVE = 2**31  # bytes of the disk that are left to others
_LOCK = ".lock"
_LOOKS = 64  # a process looks at the folder again after having added this part of the limit


@dataclass(eq=False)
class ReadThrough:
    """A folder of pieces of files.

    Attributes:
        limit: bytes at most, as long as no more than eight processes add to it at once.
    """

    folder: Path
    limit: int
    _added: int = field(init=False)

    def __post_init__(self) -> None:
        self._added = self.limit  # the first piece that is added looks at what others have left

    def get(self, name: str, fetch: Callable[[], bytes], sound: Callable[[bytes], bool]) -> bytes:
        """A piece of this name: the one that is kept, or else what `fetch` brings, which is kept from now on.

        Args:
            sound: whether the content is the right one; what is not is neither kept nor believed.
        """
        file = self.folder / name[:2] / name
        with suppress(OSError):
            content = file.read_bytes()
            if sound(content):
                with suppress(OSError):
                    os.utime(file)  # it may just have been evicted
                return content
        content = fetch()
        if sound(content):
            self._keep(file, content)
        return content

    def _keep(self, file: Path, content: bytes) -> None:
        if self._added >= self.limit // _LOOKS:
            self._added = 0
            with suppress(OSError):
                self._evict()
        self._added += len(content)
        part = file.with_name(f"{TEMPORARY}{uuid4().hex}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            os.replace(part, file)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            _warn(self.folder, str(error.strerror))

    def _evict(self) -> None:
        """Delete what was used least recently, one process after another: who adds waits for who deletes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / _LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._shrink()

    def _shrink(self) -> None:
        files = []
        for inner, _, names in os.walk(self.folder):
            for path in (os.path.join(inner, name) for name in names if name != _LOCK):
                with suppress(OSError):
                    state = os.stat(path)
                    files.append((state.st_mtime_ns, state.st_size, path))
        total = sum(size for _, size, _ in files)
        most = min(self.limit * 7 // 8, total + shutil.disk_usage(self.folder).free - RESERVE)
        if total <= most:
            return
        for _, size, path in sorted(files):
            if total <= most * 7 // 8:
                break
            with suppress(OSError):
                os.unlink(path)
            total -= size


def read_through() -> ReadThrough | None:
    """The one that the environment asks for; None if it asks for none.

    Raises:
        ConfigError: a size that is no number, or no folder is named and this user has no home.
    """
    return _of(os.environ.get(FOLDER), os.environ.get("XDG_CACHE_HOME"), os.environ.get(SIZE) or str(DEFAULT_GB))


@cache
def _of(folder: str | None, caches: str | None, size: str) -> ReadThrough | None:
    try:
        limit = int(float(size) * 1e9)
        if limit < 0:
            raise ValueError(size)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{SIZE} is {size!r}", remedy=f"Set {SIZE} to a number of GB, 0 for none") from error
    if not limit:
        return None
    return ReadThrough(Path(folder) if folder else Path(caches or _home() / ".cache") / "ovps" / "reads", limit)


def _home() -> Path:
    try:
        return Path.home()
    except faults(RuntimeError) as error:
        raise ConfigError(
            "what is read from a bucket is kept in the home folder, and this user has none",
            remedy=f"Set {FOLDER} to a folder to keep it in, or {SIZE} to 0 to keep nothing",
        ) from error


_warned: set[tuple[Path, str]] = set()
_warning = Lock()


def _warn(folder: Path, reason: str) -> None:
    """Say once that reading goes on, but slower."""
    with _warning:
        if (folder, reason) in _warned:
            return
        _warned.add((folder, reason))
    show_warnings([f"{folder} does not keep what is read: {reason}; set {FOLDER} to another folder, or {SIZE} to less"])
