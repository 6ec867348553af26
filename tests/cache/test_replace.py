"""A partition is replaced as a whole or not at all, whatever the disk does, and whoever reads it meanwhile."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from cache_schemas import PartitionRow
from ovps.cache import writer
from ovps.cache.disk import LocalStorage
from ovps.cache.folder import Folder
from ovps.cache.layout import PARTITIONS, manifest_key, partition_key
from ovps.cache.leftovers import remove_leftovers
from ovps.cache.manifest import read_manifest, write_manifest
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.cache.writer import EncodedFrame, stored_frames, write_partition
from ovps.errors import CacheError, CorruptStoreError, StorageError
from tests.helpers.stores import contents
from tests.helpers.synthetic_store import write_synthetic_store

PARTITION, SCENE = "synthetic-0000.000000", "synthetic-0000"


def never(seen: list[str]) -> bool:
    return False


def the(number: int) -> Callable[[list[str]], bool]:
    """The call of this number."""
    return lambda seen: len(seen) == number


def after_commit(number: int) -> Callable[[list[str]], bool]:
    """The call so many calls after the one that gives the manifest its name."""
    return lambda seen: len(seen) > number and "rename" in seen[-1 - number] and ".parquet" in seen[-1 - number]


class Calls:
    """Sees the calls by which Python changes a disk, and makes one of them fail.

    An audit hook sees each of them, whoever makes it and in whatever thread. It can never be taken away again, so there
    is one for all tests, at rest between them.
    """

    def __init__(self) -> None:
        self.watching = False
        self.seen: list[str] = []
        self.fails: Callable[[list[str]], bool] = never
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple) -> None:
        if not self.watching:
            return
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or event in ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            self.step(f"{event} {args}")

    def step(self, call: str) -> None:
        self.seen.append(call)
        if self.fails(self.seen):
            raise OSError(errno.EIO, "the disk gave up")

    @contextmanager
    def watch(self, fails: Callable[[list[str]], bool]) -> Iterator[None]:
        self.seen, self.fails, self.watching = [], fails, True
        try:
            yield
        finally:
            self.watching = False


CALLS = Calls()


def changed(store, factor: float) -> list[EncodedFrame]:
    """The frames of PARTITION, but for their intensity."""
    row = read_manifest(storage_of(store), PARTITION)
    frames = stored_frames(storage_of(store), row, {frame.token for frame in row.frames})
    return [with_intensity(frame, factor * frame.arrays["points/intensity"]) for frame in frames]


def with_intensity(frame: EncodedFrame, intensity: np.ndarray) -> EncodedFrame:
    return EncodedFrame(frame.row, frame.arrays | {"points/intensity": intensity})


def test_whatever_call_fails_the_partition_is_as_before_or_as_after(tmp_path, monkeypatch):
    path = write_synthetic_store(tmp_path / "store", frames=1, points=40, clip_dim=4, subsets=("train",))
    monkeypatch.setattr(os, "fsync", lambda descriptor: CALLS.step("fsync") if CALLS.watching else None)
    store = Store.open(path)
    states = [changed(path, 1), changed(path, 2)]
    now = 1
    with CALLS.watch(never):
        write_partition(storage_of(path), PARTITION, SCENE, states[now])
    commit = next(n for n in range(len(CALLS.seen)) if after_commit(0)(CALLS.seen[: n + 1]))
    kinds = set()
    # the files of arrays are written alike, and deleted alike: some of them, and every call around the commit
    moments = [the(n) for n in (*range(1, commit - 5, 21), *range(commit - 5, commit + 1))]
    moments += [after_commit(n) for n in (*range(6), *range(6, len(CALLS.seen) - commit, 21))]
    for failing in moments:
        told = None
        try:
            with CALLS.watch(failing):
                write_partition(storage_of(path), PARTITION, SCENE, states[1 - now])
        except StorageError as error:
            told = str(error)
        assert told is None or "the disk gave up" in told
        assert verify_store(path) == [], CALLS.seen[-1]
        found = store.read(store.frames[0]).intensity  # opened before
        np.testing.assert_array_equal(Store.open(path).read(store.frames[0]).intensity, found)
        (done,) = (i for i in (0, 1) if np.array_equal(found, states[i][0].arrays["points/intensity"]))
        kinds.add((told is not None, done != now))
        now = done
    # it fails before the commit, after it (the name is there, but perhaps not yet on disk), and while it tidies up
    assert kinds == {(True, False), (True, True), (False, True)}
    remove_leftovers(storage_of(path))
    assert len(list((path / PARTITIONS).iterdir())) == 2, "one of features, one of labels"


def test_a_replaced_partition_leaves_nothing_behind(store):
    write_partition(storage_of(store), PARTITION, SCENE, changed(store, 2))
    assert verify_store(store) == []
    assert len(list((store / PARTITIONS).iterdir())) == 4


def test_a_task_that_runs_twice_at_once(store, monkeypatch):
    """dask may do so: the last commit counts, and neither takes the other's folder away."""
    twice = changed(store, 2)
    real = writer.write_manifest

    def other_first(storage, row, before):
        monkeypatch.setattr(writer, "write_manifest", real)
        write_partition(storage, PARTITION, SCENE, changed(store, 1))
        real(storage, row, before)

    monkeypatch.setattr(writer, "write_manifest", other_first)
    row = write_partition(storage_of(store), PARTITION, SCENE, twice)
    assert verify_store(store) == []
    assert read_manifest(storage_of(store), PARTITION) == row
    remove_leftovers(storage_of(store))
    assert verify_store(store) == []
    assert len(list((store / PARTITIONS).iterdir())) == 4


def test_leftovers_stay_where_a_manifest_cannot_be_read(store):
    file = store / manifest_key(PARTITION)
    file.write_bytes(file.read_bytes()[:100])
    before = contents(store)
    with pytest.raises(CorruptStoreError, match=r"unreadable manifest.*Delete"):
        remove_leftovers(storage_of(store))
    assert contents(store) == before


def test_who_has_a_store_open_reads_on_after_a_partition_was_replaced(store):
    fresh, used = Store.open(store), Store.open(store)
    before = [used.read(ref).intensity for ref in used.frames]
    frames = changed(store, 2)
    # in another order, and with one frame more in front: positions are others
    first = EncodedFrame(frames[0].row.model_copy(update={"token": "new", "index": -1}), frames[0].arrays)
    write_partition(storage_of(store), PARTITION, SCENE, [first, *reversed(frames)])
    for opened in (fresh, used):
        for ref, intensity in zip(opened.frames, before, strict=True):
            frame = opened.read(ref)
            assert frame.token == ref.token
            np.testing.assert_array_equal(frame.intensity, intensity * (2 if ref.partition == PARTITION else 1))


def test_a_partition_replaced_while_it_is_read(store, monkeypatch):
    """Whenever its folder goes while a frame is read, the frame comes whole from the folder before or after."""
    ref = Store.open(store).frames[0]
    states = [changed(store, 1), changed(store, 2)]
    original = Folder.read
    for moment in (1, 7, 13):
        calls = 0

        def part(self, name, position, moment=moment):
            nonlocal calls
            calls += 1
            if calls == moment:
                write_partition(storage_of(store), PARTITION, SCENE, states[1])
            return original(self, name, position)

        write_partition(storage_of(store), PARTITION, SCENE, states[0])
        opened = Store.open(store)
        with monkeypatch.context() as patch:
            patch.setattr(Folder, "read", part)
            found = opened.read(ref).intensity
        assert calls > moment
        assert any(np.array_equal(found, state[0].arrays["points/intensity"]) for state in states)


def test_a_partition_replaced_while_it_is_verified(store, monkeypatch):
    frames = changed(store, 2)

    real = LocalStorage.sha256

    def replaced_first(storage, key):
        if key.startswith(PARTITIONS):
            monkeypatch.setattr(LocalStorage, "sha256", real)
            write_partition(storage, PARTITION, SCENE, frames)
        return real(storage, key)

    monkeypatch.setattr(LocalStorage, "sha256", replaced_first)
    assert verify_store(store) == []
    assert LocalStorage.sha256 is real, "it was replaced"


def test_a_frame_that_is_gone_from_the_store(store):
    opened = Store.open(store)
    write_partition(storage_of(store), PARTITION, SCENE, changed(store, 2)[:1])
    assert opened.read(opened.frames[0]).token == opened.frames[0].token
    with pytest.raises(CacheError, match=r"does not hold the frame any more.*Start the command again") as caught:
        opened.read(opened.frames[1])
    assert caught.value.frame == opened.frames[1].token
    again = Store.open(store)
    assert len([again.read(ref) for ref in again.frames]) == len(opened.frames) - 1


def test_a_manifest_written_anew_moves_no_array(store):
    opened = Store.open(store)
    opened.read(opened.frames[0])
    row = read_manifest(storage_of(store), PARTITION)
    write_manifest(storage_of(store), PartitionRow.model_validate(row.model_dump() | {"frames": row.frames[1:]}), row)
    files = contents(store / partition_key(row.features.folder))
    assert Store.open(store).frames[0].token == opened.frames[1].token
    assert contents(store / partition_key(row.features.folder)) == files
