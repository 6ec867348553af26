"""Reading `store.json`: what a store says of itself."""

from __future__ import annotations

import json

from pydantic import ValidationError

from cache_schemas import SCHEMA_VERSION, StoreInfo, content_sha256
from ovps.cache.disk import LocalStorage
from ovps.cache.layout import INFO, INFO_SHA256, MANIFESTS
from ovps.cache.storage import LOST_INFO, SAME_COMMAND, Storage
from ovps.errors import CacheError, CorruptStoreError, faults_of
from ovps.places import folder_meant
from ovps.shortage import faults
from ovps.versions import WROTE_IT, only_unknown


def read_info(storage: Storage) -> StoreInfo:
    """`store.json` of a store.

    Raises:
        CacheError: no store there, or one of another version.
        CorruptStoreError: unreadable, or missing where there are manifests.
    """
    file = storage.at(INFO)
    try:
        content = json.loads(storage.get(INFO).decode())
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise CacheError(
                f"the store has schema version {version}, this ovps reads version {SCHEMA_VERSION}",
                path=file,
                remedy=f"{WROTE_IT}, or run `ovps precompute` into a new folder",
            )
        stated = content.pop(INFO_SHA256, None)  # stores of earlier have none
        if stated not in (None, content_sha256(content)):
            raise ValueError("not the content that was written")
        return StoreInfo.model_validate(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        if storage.children(MANIFESTS):
            raise CorruptStoreError(
                f"{INFO} is missing, and without it the store cannot be read",
                path=file,
                remedy=f"Restore it, or {SAME_COMMAND}",
            ) from error
        meant = folder_meant(storage.root, INFO, "store") if isinstance(storage, LocalStorage) else None
        raise CacheError("no cache here", path=storage.at(), remedy=meant or "Make one: ovps precompute") from error
    except faults(OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        if unknown := only_unknown(error):
            raise CacheError(unknown, path=file, remedy=WROTE_IT) from error
        raise CorruptStoreError(f"not a valid {INFO}: {faults_of(error)}", path=file, remedy=LOST_INFO) from error
