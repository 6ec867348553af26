"""One contract for every storage: what a disk does, a bucket does."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from uuid import uuid4

import pytest

from ovps.cache.disk import LocalStorage
from ovps.cache.where import storage_of
from ovps.errors import ConfigError
from tests.helpers.s3 import BUCKET, served, used


@pytest.fixture(scope="module")
def endpoint():
    with served() as endpoint:
        yield endpoint


@pytest.fixture(params=["disk", "bucket"])
def storage(request, tmp_path, endpoint):
    if request.param == "disk":
        yield storage_of(tmp_path / "store")
        return
    with used(endpoint, tmp_path / "reads"):
        yield storage_of(f"s3://{BUCKET}/{uuid4().hex}")


def test_what_is_put_is_there(storage):
    with pytest.raises(FileNotFoundError):
        storage.get("a.json")
    assert storage.children() == []
    assert storage.entries("folder") == {}
    storage.put("a.json", b"one")
    storage.put("a.json", b"two")
    storage.write("folder/x/1", b"0123456789")
    storage.write("folder/y.zarr", b"")
    storage.write("folder-2/z", b"z")
    storage.settle("folder")
    assert storage.get("a.json") == b"two"
    assert storage.get("folder/x/1", (2, 5)) == b"234"
    assert storage.get("folder/x/1", (7, 10)) == b"789"
    assert list(storage.each(storage.get, ["folder/x/1", "a.json"])) == [b"0123456789", b"two"]
    assert storage.sha256("folder/x/1") == hashlib.sha256(b"0123456789").hexdigest()
    assert storage.children() == ["a.json", "folder", "folder-2"]
    assert storage.children("folder") == ["x", "y.zarr"]
    found = storage.entries("folder")
    assert {name: entry.bytes for name, entry in found.items()} == {"x/1": 10, "y.zarr": 0}
    storage.delete("folder")
    assert storage.children() == ["a.json", "folder-2"]
    again = pickle.loads(pickle.dumps(storage))
    assert again == storage
    assert again.get("a.json") == b"two"
    assert storage.at("a.json").endswith("/a.json")
    assert storage_of(storage.at()) == storage


def test_replacing_what_is_expected(storage):
    assert storage.replace("m", b"1", lambda there: there is None)
    assert storage.replace("m", b"2", lambda there: there == b"1")
    assert storage.get("m") == b"2"


def test_a_bucket_refuses_what_comes_too_late(endpoint, tmp_path):
    with used(endpoint, tmp_path):
        storage = storage_of(f"s3://{BUCKET}/{uuid4().hex}")

        def other_first(content):
            def expected(there):
                if there != content:
                    storage.put("m", content)  # after it was looked at, before it is put
                return True

            return expected

        assert not storage.replace("m", b"mine", other_first(b"theirs")), "where nothing was"
        assert storage.get("m") == b"theirs"
        assert not storage.replace("m", b"mine", other_first(b"theirs again")), "where something was"
        assert storage.get("m") == b"theirs again"
        assert not storage.replace("m", b"mine", lambda there: there is None)
        assert storage.replace("m", b"mine", other_first(b"mine")), (
            "what was put twice, as one answer was lost, is ours"
        )


def test_what_a_person_types():
    assert storage_of("file:///data/a%20b") == LocalStorage(Path("/data/a b")) == storage_of("/data/a b")
    assert storage_of("zarr") == LocalStorage(Path.cwd() / "zarr") == storage_of(Path("zarr"))
    assert storage_of(storage_of("zarr")) == storage_of("zarr")
    assert storage_of("s3://bucket/a/").at("b") == "s3://bucket/a/b"
    with pytest.raises(ConfigError, match=r"http://host/x.*s3://"):
        storage_of("http://host/x")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("s3:/bucket/x", "s3://bucket/x"), ("s3:bucket/x", "s3://bucket/x"), ("S3://bucket/x", "s3://bucket/x")),
        *(("s3:///x", "s3://BUCKET/STORE"), ("gs:/b/x", "gs://b/x"), (Path("s3://b/x"), "s3://b/x, as text")),
        *(("file:/abs/x", "/abs/x"), ("file:rel/x", "rel/x"), ("FILE:///abs", "file:///abs"), ("file:", "a folder")),
        *(("file://rel/a%20b", "rel/a b,"), ("file://rel", "rel,"), ("file://", "file:///ABSOLUTE/PATH")),
        *(("file:///a?x=1", "file:///a;"), ("file:///a#b", "file:///a;")),
        *(("s3://b/x?y=1", "s3://b/x;"), ("s3://b/x?", "s3://b/x;"), ("s3://b/x#y", "s3://b/x;")),
        *(("s3://b//x", "s3://b/x"), ("s3://b/x//y/", "s3://b/x/y"), ("s3://b/x/../y", "s3://b/y")),
        *(("s3://b/./x", "s3://b/x"), ("s3://b/%2e%2e/x", "s3://b/x")),
        *(("s3://host:9000/b/x", "s3://host/b/x"), ("s3://me:secret@b/x?y", "s3://b/x;"), ("s3://[b/x", "s3://BUCKET")),
        *(("https://b/x", "s3://"), ("hdfs:/b/x", "s3://"), (" s3://b/x", "s3://"), ("/data/s3://b/x", "s3://")),
    ],
)
def test_a_place_that_would_be_another_than_was_meant_is_refused(typed, meant):
    with pytest.raises(ConfigError) as caught:
        storage_of(typed)
    assert meant in caught.value.remedy
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        *(("file:///abs/x/", "/abs/x"), ("file://localhost/abs", "/abs"), ("file:///a%3Fb%23", "/a?b#")),
        *(("./s3:/b/x", "s3:/b/x"), ("a:b", "a:b"), ("C:/x", "C:/x"), ("what?", "what?"), ("a#b", "a#b")),
        *(("s3://b/x//", "s3://b/x"), ("s3://b", "s3://b"), ("s3://b//", "s3://b"), ("s3://b/a%20b", "s3://b/a%20b")),
        ("abfss://container@account.dfs.core.windows.net/x", "abfss://container@account.dfs.core.windows.net/x"),
    ],
)
def test_other_places_stay_what_they_were(typed, place):
    expected = place if "://" in place else str(Path.cwd() / place)
    assert storage_of(typed).at().rstrip("/") == expected


def test_what_a_place_lies_in(tmp_path):
    assert [outer.at() for outer in storage_of("s3://b/x/y/z").above()] == ["s3://b/x/y", "s3://b/x", "s3://b"]
    assert list(storage_of("s3://b").above()) == []
    assert list(storage_of("/data/x/y").above()) == [LocalStorage(Path(at)) for at in ("/data/x", "/data", "/")]
