"""What was read from a bucket is kept on the disk: bounded, and never believed unseen."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from ovps.cache import read_through
from ovps.cache.read_through import ReadThrough
from ovps.errors import ConfigError


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(read_through, "RESERVE", 0)
    return ReadThrough(tmp_path / "reads", 100_000)


def right(content: bytes) -> bool:
    return content.startswith(b"right")


def never() -> bytes:
    raise AssertionError("it is kept")


def test_what_was_fetched_is_not_fetched_again(kept):
    assert kept.get("aa1", lambda: b"right 1", right) == b"right 1"
    assert kept.get("aa1", never, right) == b"right 1"
    assert ReadThrough(kept.folder, kept.limit).get("aa1", never, right) == b"right 1"


def test_what_is_wrong_is_neither_kept_nor_believed(kept):
    assert kept.get("aa1", lambda: b"wrong", right) == b"wrong", "whoever asked sees it, and says so"
    assert kept.get("aa1", lambda: b"right", right) == b"right"
    (kept.folder / "aa" / "aa1").write_bytes(b"spoilt")
    assert kept.get("aa1", lambda: b"right again", right) == b"right again"
    assert kept.get("aa1", never, right) == b"right again"


def total(folder) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_it_stays_below_its_limit_and_the_least_used_goes(kept):
    content = b"right" + bytes(995)
    kept.get("favourite", lambda: content, right)
    for number in range(500):
        kept.get(f"{number:05}", lambda: content, right)
        os.utime(kept.folder / f"{number:05}"[:2] / f"{number:05}", ns=(number, number))  # long ago, in this order
        assert kept.get("favourite", never, right) == content
        assert total(kept.folder) <= kept.limit
    assert total(kept.folder) > kept.limit / 2
    names = {p.name for p in kept.folder.rglob("*") if p.is_file()} - {".lock", "favourite"}
    assert names == {f"{number:05}" for number in range(500 - len(names), 500)}


def test_a_limit_that_was_lowered(kept):
    for number in range(50):
        kept.get(f"{number:05}", lambda: b"right" + bytes(995), right)
    smaller = ReadThrough(kept.folder, 20_000)
    smaller.get("new", lambda: b"right", right)
    assert total(kept.folder) <= smaller.limit


def test_many_at_once(kept):
    caches = [ReadThrough(kept.folder, kept.limit) for _ in range(4)]  # as of four processes

    def one(number: int) -> bool:
        content = b"right" + bytes([number % 150]) * 2000
        return caches[number % 4].get(f"{number % 150:05}", lambda: content, right) == content

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(1200)))
    assert total(kept.folder) <= kept.limit


def test_a_disk_that_does_not_take_it(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    kept = ReadThrough(tmp_path / "file" / "reads", 1000)
    for _ in range(3):
        assert kept.get("aa1", lambda: b"right", right) == b"right"
    assert capsys.readouterr().err.count("does not keep what is read") == 1


def test_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(read_through.FOLDER, raising=False)
    monkeypatch.delenv(read_through.SIZE, raising=False)
    assert read_through.read_through().folder == tmp_path / "ovps" / "reads"
    assert read_through.read_through().limit == 50e9
    monkeypatch.setenv(read_through.SIZE, "0")
    assert read_through.read_through() is None
    for none in ("much", "-1", "inf"):
        monkeypatch.setenv(read_through.SIZE, none)
        with pytest.raises(ConfigError, match="number of GB"):
            read_through.read_through()


def test_a_user_without_a_home(tmp_path, monkeypatch):
    """As of a service or a container: HOME is not set, and no entry of passwd names one."""
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    for name in ("HOME", "XDG_CACHE_HOME", read_through.FOLDER, read_through.SIZE):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=f"this user has none.*Set {read_through.FOLDER} to a folder"):
        read_through.read_through()
    monkeypatch.setenv(read_through.FOLDER, str(tmp_path / "reads"))
    assert read_through.read_through().folder == tmp_path / "reads"
    monkeypatch.delenv(read_through.FOLDER)
    monkeypatch.setenv(read_through.SIZE, "0")
    assert read_through.read_through() is None
