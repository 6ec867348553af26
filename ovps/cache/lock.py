"""One writing run per store at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from ovps.cache.layout import LOCK
from ovps.errors import CacheError
from ovps.files import AGAIN, locked


def exclusive(folder: Path) -> AbstractContextManager[None]:
    """Hold a store for writing; its folder is made if missing.

    Raises:
        CacheError: another run holds it.
        StorageError: the disk refuses.
    """
    busy = CacheError("another run is writing to this store", path=folder, remedy="Wait until it ends")
    return locked(folder / LOCK, busy, AGAIN)
