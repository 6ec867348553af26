"""Storage of a store, found by the folder or URL that a person types."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ovps.cache.disk import LocalStorage
from ovps.cache.storage import Storage
from ovps.errors import ConfigError

REMOTE = ("s3", "s3a", "gs", "az", "abfs", "abfss")  # schemes of object stores

Where = str | os.PathLike[str] | Storage  # what a person may give: a folder, a URL, or what was made of it


def storage_of(where: Where) -> Storage:
    """The storage that a folder, a `file://` URL, or the URL of a bucket and a prefix means. Nothing is looked at.

    Raises:
        ConfigError: a URL of another kind, or without a bucket.
        SetupError: a URL of a bucket, and the extra [remote] is not installed.
    """
    if not isinstance(where, (str, os.PathLike)):
        return where
    text = os.fspath(where)
    scheme, separator, _ = text.partition("://")
    if not separator or isinstance(where, Path):
        return LocalStorage(Path(text).absolute())
    if scheme == "file":
        return LocalStorage(Path(unquote(urlsplit(text).path)).absolute())
    if scheme not in REMOTE:
        raise ConfigError(
            f"no store can be at {text!r}",
            remedy=f"Give a folder, or a URL of {', '.join(f'{name}://' for name in ('file', *REMOTE))}",
        )
    if not urlsplit(text).netloc:
        raise ConfigError(f"no bucket in {text!r}", remedy=f"Give {scheme}://BUCKET/STORE")
    from ovps.cache.remote import RemoteStorage  # its packages are an extra

    return RemoteStorage.of(text)
