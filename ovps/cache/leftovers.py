"""Folders of partitions that no manifest names: of runs that did not finish, or of a manifest that was lost."""

from __future__ import annotations

from contextlib import suppress
from time import time

from cache_schemas import StoreInfo
from ovps.cache.layout import MANIFESTS, PARTITIONS, partition_key, partition_of
from ovps.cache.manifest import partitions, read_manifests
from ovps.cache.partition import is_complete
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.errors import StorageError, command, counted
from ovps.files import TEMPORARY
from ovps.progress import show_warnings

LEFT_SECONDS = 24 * 3600  # after which what was not committed is of a run that has ended

_told: set[str] = set()  # stores of which a warning was given


def lost_partitions(storage: Storage, info: StoreInfo) -> dict[str, str]:
    """Partitions without a manifest, and a folder of each that is whole."""
    folders = storage.children(PARTITIONS)
    named = set(partitions(storage))
    unnamed = [folder for folder in folders if partition_of(folder) not in named]
    complete = storage.each(lambda folder: is_complete(storage, folder, info.provenance), unnamed)
    found = {partition_of(folder): folder for folder, whole in zip(unnamed, complete, strict=True) if whole}
    there = partitions(storage)  # a run that writes meanwhile may have committed one
    return {name: folder for name, folder in found.items() if name not in there}


def lost_warnings(storage: Storage, info: StoreInfo) -> tuple[str, ...]:
    """Warn of partitions that have lost their manifest: whoever reads the store does without their frames."""
    lost = lost_partitions(storage, info)
    if not lost:
        return ()
    return (
        f"{counted(len(lost), 'partition')} of {storage.at()} lost the manifest, as {next(iter(lost))}: frames in there"
        f" are not used ({command('ovps', 'cache', 'verify', storage.at())})",
    )


def remove_leftovers(storage: Storage) -> list[str]:
    """Delete what no manifest names: of runs that did not finish, and of partitions that were replaced.

    What is whole and of a partition that has no manifest stays, until it has one: it may be all there is of its frames.
    Those partitions are returned.

    Only for who has the store to itself: what another run is writing looks the same. Where nothing locks a store, only
    what is older than any partition takes to compute. What a server does not let go of stays, with a warning.

    Raises:
        CorruptStoreError: a manifest that cannot be read; nothing was deleted.
    """
    named = {part.folder for row in read_manifests(storage) for part in row.parts.values()}
    lost = lost_partitions(storage, read_info(storage))
    folders = [
        folder
        for folder in storage.children(PARTITIONS)
        if folder.endswith(".zarr") and folder not in named and partition_of(folder) not in lost
    ]
    with suppress(OSError):
        keys = map(partition_key, folders)
        left = [key for key in keys if storage.local or _newest(storage, key) < time() - LEFT_SECONDS]
        for folder in ("", f"{MANIFESTS}/"):
            names = storage.children(folder.rstrip("/"))
            left += [folder + name for name in names if name.startswith(TEMPORARY)]
        for number, key in enumerate(left):
            try:
                storage.delete(key)
            except StorageError as error:  # nobody needs what is left to go: a bucket may keep all there ever was
                if storage.at() not in _told:
                    _told.add(storage.at())
                    count = counted(len(left) - number, "leftover")
                    show_warnings(
                        [
                            f"{count} of earlier runs cannot be deleted, and take space in {storage.at()}:"
                            f" {error.message}. Nobody reads them: leave them, or have them deleted by who may"
                        ]
                    )
                break
    return list(lost)


def _newest(storage: Storage, key: str) -> float:
    return max((entry.modified for entry in storage.entries(key).values()), default=0.0)
