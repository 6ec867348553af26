"""One writing run per store at a time. The lock goes with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovps.cache.files import storage_errors
from ovps.cache.layout import LOCK
from ovps.errors import CacheError


@contextmanager
def exclusive(store: Path) -> Iterator[None]:
    """Hold a store for writing; its folder is made if missing.

    Raises:
        CacheError: another run holds it.
        StorageError: the disk refuses.
    """
    with storage_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        file = open(store / LOCK, "a")  # noqa: SIM115  held for as long as the caller runs
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CacheError("another run is writing to this store", path=store, remedy="Wait until it ends") from error
        yield
