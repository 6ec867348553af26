"""The one seam between a store and what it lies on: a disk (`ovps.cache.disk`) or a bucket (`ovps.cache.remote`).

Files of a store are named by keys, paths relative to it with `/`. Whoever uses a store is given a `Storage`, made once
of what a person typed (`ovps.cache.where`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16  # requests to a server
# remedies for what only a whole run writes, and for `store.json`
LOST = "Restore it, or run again what wrote the store, into a new folder"
SAME_COMMAND = "run the command that wrote the store again, with the same options"
LOST_INFO = f"Restore it, or delete it and {SAME_COMMAND}"


class Entry(NamedTuple):
    """A file of a store: its size, and when it was written, in seconds since 1970."""

    bytes: int
    modified: float


class Storage(Protocol):
    """Holder of the files of one store. Safe to pickle, and to use in several threads.

    Reading raises FileNotFoundError where nothing is, and an OSError or StorageError where it cannot be read; writing
    raises StorageError.

    Attributes:
        local: a disk, where `exclusive` keeps others from writing. Elsewhere nothing does, and commits are conditional.
    """

    local: bool

    @property
    def name(self) -> str:
        """Last part of the folder or URL."""
        ...

    def at(self, key: str = "") -> str:
        """Path or URL of a file, for people."""
        ...

    def above(self) -> Iterator[Storage]:
        """Folders, or prefixes of a bucket, that this lies in, the nearest first."""
        ...

    def get(self, key: str, span: tuple[int, int] | None = None) -> bytes:
        """The content of a file, or its bytes from a start to a stop: fewer where it is shorter."""
        ...

    def each(self, ask: Callable[[T], R], things: Iterable[T], at_once: int = AT_ONCE) -> Iterator[R]:
        """Results of `ask` for each of some things, in their order; several at once where it is mostly waiting.

        Args:
            at_once: most of them; fewer where each asks for many things in turn.
        """
        ...

    def sha256(self, key: str) -> str:
        """SHA-256 of a file as hex."""
        ...

    def children(self, key: str = "") -> list[str]:
        """Names of what is directly below a folder, sorted; none where there is no such folder."""
        ...

    def entries(self, key: str) -> dict[str, Entry]:
        """Every file below a folder, by its path relative to it."""
        ...

    def write(self, key: str, content: bytes | memoryview) -> None:
        """Write a file of a folder that nobody looks into yet; `settle` makes it durable."""
        ...

    def settle(self, key: str) -> None:
        """Make everything below a folder durable, its own name included."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write a file durably: readers see the old one or the new one, never half of it."""
        ...

    def replace(self, key: str, content: bytes, expected: Callable[[bytes | None], bool]) -> bool:
        """Put a file in place of one that is as expected (None: of none), in one step.

        On a disk nobody else can have written (`exclusive`), and nothing is compared.

        Returns:
            False if something else is there, which stays.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete a file, or everything below a folder, as far as that is possible."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other runs from writing, if `local`.

        Raises:
            CacheError: another run is writing.
        """
        ...
