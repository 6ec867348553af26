"""An S3 server on loopback, and a proxy that is rude to who asks it."""

from __future__ import annotations

import logging
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest
from moto.server import ThreadedMotoServer

from ovps.cache import read_through, remote
from ovps.cache.where import storage_of

BUCKET = "bucket"


def environment(endpoint: str) -> dict[str, str]:
    """What a shell sets to use the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def served() -> Iterator[str]:
    """The endpoint of a server with one empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    try:
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")).read()
        yield endpoint
    finally:
        server.stop()


@contextmanager
def used(endpoint: str, folder) -> Iterator[None]:
    """Use a server for stores in buckets, with what is read kept in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(endpoint).items():
            patch.setenv(name, value)
        patch.setenv(read_through.FOLDER, str(folder))
        remote._client.cache_clear()
        try:
            yield
        finally:
            remote._client.cache_clear()


Answer = Callable[[str, str], int | None]  # (method, path) -> a status instead of the server's own answer


def _own(method: str, path: str) -> None:
    """The server's own answer to everything."""


class Rude:
    """A proxy before a server that answers some requests itself, without asking.

    Attributes:
        answer: the status for a request, by its method and path; None: the server's own answer.
        lost: the same, but the server has done what it was asked.
        asked: requests so far, as method and path.
    """

    def __init__(self, server: str) -> None:
        self.answer: Answer = _own
        self.lost: Answer = _own
        self.asked: list[tuple[str, str]] = []
        rude = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args) -> None:
                pass

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                rude.asked.append((self.command, self.path))
                status = rude.answer(self.command, self.path)
                if status is not None:
                    self.respond(status, {}, b"<Error><Code>Rude</Code></Error>")
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() != "content-length"}
                headers.setdefault("Content-Type", "application/octet-stream")  # urllib would call it a form
                asked = urllib.request.Request(
                    server + self.path, body if self.command in ("PUT", "POST") else None, headers, method=self.command
                )
                try:
                    with urllib.request.urlopen(asked) as found:
                        answer = (found.status, dict(found.headers), found.read())
                except urllib.error.HTTPError as error:
                    answer = (error.code, dict(error.headers), error.read())
                status = rude.lost(self.command, self.path)
                self.respond(*(answer if status is None else (status, {}, b"<Error><Code>Rude</Code></Error>")))

            def respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                dropped = ("content-length", "connection", "transfer-encoding", "server", "date")
                for name, value in headers.items():
                    if name.lower() not in dropped:
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def speaking(speak: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[float]]]:
    """The endpoint of a server that does as `speak` says to each connection, and when connections came."""
    came: list[float] = []
    taken: list[socket.socket] = []  # left open until the end

    def accept() -> None:
        with suppress(OSError):
            while True:
                taken.append(server.accept()[0])
                came.append(monotonic())
                Thread(target=spoken, args=taken[-1:], daemon=True).start()

    def spoken(connection: socket.socket) -> None:
        with suppress(OSError):
            speak(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", came
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in taken:
                connection.close()


def silent(connection: socket.socket) -> None:
    """Take the request and never answer."""


def copy_of(url: str, folder: Path) -> Path:
    """A store in a bucket, file by file in a folder."""
    storage = storage_of(url)
    for key in storage.entries(""):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(storage.get(key))
    return folder
