"""Stores in buckets: S3 and what speaks its language, Google's, Azure's."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ovps.cache.answers import answer
from ovps.cache.storage import AT_ONCE, Entry, R, T
from ovps.errors import ConfigError, StorageError
from ovps.extras import extra
from ovps.files import AGAIN
from ovps.waiting import Waits

with extra("remote"):
    import obstore
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )
    from obstore.store import from_url

if TYPE_CHECKING:
    from obstore import Bytes, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CONNECT = timedelta(seconds=5)
ANSWER = timedelta(seconds=20)  # until the answer begins, and between any two pieces of it: a long one takes its time
SENDING = timedelta(seconds=180)  # of a request that sends a large file, or a part of one: 5 MiB, 16 of them at once
LARGE = 2**20  # bytes; fewer are sent within the time of an answer
RETRIES = 6
RETRY = timedelta(seconds=70)  # a try that fails later is the last: four that are not answered, in a minute and a half
RETRY_SENDING = timedelta(seconds=270)  # two
_NEVER = timedelta(days=1)  # the client's own limit, of the whole of an answer, is half a minute

_waits = Waits()

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": (),
    "az": ("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
}
_CLOUDS = {"s3": "Amazon S3", "gs": "Google Cloud Storage", "az": "Azure Storage"}  # where no endpoint is set
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or AWS_SKIP_SIGNATURE=true for a public bucket;"
    ' those of a profile: eval "$(aws configure export-credentials --format env)"',
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY",
}
_KINDS = {"s3a": "s3", "abfs": "az", "abfss": "az"}  # by scheme, where it is another
# what servers call a bucket that is not there, and the address that is asked where no credentials are set
_NO_BUCKET = ("NoSuchBucket", "The specified bucket does not exist", "ContainerNotFound")
# what the client does not call a refusal: of a listing, and of credentials of a session that has ended
_REFUSED = (": 401 ", ": 403 ", "<Code>ExpiredToken</Code>", "<Code>InvalidToken</Code>")
_SKEWED = "<Code>RequestTimeTooSkewed</Code>"
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "Account must be specified", "MissingCredentials")


@dataclass(frozen=True)
class RemoteStorage:
    """A prefix of a bucket. Credentials and endpoint are those of the environment, where it is used.

    There is no lock: folders have names that nobody else has, and a commit is a conditional put.
    """

    url: str
    local = False

    @classmethod
    def of(cls, url: str) -> RemoteStorage:
        """The storage of a URL."""
        return cls(url.rstrip("/"))

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def at(self, key: str = "") -> str:
        return f"{self.url}/{key}" if key else self.url

    def above(self) -> Iterator[RemoteStorage]:
        bucket, *parts = self.url.partition("://")[2].split("/")
        for count in reversed(range(len(parts))):
            yield RemoteStorage("/".join((f"{self.url.partition('://')[0]}://{bucket}", *parts[:count])))

    def get(self, key: str, span: tuple[int, int] | None = None) -> bytes:
        if span is not None and span[0] == span[1]:
            return b""
        with self._told(key):
            if span is None:
                return bytes(answer(_content, self._client, key)[0])
            return bytes(answer(obstore.get_range_async, self._client, key, start=span[0], end=span[1]))

    def each(self, ask: Callable[[T], R], things: Iterable[T], at_once: int = AT_ONCE) -> Iterator[R]:
        with ThreadPoolExecutor(at_once) as pool:
            yield from pool.map(ask, things)

    def sha256(self, key: str) -> str:
        with self._told(key):
            return answer(_sha256, self._client, key)

    def children(self, key: str = "") -> list[str]:
        with self._told(key):
            found = answer(obstore.list_with_delimiter_async, self._client, prefix=key or None)
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted(path.rpartition("/")[2] for path in paths)

    def entries(self, key: str) -> dict[str, Entry]:
        with self._told(key):
            found = answer(_all_below, self._client, key)
        return {f["path"].removeprefix(f"{key}/"): Entry(f["size"], f["last_modified"].timestamp()) for f in found}

    def write(self, key: str, content: bytes | memoryview) -> None:
        with self._written(key):
            answer(obstore.put_async, self._client_for(content), key, content)

    def settle(self, key: str) -> None:
        """Nothing is left to do: what the server has taken is durable."""

    def put(self, key: str, content: bytes) -> None:
        with self._written(key):
            answer(obstore.put_async, self._client_for(content), key, content)

    def replace(self, key: str, content: bytes, expected: Callable[[bytes | None], bool]) -> bool:
        there, mode = self._versioned(key)
        if there == content:
            return True
        if not expected(there):
            return False
        with self._written(key):
            try:
                answer(obstore.put_async, self._client_for(content), key, content, mode=mode)
            except (AlreadyExistsError, PreconditionError):
                # also where an answer was lost and the same put was tried again: then it was ours
                return self._versioned(key)[0] == content
        return True

    def delete(self, key: str) -> None:
        folder, _, name = key.rpartition("/")
        keys = [f"{key}/{inner}" for inner in self.entries(key)] or [key] * (name in self.children(folder))
        if keys:
            with self._told(key):
                answer(obstore.delete_async, self._client, keys)

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()

    @property
    def _client(self) -> ObjectStore:
        return _client(self.url, tuple(os.environ.items()))

    def _client_for(self, content: bytes | memoryview) -> ObjectStore:
        """Who sends a file."""
        return _client(self.url, tuple(os.environ.items()), large=memoryview(content).nbytes > LARGE)

    @property
    def _kind(self) -> str:
        scheme = self.url.partition("://")[0]
        return _KINDS.get(scheme, scheme)

    @property
    def _server(self) -> str:
        """Who is asked, for people."""
        return next((os.environ[name] for name in _ENDPOINTS[self._kind] if os.environ.get(name)), _CLOUDS[self._kind])

    def _versioned(self, key: str) -> tuple[bytes | None, Any]:
        """The content of a file (None: there is none), and the condition that it is still that."""
        try:
            with self._told(key):
                content, meta = answer(_content, self._client, key)
            return bytes(content), {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}
        except FileNotFoundError:
            return None, "create"

    @contextmanager
    def _written(self, key: str) -> Iterator[None]:
        """As `_told`; who writes finds no file missing."""
        try:
            with self._told(key):
                yield
        except FileNotFoundError as error:
            raise self._typed(error, key) from error

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Turn what the server says into an error that names the file; FileNotFoundError stays. Waiting is told."""
        try:
            with _waits.of(self._server, self.at(key)):
                yield
        except FileNotFoundError as error:
            if any(sign in str(error) for sign in _NO_BUCKET):
                raise self._typed(error, key) from error
            raise
        except BaseError as error:
            raise self._typed(error, key) from error

    def _typed(self, error: Exception, key: str) -> StorageError:
        text = str(error)
        said = text.partition("\n\nDebug source")[0].replace("\n", " ").strip()
        if any(sign in text for sign in _NO_BUCKET):
            remedy = "Create the bucket, or check its name and the endpoint (AWS_ENDPOINT_URL)"
            return StorageError("no such bucket", path=self.url, remedy=remedy)
        if _SKEWED in text:
            remedy = "Set the clock of this machine (timedatectl)"
            return StorageError("the server's clock is minutes away from ours", path=self.at(key), remedy=remedy)
        refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or any(s in said for s in _REFUSED)
        if refused or any(sign in text for sign in _NO_CREDENTIALS):
            message = f"the server refuses: {said}" if refused else f"no credentials: {said}"
            return StorageError(message, path=self.at(key), remedy=_CREDENTIALS[self._kind])
        return StorageError(
            f"no answer that helps from the server: {said}",
            path=self.at(key),
            remedy=f"Check network and endpoint, {AGAIN}",
        )


async def _content(client: ObjectStore, key: str) -> tuple[Bytes, ObjectMeta]:
    found = await obstore.get_async(client, key)
    return await found.bytes_async(), found.meta


async def _sha256(client: ObjectStore, key: str) -> str:
    found = hashlib.sha256()
    async for part in (await obstore.get_async(client, key)).stream(min_chunk_size=LARGE):
        await asyncio.to_thread(found.update, part)  # other answers are not kept waiting
    return found.hexdigest()


async def _all_below(client: ObjectStore, key: str) -> Sequence[ObjectMeta]:
    return await obstore.list(client, prefix=key).collect_async()


@lru_cache(maxsize=32)
def _client(url: str, environment: tuple[tuple[str, str], ...], *, large: bool = False) -> ObjectStore:
    """One per process and store, as long as the environment stays as it is: it holds the connections.

    While something is sent nobody sees how far it is, so large files have a client of more patience.

    Args:
        environment: of the process, of which the client reads server, credentials and proxy once, when it is made.

    Raises:
        ConfigError: an endpoint that is no address.
        StorageError: other settings of the environment that cannot be used.
    """
    given = dict(environment)
    endpoints = {name: given[name] for name in _ENDPOINTS[RemoteStorage(url)._kind] if given.get(name)}
    for name, endpoint in endpoints.items():
        _check_endpoint(name, endpoint)
    plain = any(endpoint.startswith("http://") for endpoint in endpoints.values())
    options: ClientConfig = {"connect_timeout": CONNECT, "allow_http": plain, "timeout": SENDING if large else _NEVER}
    if not large:
        options["read_timeout"] = ANSWER
    again: RetryConfig = {
        "max_retries": RETRIES,
        "retry_timeout": RETRY_SENDING if large else RETRY,
    }
    try:
        return from_url(url, client_options=options, retry_config=again)
    except BaseError as error:
        raise RemoteStorage(url)._typed(error, "") from error


def _check_endpoint(name: str, endpoint: str) -> None:
    """The client breaks on what is no address."""
    try:
        parts = urlsplit(endpoint)
        good = (
            parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not re.search(r"\s", endpoint)
        )
    except ValueError:  # a port that is none
        good = False
    if not good:
        raise ConfigError(
            f"{name} is {endpoint!r}, no address of a server",
            remedy=f"Begin it with https:// or http://, for example {name}=http://localhost:9000",
        )
