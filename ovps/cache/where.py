"""Storage of a store, found by the folder or URL that a person types."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from ovps.cache.disk import LocalStorage
from ovps.cache.layout import INFO
from ovps.cache.storage import Storage
from ovps.errors import ConfigError, StorageError
from ovps.places import at_home, check_free
from ovps.protocols import described, lacking

REMOTE = ("s3", "s3a", "gs", "az", "abfs", "abfss")  # schemes of object stores
_SCHEMES = ("file", *REMOTE)
# also with a slash too few, which would be a folder of a strange name; a drive of Windows is one letter
_LIKE_URL = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]+):/|(?P<known>{'|'.join(_SCHEMES)}):", re.IGNORECASE)
_GIVE = f"Give a folder, or a URL of {', '.join(f'{name}://' for name in _SCHEMES)}"
_WITH_ACCOUNT = ("abfs", "abfss")  # container@account

Where = str | os.PathLike[str] | Storage  # what a person may give: a folder, a URL, or what was made of it


def storage_of(where: Where) -> Storage:
    """The storage that a folder, a `file://` URL, or the URL of a bucket and a prefix means. Nothing is looked at.

    Raises:
        ConfigError: a URL of another kind, without a bucket, or with parts that would not be heeded; what was meant for
            a URL and is none; or something else.
        SetupError: a URL of a bucket, and the extra [remote] is not installed.
    """
    if not isinstance(where, (str, os.PathLike)):
        if lacking(where, Storage):
            raise ConfigError(f"no store can be at {described(where)}", remedy=_GIVE)
        return where
    text = os.fspath(where)
    if not text:
        raise ConfigError("no store can be at '', as of a variable that is not set", remedy=_GIVE)
    like = _LIKE_URL.match(text)
    if like is None and "://" not in text:
        return LocalStorage(at_home(Path(text)).absolute())
    scheme = (like["scheme"] or like["known"]) if like else ""
    if scheme.lower() not in _SCHEMES:
        raise ConfigError(f"no store can be at {text!r}", remedy=_GIVE)
    rest = text[len(scheme) + 1 :]
    if scheme not in _SCHEMES or not rest.startswith("//"):
        small = scheme.lower()
        if rest.startswith("//"):
            meant = f"{small}:{rest}"
        else:
            meant = rest or "a folder" if small == "file" else f"{small}://{rest.lstrip('/') or 'BUCKET/STORE'}"
        why = ", as text: a Path drops one of its slashes" if isinstance(where, Path) else ""
        raise ConfigError(f"no store can be at {text!r}", remedy=f"Give {meant}{why}")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ConfigError(f"no URL: {text!r}: {error}", remedy=f"Give {scheme}://BUCKET/STORE, or a folder") from error
    if scheme != "file":
        _check_remote(text, parts)
    mark = re.search(r"[?#]", text)
    if mark:
        raise ConfigError(
            f"the URL of a store ends with its path, and there is a {mark[0]} in {text!r}",
            remedy=f"Give {text[: mark.start()]}; in a name ? is written %3F, and # %23",
        )
    if scheme == "file":
        return LocalStorage(_folder(text, parts))
    from ovps.cache.remote import RemoteStorage  # its packages are an extra

    return RemoteStorage.of(text)


def real_place(storage: Storage) -> str:
    """Give the path or URL of a store, whatever links lead there: two are one store if they have the same."""
    return str(storage.root.resolve()) if isinstance(storage, LocalStorage) else storage.at()


def check_place(storage: Storage) -> None:
    """Check that a store that is to be written, or gone on with, lies not within another one, or among other files.

    Raises:
        ConfigError: it is.
        StorageError: the server does not answer.
    """
    if isinstance(storage, LocalStorage):
        check_free(storage.root, but="store")
        return
    storage.children()  # first, so that a server that does not answer is told of what was asked for
    for outer in storage.above():
        try:
            outer.get(INFO, (0, 1))
        except (FileNotFoundError, StorageError):  # who may use a part of a bucket may not look at the rest
            continue
        raise ConfigError(
            f"this would be written among the files of the store {outer.at()}",
            path=storage.at(),
            remedy="Give another place, one of its own",
        )


def _folder(text: str, parts: SplitResult) -> Path:
    """That of a `file://` URL."""
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(
            f"a file URL has no host, and {parts.netloc!r} would be one in {text!r}",
            remedy=f"Give the folder as it is, {unquote(parts.netloc)}{path}, or file:///ABSOLUTE/PATH",
        )
    if not path:
        raise ConfigError(f"no folder in {text!r}", remedy="Give file:///ABSOLUTE/PATH, or the folder as it is")
    return Path(path)


def _check_remote(text: str, parts: SplitResult) -> None:
    scheme, bucket, path = parts.scheme, parts.netloc, parts.path
    if not bucket:
        raise ConfigError(f"no bucket in {text!r}", remedy=f"Give {scheme}://BUCKET/STORE")
    if ":" in bucket or ("@" in bucket and scheme not in _WITH_ACCOUNT):
        plain = bucket if scheme in _WITH_ACCOUNT else bucket.rpartition("@")[2]
        place = f"{scheme}://{plain.partition(':')[0]}{path}"
        raise ConfigError(  # what is left out of the message may be a secret
            f"the URL of a store has no port, user or password: {scheme}://BUCKET/STORE",
            remedy=f"Give {place}; server and credentials are set in the environment",
        )
    inner = path[1:].rstrip("/")
    if inner and any(unquote(part) in ("", ".", "..") for part in inner.split("/")):
        clean = posixpath.normpath(f"/{unquote(path).lstrip('/')}")
        raise ConfigError(
            f"an empty part, `.` or `..` in the path of {text!r}",
            remedy=f"Give {scheme}://{bucket}{clean}",
        )
