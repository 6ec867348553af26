"""Verification that the bytes of a store are those that were written; reads every file once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

from pydantic import BaseModel

from cache_schemas import FileRow, Part, PartitionRow, StoreInfo
from ovps.cache.layout import (
    CODEC_STATE,
    INFO,
    LOCK,
    MANIFESTS,
    PARTITIONS,
    VOCABULARY,
    manifest_key,
    partition_key,
)
from ovps.cache.leftovers import lost_partitions
from ovps.cache.manifest import WAITING, partitions, read_manifest
from ovps.cache.partition import Partition, of_other_settings
from ovps.cache.remedies import again, again_lost, same_again
from ovps.cache.storage import LOST, LOST_INFO, Entry, Storage
from ovps.cache.store_info import read_info
from ovps.cache.where import Where, storage_of
from ovps.errors import CorruptStoreError, counted
from ovps.files import TEMPORARY
from ovps.shortage import faults

_PARTITIONS_AT_ONCE = 4  # where a server is asked: each asks for many files at once, which are in memory in part
_STRAY = "Delete it, or move it elsewhere: it is not part of the store"
_INSIDE = "Move it to a place of its own; or copy it with `ovps cache subset --cache {} --out PLACE`, then delete it"
ProblemKind = Literal["missing", "size", "content", "extra", "manifest", "schema", "duplicate"]


class Problem(BaseModel, frozen=True):
    """One thing that is wrong with a store."""

    kind: ProblemKind
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}. {self.remedy}"


def verify_store(path: Where, on_partition: Callable[[str], None] | None = None) -> list[Problem]:
    """Check every file of a store against its manifest: presence, size, hash, and nothing besides.

    A folder that no manifest names, left by a run that did not finish, is no problem: nobody reads it. But if it is
    complete and its partition has no manifest at all, a manifest was lost, and with it frames.

    Args:
        on_partition: called with the name of each partition when it has been checked.

    Raises:
        CacheError: no store, or one of another schema version.
    """
    storage = storage_of(path)
    info = read_info(storage)
    problems = _check_root(storage, info) + _lost_manifests(storage, info)
    tokens: Counter[str] = Counter()
    rows: list[PartitionRow] = []
    for row, found in storage.each(partial(_checked, storage, info), partitions(storage), at_once=_PARTITIONS_AT_ONCE):
        problems += found
        if row is None:
            continue
        tokens.update(frame.token for frame in row.frames)
        rows.append(row)
        if on_partition is not None:
            on_partition(row.partition)
    if of_other_settings(storage, rows, info.provenance):
        message = "of another store: every partition was made with other settings"
        problems.append(Problem(kind="content", path=storage.at(INFO), message=message, remedy=LOST_INFO))
    twice = sorted(token for token, count in tokens.items() if count > 1)
    if twice:
        problems.append(
            Problem(
                kind="duplicate",
                path=storage.at(MANIFESTS),
                message=f"{len(twice)} frames are in two partitions, the first is {twice[0]}",
                remedy=f"Delete one of the manifests that name it and run {same_again(info.provenance)}",
            )
        )
    return problems


def damaged_parts(storage: Storage, row: PartitionRow, info: StoreInfo) -> dict[Part, list[Problem]]:
    """Find what is wrong with each part of a partition, but for files that nobody listed; reads all of its own."""
    found: dict[Part, list[Problem]] = {}
    for problem in _check_partition(storage, row, info):
        for part, folder in row.parts.items():
            if problem.kind != "extra" and problem.path.startswith(storage.at(partition_key(folder.folder))):
                found.setdefault(part, []).append(problem)
    return found


def damaged_root(storage: Storage, info: StoreInfo) -> list[str]:
    """List the keys of those files of the store as a whole that are lost or changed."""
    return [key for key, sha256 in _root_hashes(info).items() if _root_state(storage, key, sha256) != "sound"]


def _root_hashes(info: StoreInfo) -> dict[str, str]:
    hashes = {VOCABULARY: info.vocabulary_sha256, CODEC_STATE: info.provenance.codec_state_sha256}
    return {key: sha256 for key, sha256 in hashes.items() if sha256 is not None}


def _root_state(storage: Storage, key: str, sha256: str) -> Literal["sound", "missing", "content"]:
    if key not in storage.children():
        return "missing"
    return "sound" if storage.sha256(key) == sha256 else "content"


def _check_root(storage: Storage, info: StoreInfo) -> list[Problem]:
    problems = []
    for key, sha256 in _root_hashes(info).items():
        state = _root_state(storage, key, sha256)
        if state != "sound":
            message = "missing file" if state == "missing" else "not the bytes that were written"
            problems.append(Problem(kind=state, path=storage.at(key), message=message, remedy=LOST))
    known = {INFO, LOCK, MANIFESTS, PARTITIONS, *_root_hashes(info)}
    extra = [name for name in storage.children() if name not in known]
    manifests = set(map(manifest_key, partitions(storage)))
    extra += [key for name in storage.children(MANIFESTS) if (key := f"{MANIFESTS}/{name}") not in manifests]
    extra = [key for key in sorted(extra) if TEMPORARY not in key]
    return problems + _extra(storage, extra, {f"{key}/{path}" for key in extra for path in storage.entries(key)})


def _lost_manifests(storage: Storage, info: StoreInfo) -> list[Problem]:
    found = []
    for partition, folder in lost_partitions(storage, info).items():
        message = (
            f"lost: {storage.at(partition_key(folder))} holds its frames, but without a manifest nobody reads them"
        )
        remedy = (
            f"Restore it, or {again_lost(storage, info.provenance)}. If neither does, its first frame is in another"
            f" partition by now, or has left the data set: then delete {storage.at(partition_key(folder))}"
        )
        manifest = storage.at(manifest_key(partition))
        found.append(Problem(kind="missing", path=manifest, message=message, remedy=remedy))
    return found


def _checked(storage: Storage, info: StoreInfo, name: str) -> tuple[PartitionRow | None, list[Problem]]:
    """The manifest of a partition, None if it cannot be read, and what is wrong with it or with what it names."""
    try:
        return _check_manifest(storage, name, info)
    except CorruptStoreError as error:
        file = storage.at(manifest_key(name))
        return None, [Problem(kind="manifest", path=file, message=error.message, remedy=error.remedy or "")]


def _check_manifest(storage: Storage, name: str, info: StoreInfo) -> tuple[PartitionRow, list[Problem]]:
    row = read_manifest(storage, name)
    problems = _check_partition(storage, row, info) + _waiting(storage, row, info)
    if problems and read_manifest(storage, name).parts != row.parts:  # replaced by a run that writes meanwhile
        return _check_manifest(storage, name, info)
    return row, problems


def _waiting(storage: Storage, row: PartitionRow, info: StoreInfo) -> list[Problem]:
    """Tell of frames that a repair has found to be lost, and has not made."""
    waiting = sum(record.kind == WAITING for record in row.skipped)
    if not waiting:
        return []
    manifest, message = storage.at(manifest_key(row.partition)), f"{counted(waiting, 'frame')} lost and not made yet"
    remedy = again_lost(storage, info.provenance)
    return [Problem(kind="missing", path=manifest, message=message, remedy=remedy[0].upper() + remedy[1:])]


def _check_partition(storage: Storage, row: PartitionRow, info: StoreInfo) -> list[Problem]:
    remedy = again(storage, row.partition, info.provenance)
    problems = []

    def add(kind: ProblemKind, file: str, message: str) -> None:
        problems.append(Problem(kind=kind, path=file, message=message, remedy=remedy))

    for part in row.parts.values():
        folder = partition_key(part.folder)
        there = storage.entries(folder)
        found = storage.each(partial(_wrong_with, storage, folder, there), part.files)
        for entry, wrong in zip(part.files, found, strict=True):
            if wrong:
                add(wrong[0], storage.at(f"{folder}/{entry.path}"), wrong[1])
        listed = {entry.path for entry in part.files}
        extra = [f"{folder}/{name}" for name in sorted(there) if name not in listed]
        problems += _extra(storage, extra, {key for key in extra if key != f"{folder}/{INFO}"})
    if row.frames and not problems:
        try:
            Partition.open(storage, row, info.provenance)
        except CorruptStoreError as error:
            add("schema", error.path or storage.at(), error.message)
    return problems


def _wrong_with(
    storage: Storage, folder: str, there: Mapping[str, Entry], file: FileRow
) -> tuple[ProblemKind, str] | None:
    """What is wrong with a file of a folder, if anything is; reads it."""
    if file.path not in there:
        return "missing", "missing file"
    size = there[file.path].bytes
    if size != file.bytes:
        return "size", f"{size} bytes, expected {file.bytes}"
    try:
        same = storage.sha256(f"{folder}/{file.path}") == file.sha256
    except FileNotFoundError:
        return "missing", "missing file"
    except faults(OSError) as error:
        return "missing", f"cannot be read: {error.strerror}"
    return None if same else ("content", "not the bytes that were written")


def _extra(storage: Storage, keys: Sequence[str], files: Iterable[str]) -> list[Problem]:
    """Problems of what is of no manifest: one for each store that lies there, one for each other file or folder.

    Args:
        keys: of files and folders, sorted.
        files: among them, or in them, any of which may be the `store.json` of a store in a folder of its own.
    """
    stores: list[str] = []
    for key in sorted(file.removesuffix(f"/{INFO}") for file in files if file.endswith(f"/{INFO}")):
        if not _within(key, stores):
            stores.append(key)
    others = [key for key in keys if not _within(key, stores) and not any(_within(store, [key]) for store in stores)]
    inside, stray = "another store, which lies within this one", "a file that no manifest lists"
    return [
        *(Problem(kind="extra", path=p, message=inside, remedy=_INSIDE.format(p)) for p in map(storage.at, stores)),
        *(Problem(kind="extra", path=p, message=stray, remedy=_STRAY) for p in map(storage.at, others)),
    ]


def _within(key: str, folders: Iterable[str]) -> bool:
    return any(f"{key}/".startswith(f"{folder}/") for folder in folders)
