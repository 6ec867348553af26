"""Reading `store.json`: what a store says of itself."""

from __future__ import annotations

import json

from pydantic import ValidationError

from cache_schemas import SCHEMA_VERSION, StoreInfo, content_sha256
from ovps.cache.layout import INFO, INFO_SHA256
from ovps.cache.storage import LOST_INFO, Storage
from ovps.errors import CacheError, CorruptStoreError
from ovps.shortage import faults


def read_info(storage: Storage) -> StoreInfo:
    """`store.json` of a store.

    Raises:
        CacheError: no store there, or one of another schema version.
        CorruptStoreError: unreadable.
    """
    file = storage.at(INFO)
    try:
        content = json.loads(storage.get(INFO).decode())
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise CacheError(
                f"the store has schema version {version}, this ovps reads version {SCHEMA_VERSION}",
                path=file,
                remedy="Use the ovps that wrote it, or run `ovps precompute` into a new folder",
            )
        stated = content.pop(INFO_SHA256, None)  # stores of earlier have none
        if stated not in (None, content_sha256(content)):
            raise ValueError("not the content that was written")
        return StoreInfo.model_validate(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CacheError("no cache here", path=storage.at(), remedy="Make one: ovps precompute") from error
    except faults(OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise CorruptStoreError(f"not a valid {INFO}: {error}", path=file, remedy=LOST_INFO) from error
