"""A store in a folder of a disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ovps import files
from ovps.cache.layout import LOCK, MANIFESTS, PARTITIONS
from ovps.cache.storage import AT_ONCE, Entry, R, T
from ovps.errors import CacheError, StorageError, command, right_to_read
from ovps.files import AGAIN, sync_folder


@dataclass(frozen=True)
class LocalStorage:
    """A folder of a disk, written as `ovps.files` does."""

    root: Path
    local = True

    def __str__(self) -> str:
        return str(self.root)

    @property
    def name(self) -> str:
        return self.root.resolve().name

    def at(self, key: str = "") -> str:
        return str(self.root / key)

    def above(self) -> Iterator[LocalStorage]:
        return map(LocalStorage, self.root.resolve().parents)

    def get(self, key: str, span: tuple[int, int] | None = None) -> bytes:
        with _readable(self.root / key), open(self.root / key, "rb") as file:
            if span is None:
                return file.read()
            file.seek(span[0])
            return file.read(span[1] - span[0])

    def each(self, ask: Callable[[T], R], things: Iterable[T], at_once: int = AT_ONCE) -> Iterator[R]:
        return map(ask, things)

    def sha256(self, key: str) -> str:
        with _readable(self.root / key):
            return files.file_sha256(self.root / key)

    def children(self, key: str = "") -> list[str]:
        folder = self.root / key
        with _readable(folder):
            return sorted(os.listdir(folder)) if folder.is_dir() else []

    def entries(self, key: str) -> dict[str, Entry]:
        folder = self.root / key
        found = {}
        with _readable(folder):
            for inner, _, names in os.walk(folder, onerror=_raise_denied):
                for path in (Path(inner, name) for name in names):
                    state = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
                    found[path.relative_to(folder).as_posix()] = Entry(state.st_size, state.st_mtime)
        return found

    def write(self, key: str, content: bytes | memoryview) -> None:
        path = self.root / key
        with files.refusals(path, AGAIN):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def settle(self, key: str) -> None:
        folder = self.root / key
        with files.refusals(folder, AGAIN):
            folder.mkdir(parents=True, exist_ok=True)
            for inner, _, names in os.walk(folder):
                for path in (Path(inner, name) for name in names):
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
                sync_folder(Path(inner))
            sync_folder(folder.parent)

    def put(self, key: str, content: bytes) -> None:
        files.write_whole(self.root / key, content, AGAIN)

    def replace(self, key: str, content: bytes, expected: Callable[[bytes | None], bool]) -> bool:
        self.put(key, content)
        return True

    def delete(self, key: str) -> None:
        path = self.root / key
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def exclusive(self) -> AbstractContextManager[None]:
        self._check_rights()
        busy = CacheError("another run is writing to this store", path=self.root, remedy="Wait until it ends")
        return files.locked(self.root / LOCK, busy, AGAIN)

    def _check_rights(self) -> None:
        """Ask for all the rights that a run needs before it computes anything; what a disk refuses, it says itself.

        Raises:
            StorageError: something in the store may not be written.
        """
        parts = [self.root / name for name in ("", PARTITIONS, MANIFESTS, LOCK)]
        closed = [part for part in parts if part.exists() and not os.access(part, os.W_OK)]
        if closed and not os.statvfs(self.root).f_flag & os.ST_RDONLY:
            right = command("chmod", "-R", "u+w", self.root)
            raise StorageError(
                f"cannot write: there is no right to write {' and '.join(part.name for part in closed)}",
                path=self.root,
                remedy=f"Give yourself, or have its owner give you, the right: {right}; or take a copy of your own",
            )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tell a refusal to read from damage: nothing is missing, and nothing is to be made again."""
    try:
        yield
    except PermissionError as error:
        file = error.filename or path
        raise StorageError("may not be read", path=file, remedy=right_to_read(file)) from error


def _raise_denied(error: OSError) -> None:
    """Raise what `os.walk` would pass over: a folder that is closed; one that is not there is passed over."""
    if isinstance(error, PermissionError):
        raise error
