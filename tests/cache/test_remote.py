"""A store in a bucket: the same bytes as on a disk, and a server that refuses, fails or is slow never damages it."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import pytest

from cache_schemas import PartitionRow
from ovps import progress
from ovps.cache import leftovers, remote, writer
from ovps.cache.answers import LET_GO
from ovps.cache.info import store_info
from ovps.cache.layout import PARTITIONS, VOCABULARY, manifest_key, new_folder, partition_key
from ovps.cache.leftovers import remove_leftovers
from ovps.cache.manifest import read_manifest, write_manifest
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.cache.writer import EncodedFrame, create_store, stored_frames, write_partition
from ovps.errors import CacheError, ConfigError, CorruptStoreError, ProvenanceError, StorageError
from ovps.interrupt import listening
from ovps.taxonomy import load_taxonomy
from ovps.waiting import Waits
from tests.helpers.s3 import BUCKET, Rude, copy_of, served, silent, speaking, used
from tests.helpers.stores import written
from tests.helpers.synthetic_store import provenance, vocabulary, write_synthetic_store

PARTITION, SCENE = "synthetic-0000.000000", "synthetic-0000"
SIZE = {"frames": 1, "points": 40, "clip_dim": 4, "subsets": ("train",)}


@pytest.fixture(scope="module")
def endpoint():
    with served() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _server(endpoint, tmp_path):
    with used(endpoint, tmp_path / "reads"):
        yield


@pytest.fixture
def url():
    url = f"s3://{BUCKET}/{uuid4().hex}/store"
    write_synthetic_store(url, **SIZE)
    return url


@pytest.fixture
def rude(endpoint):
    rude = Rude(endpoint)
    yield rude
    rude.close()


@contextmanager
def through(rude, folder, *, retries: int = 0):
    """Ask the rude server, and try again so often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "RETRIES", retries)
        with used(rude.endpoint, folder):
            yield


def changed(url: str, factor: float) -> list[EncodedFrame]:
    """The frames of PARTITION, but for their intensity."""
    storage = storage_of(url)
    row = read_manifest(storage, PARTITION)
    frames = stored_frames(storage, row, {frame.token for frame in row.frames})
    return [EncodedFrame(f.row, f.arrays | {"points/intensity": factor * f.arrays["points/intensity"]}) for f in frames]


def replace(url: str, frames: list[EncodedFrame]) -> PartitionRow:
    storage = storage_of(url)
    return write_partition(storage, PARTITION, SCENE, frames, before=read_manifest(storage, PARTITION))


def intensity(url: str) -> bytes:
    store = Store.open(url)
    return store.read(store.frames[0]).intensity.tobytes()


def test_the_same_bytes_as_on_a_disk(url, tmp_path):
    disk = write_synthetic_store(tmp_path / "disk", **SIZE)
    assert verify_store(url) == []
    assert written(copy_of(url, tmp_path / "copy")) == written(disk)
    assert intensity(url) == intensity(disk)
    alike = {"path": None, "bytes": None}
    assert store_info(url).model_copy(update=alike) == store_info(disk).model_copy(update=alike)


def test_who_commits_later_is_told_and_changes_nothing(url, monkeypatch):
    storage = storage_of(url)
    mine, theirs = changed(url, 2), changed(url, 3)
    before = read_manifest(storage, PARTITION)
    other = []

    def other_first(storage, row, expected):
        monkeypatch.setattr(writer, "write_manifest", write_manifest)
        other.append(write_partition(storage, PARTITION, SCENE, theirs, before=before))
        write_manifest(storage, row, expected)

    monkeypatch.setattr(writer, "write_manifest", other_first)
    with pytest.raises(CacheError, match=r"another run has committed partition synthetic-0000.000000.*same command"):
        write_partition(storage, PARTITION, SCENE, mine, before=before)
    assert read_manifest(storage, PARTITION) == other[0]
    assert verify_store(url) == []
    assert len(storage.children(PARTITIONS)) == 2, "what the loser wrote is gone"
    write_partition(storage, PARTITION, SCENE, mine, before=other[0])
    assert verify_store(url) == []


def test_who_looked_before_another_put_puts_nothing(url, monkeypatch):
    """The moment between looking and putting, which only the server can guard."""
    storage = storage_of(url)
    key, looked = manifest_key(PARTITION), remote.RemoteStorage._versioned

    def other_meanwhile(self, key):
        seen = looked(self, key)
        monkeypatch.setattr(remote.RemoteStorage, "_versioned", looked)
        storage.put(key, b"theirs")
        return seen

    for new in (key, "new"):
        monkeypatch.setattr(remote.RemoteStorage, "_versioned", other_meanwhile)
        assert not storage.replace(new, b"mine", lambda there: True)
        assert storage.get(new) == b"theirs"


def test_two_that_make_a_store_at_once(monkeypatch):
    taxonomy = load_taxonomy("nuscenes")
    storage = storage_of(f"s3://{BUCKET}/{uuid4().hex}")
    monkeypatch.setattr(writer, "is_store", lambda storage: False)  # each looked before the other wrote
    create_store(storage, provenance(), taxonomy, vocabulary())
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_check_ours", lambda storage: None)
        create_store(storage, provenance(), taxonomy, vocabulary())  # of the same settings
        with pytest.raises(ProvenanceError):
            create_store(storage, provenance(encoder="RN50"), taxonomy, vocabulary())
        with pytest.raises(CacheError, match="another run with other settings is making a store") as caught:
            create_store(storage, provenance(encoder="RN50"), taxonomy, vocabulary(seed=1))
    assert caught.value.path == storage.at(VOCABULARY)
    assert verify_store(storage) == []


@pytest.mark.slow
def test_whatever_request_fails_the_partition_is_as_before_or_as_after(url, rude, tmp_path):
    """From some request on the server answers nothing but errors."""
    states = [changed(url, 1), changed(url, 2)]
    whole = [frame[0].arrays["points/intensity"].tobytes() for frame in states]
    with through(rude, tmp_path / "reads"):
        replace(url, states[1])
    writes = [n for n, (method, _) in enumerate(rude.asked) if method == "PUT"]
    now, seen = 1, set()
    for fails in (writes[0], writes[len(writes) // 2], writes[-1], writes[-1] + 1):
        rude.asked.clear()
        rude.answer = lambda method, path, fails=fails: 503 if len(rude.asked) > fails else None
        told = ""
        with through(rude, tmp_path / "reads"):
            try:
                replace(url, states[1 - now])
            except StorageError as error:
                told = str(error)
        assert verify_store(url) == []
        found = whole.index(intensity(url))
        assert not told or ("503" in told and "run the same command again" in told)
        seen.add((bool(told), found != now))
        now = found
    assert seen == {(True, False), (False, True)}


def test_a_server_that_fails_now_and_then(url, rude, tmp_path):
    """Requests are tried again: every seventh fails."""
    rude.answer = lambda method, path: 500 if len(rude.asked) % 7 == 0 else None
    with through(rude, tmp_path / "reads", retries=4):
        replace(url, changed(url, 2))
        assert verify_store(url) == []


def test_a_commit_whose_answer_is_lost_is_no_conflict(url, rude, tmp_path):
    lost = []

    def once(method, path):
        if method == "PUT" and "/manifest/" in path and not lost:
            lost.append(path)
            return 500
        return None

    rude.lost = once
    frames = changed(url, 2)
    with through(rude, tmp_path / "reads", retries=3):
        row = replace(url, frames)
    assert lost
    assert read_manifest(storage_of(url), PARTITION) == row
    assert verify_store(url) == []


def test_no_such_bucket():
    for use in (Store.open, verify_store, lambda url: write_synthetic_store(url, **SIZE)):
        with pytest.raises(StorageError, match=r"no such bucket.*AWS_ENDPOINT_URL"):
            use("s3://nowhere/store")


def test_a_bucket_without_a_store():
    with pytest.raises(CacheError, match="no cache here"):
        Store.open(f"s3://{BUCKET}/nothing")


def answered(status: str, code: str):
    """A server that answers everything with an error of S3."""

    def speak(connection: socket.socket) -> None:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        while connection.recv(2**16):
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    return speak


@pytest.mark.parametrize(
    "ask", [lambda s: s.get("a"), lambda s: s.children(), lambda s: s.entries("a"), lambda s: s.put("a", b"")]
)
@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        ("403 Forbidden", "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("401 Unauthorized", "Unauthorized", "AWS_ACCESS_KEY_ID"),
        ("400 Bad Request", "ExpiredToken", "AWS_ACCESS_KEY_ID"),
        ("400 Bad Request", "InvalidToken", "AWS_ACCESS_KEY_ID"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock of this machine"),
    ],
)
def test_whatever_is_refused_the_remedy_is_the_right_one(ask, status, code, remedy, tmp_path):
    with (
        speaking(answered(status, code)) as (endpoint, _),
        used(endpoint, tmp_path),
        pytest.raises(StorageError) as caught,
    ):
        ask(storage_of("s3://bucket/store"))
    assert remedy in caught.value.remedy


def test_a_server_and_keys_that_the_environment_names_later_are_taken(tmp_path):
    with (
        speaking(answered("403 Forbidden", "InvalidAccessKeyId")) as (wrong, _),
        speaking(answered("404 Not Found", "NoSuchBucket")) as (right, came),
        used(wrong, tmp_path),
        pytest.MonkeyPatch.context() as patch,
    ):
        store = storage_of("s3://bucket/store")
        with pytest.raises(StorageError, match="the server refuses"):
            store.get("a")
        patch.setenv("AWS_ENDPOINT_URL", right)
        for _ in range(2):
            with pytest.raises(StorageError, match="no such bucket"):
                store.get("a")
        assert len(came) == 1  # the connection is kept
        patch.setenv("AWS_ACCESS_KEY_ID", "another")
        with pytest.raises(StorageError, match="no such bucket"):
            store.get("a")
        assert len(came) == 2


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
@pytest.mark.parametrize(
    "value", ["localhost:9000", "127.0.0.1:9000", "http://", "https://a b", "http://host:99999", "ftp://h"]
)
def test_an_endpoint_that_is_no_address(name, value, monkeypatch):
    """The client itself panics on some of them."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} is '{value}', no address of a server.*Begin it with https://"):
        storage_of("s3://bucket/store").get("a")


def test_a_url_without_a_bucket():
    for url in ("s3://", "s3:///store", "gs://"):
        with pytest.raises(ConfigError, match="no bucket"):
            storage_of(url)


def test_credentials_that_the_server_refuses(url, rude, tmp_path):
    rude.answer = lambda method, path: 403
    with through(rude, tmp_path / "reads"), pytest.raises(StorageError, match=r"refuses.*AWS_ACCESS_KEY_ID") as caught:
        Store.open(url)
    assert caught.value.path.startswith(url)


def test_no_credentials(url, rude, tmp_path, monkeypatch):
    """Nothing in the environment: the address that a cloud's own machines ask is asked, here the rude server."""
    with through(rude, tmp_path / "reads"):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        text = "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 5s, after 6 retries"
        error = remote.RemoteStorage(url)._typed(Exception(f"{text}\n\nDebug source:\nGeneric"), "store.json")
    assert "no credentials" in str(error)
    assert "AWS_ACCESS_KEY_ID" in error.remedy
    assert "Debug" not in str(error)


def test_nobody_there_and_a_server_that_is_too_slow(url, rude, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "ANSWER", timedelta(seconds=0.3))
    rude.answer = lambda method, path: sleep(2)
    begun = monotonic()
    with through(rude, tmp_path / "reads", retries=1), pytest.raises(StorageError, match="Check network and endpoint"):
        Store.open(url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with used(f"http://127.0.0.1:{port}", tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "RETRIES", 1)
        with pytest.raises(StorageError, match="Check network and endpoint"):
            Store.open(url)
    assert monotonic() - begun < 20


def shortened(monkeypatch, *, answer: float, told: float = 20) -> None:
    """All times of a request by the same factor, those of what is told by another."""
    for name in ("ANSWER", "RETRY", "SENDING", "RETRY_SENDING"):
        monkeypatch.setattr(remote, name, getattr(remote, name) * (answer / 20))
    monkeypatch.setattr(progress, "TELL_EVERY", told)


def waits(captured: str) -> list[re.Match]:
    """The lines about servers that are waited for: whom, how long, what for."""
    return list(re.finditer(r"^waiting for (\S+) for (\d+) s: (\S+?)(?:, and (\d+) more requests)?$", captured, re.M))


def test_a_silent_server_is_told_and_asked_four_times_in_a_minute_and_a_half(monkeypatch, tmp_path, capsys):
    """In a twentieth of the time, in which pauses between tries, of 0.1 s and more, may cost one of them."""
    shortened(monkeypatch, answer=1, told=0.5)
    begun = monotonic()
    with speaking(silent) as (endpoint, came), used(endpoint, tmp_path), pytest.raises(StorageError) as caught:
        Store.open("s3://bucket/store")
    took = monotonic() - begun
    assert 2.9 < took < 2 * 90 / 20
    assert len(came) in (3, 4)
    assert caught.value.path == "s3://bucket/store/store.json"
    lines = waits(capsys.readouterr().err)
    assert {(line[1], line[3]) for line in lines} == {(endpoint, "s3://bucket/store/store.json")}
    assert 2 <= len(lines) <= took / 0.5 + 1, "no more than one each half second"
    seconds = [int(line[2]) for line in lines]
    assert seconds == sorted(seconds)
    assert seconds[-1] >= 2


def test_many_that_wait_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr(progress, "TELL_EVERY", 0.2)
    all_waits = Waits()

    def ask(number: int) -> None:
        with all_waits.of("a", f"s3://b/{number}"):
            sleep(0.7)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(ask, range(5)))
    lines = waits(capsys.readouterr().err)
    assert 1 <= len(lines) <= 4
    assert lines[0][4] == "4"
    monkeypatch.setattr(progress, "TELL_EVERY", 5)
    for _ in range(50):
        with all_waits.of("a", "s3://b/quick"):
            sleep(0.01)
    assert not waits(capsys.readouterr().err), "those that are answered are not told of"
    watching = [thread for thread in threading.enumerate() if thread.name == "waiting"]
    for thread in watching:
        thread.join(10)
    assert not any(thread.is_alive() for thread in watching), "nobody looks when nothing is waited for"


def get_one(storage) -> None:
    storage.get("a")


def get_many(storage) -> None:
    list(storage.each(storage.get, "abcde"))


@pytest.mark.parametrize("ask", [get_one, get_many])
def test_a_signal_is_heard_while_a_server_is_silent(ask, tmp_path):
    with speaking(silent) as (endpoint, came), used(endpoint, tmp_path), listening():
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        begun = monotonic()
        with pytest.raises(KeyboardInterrupt):
            ask(storage_of("s3://bucket/store"))
        assert came
    assert monotonic() - begun < 10, "and nothing goes on on other threads: they would be waited for"


def test_what_ends_in_order_after_a_signal_is_answered(url):
    storage = storage_of(url)
    with listening():
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            os.kill(os.getpid(), signal.SIGINT)
            sleep(5)
        sleep(LET_GO + 0.5)
        storage.put("late", b"late")
        assert list(storage.each(storage.get, ["late"])) == [b"late"]


HEAD = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: "e"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n'


def test_a_slow_answer_and_a_large_one_over_a_slow_line(monkeypatch, tmp_path):
    """The answer begins late, and takes far longer than the time that a silent server has; it is asked for once."""
    shortened(monkeypatch, answer=1.5)

    def speak(connection: socket.socket) -> None:
        connection.recv(2**16)
        sleep(0.3)
        connection.sendall(HEAD % 20)
        for number in range(20):
            sleep(0.1)
            connection.sendall(b"%c" % number)

    with speaking(speak) as (endpoint, came), used(endpoint, tmp_path):
        storage = storage_of("s3://bucket/store")
        content, sha256 = storage.each(lambda read: read("large"), (storage.get, storage.sha256))
    assert content == bytes(range(20))
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert len(came) == 2


def test_a_line_that_breaks_in_the_middle_of_an_answer(monkeypatch, tmp_path):
    """What is missing is asked for again."""
    shortened(monkeypatch, answer=0.4)
    asked = []

    def speak(connection: socket.socket) -> None:
        asked.append(connection.recv(2**16).lower())
        if len(asked) == 1:
            connection.sendall(HEAD % 10 + b"begun")
        else:
            rest = (HEAD % 5).replace(b"200 OK", b"206 Partial Content").removesuffix(b"\r\n")
            connection.sendall(rest + b"Content-Range: bytes 5-9/10\r\n\r\nended")

    with speaking(speak) as (endpoint, _), used(endpoint, tmp_path):
        assert storage_of("s3://bucket/store").get("large") == b"begunended"
    assert b"range: bytes=5-9" in asked[1]


@pytest.mark.parametrize(("size", "works"), [(100, False), (2 * remote.LARGE, True)])
def test_only_what_is_large_may_take_long_to_send(monkeypatch, tmp_path, size, works):
    shortened(monkeypatch, answer=0.3)

    def speak(connection: socket.socket) -> None:
        sleep(0.8)
        left = size
        while left > 0:
            left -= len(connection.recv(2**20))
        connection.sendall(HEAD % 0)

    with speaking(speak) as (endpoint, came), used(endpoint, tmp_path):
        write = partial(storage_of("s3://bucket/store").write, "file", bytes(size))
        if works:
            write()
            assert len(came) == 1
        else:
            with pytest.raises(StorageError, match=r"run the same command again"):
                write()


def together(rude: Rude, part: str) -> threading.Event:
    """Whether two requests with `part` in their path were under way at once; the first waits for another."""
    both, under_way = threading.Event(), []

    def answer(method: str, path: str) -> None:
        if method == "GET" and part in path:
            under_way.append(path)
            if len(under_way) > 1:
                both.set()
            both.wait(5)
            under_way.remove(path)

    rude.answer = answer
    return both


def test_what_takes_many_requests_makes_several_at_once(rude, tmp_path):
    url = f"s3://{BUCKET}/{uuid4().hex}/store"
    write_synthetic_store(url, **SIZE | {"frames": 2}, partition_frames=1)
    with through(rude, tmp_path / "reads"):
        partitions = together(rude, "/manifest/")
        assert verify_store(url) == []
        assert partitions.is_set(), "partitions are verified together"
    with through(rude, tmp_path / "other reads"):  # what was verified lies in the first ones
        offsets = together(rude, "/offsets/")
        store = Store.open(url)
        store.read(store.frames[0])
        assert offsets.is_set(), "offsets are read together"


def test_verify_lists_manifests_as_often_for_many_partitions(rude, tmp_path):
    listed = []
    for frames in (1, 4):
        url = f"s3://{BUCKET}/{uuid4().hex}/store"
        write_synthetic_store(url, **SIZE | {"frames": frames}, partition_frames=1)
        rude.asked.clear()
        with through(rude, tmp_path / "reads"):
            assert verify_store(url) == []
        listed.append(sum("prefix" in path and "manifest" in path for _, path in rude.asked))
    assert listed[0] == listed[1] > 0


def test_damage_in_a_bucket_is_told(url):
    storage = storage_of(url)
    row = read_manifest(storage, PARTITION)
    name = next(file.path for file in row.features.files if file.path.startswith("points/xyz/c/"))
    key = f"{partition_key(row.features.folder)}/{name}"
    content = storage.get(key)
    for spoilt in (bytes(len(content)), content[: len(content) // 2]):
        storage.put(key, spoilt)
        (problem,) = verify_store(url)
        assert problem.path == storage.at(key)
        with pytest.raises(CorruptStoreError, match="ovps precompute"):
            intensity(url)
    storage.put(key, content)
    assert intensity(url)


def test_leftovers_go_once_nobody_can_be_writing_them(url, monkeypatch):
    storage = storage_of(url)
    unnamed = partition_key(new_folder(PARTITION))
    storage.write(f"{unnamed}/points/xyz", b"half")
    remove_leftovers(storage)
    assert storage.entries(unnamed), "another run may be writing it"
    monkeypatch.setattr(leftovers, "LEFT_SECONDS", -60)
    remove_leftovers(storage)
    assert not storage.entries(unnamed)
    assert verify_store(url) == []


def test_what_a_server_does_not_let_go_of_stays_and_is_told_once(url, rude, tmp_path, monkeypatch, capsys):
    """Whoever may write and not delete goes on: there are buckets that keep all there ever was."""
    monkeypatch.setattr(leftovers, "LEFT_SECONDS", -60)
    storage = storage_of(url)
    for _ in range(2):
        storage.write(f"{partition_key(new_folder(PARTITION))}/points/xyz", b"half")
    rude.answer = lambda method, path: 403 if method == "DELETE" or (method == "POST" and "delete" in path) else None
    with through(rude, tmp_path / "reads"):
        for _ in range(2):
            assert remove_leftovers(storage) == []
    told = capsys.readouterr().err
    assert told.count(f"2 leftovers of earlier runs cannot be deleted, and take space in {storage.at()}") == 1
    assert "the server refuses" in told


def arrays_asked(rude: Rude) -> int:
    return sum(method == "GET" and "/partitions/" in path for method, path in rude.asked)


def test_what_was_read_is_not_asked_for_again(url, rude, tmp_path, monkeypatch):
    with through(rude, tmp_path / "reads"):
        first = intensity(url)
        assert arrays_asked(rude) > 10
        rude.asked.clear()
        assert intensity(url) == first
        assert arrays_asked(rude) == 0
        for piece in (p for p in Path(tmp_path / "reads").rglob("*") if p.is_file()):
            piece.write_bytes(piece.read_bytes()[::-1])
        assert intensity(url) == first, "what lies there is not believed"
        assert arrays_asked(rude) > 10
        rude.asked.clear()
        monkeypatch.setenv("OVPS_READ_CACHE_GB", "0")
        assert intensity(url) == first
        assert arrays_asked(rude) > 10


def test_a_store_that_was_made_anew_is_seen(url):
    """Pieces are named after the content: those of a manifest that is replaced are not taken for the new ones."""
    before = intensity(url)
    replace(url, changed(url, 2))
    assert intensity(url) != before
    assert storage_of(url).get(manifest_key(PARTITION))
