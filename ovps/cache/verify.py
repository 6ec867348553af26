"""Verification that the bytes of a store are those that were written; reads every file once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cache_schemas import PartitionRow, StoreInfo
from ovps.cache.files import LOST, files_below, hash_file
from ovps.cache.layout import (
    CODEC_STATE,
    INFO,
    LOCK,
    MANIFESTS,
    PARTITIONS,
    VOCABULARY,
    manifest_path,
    partition_of,
    partition_path,
)
from ovps.cache.manifest import again, manifest_files, read_manifest
from ovps.cache.partition import Partition, is_complete
from ovps.cache.reader import read_info
from ovps.errors import CorruptStoreError
from ovps.files import TEMPORARY

ProblemKind = Literal["missing", "size", "content", "extra", "manifest", "schema", "duplicate"]


class Problem(BaseModel):
    """One thing that is wrong with a store."""

    model_config = ConfigDict(frozen=True)

    kind: ProblemKind
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}. {self.remedy}"


def verify_store(path: Path, on_partition: Callable[[str], None] | None = None) -> list[Problem]:
    """Check every file of a store against its manifest: presence, size, hash, and nothing besides.

    A folder that no manifest names, left by a run that did not finish, is no problem: nobody reads it. But if it is
    complete and its partition has no manifest at all, a manifest was lost, and with it frames.

    Args:
        on_partition: called with the name of each partition when it has been checked.

    Raises:
        CacheError: no store, or one of another schema version.
    """
    info = read_info(path)
    problems = _check_root(path, info) + _lost_manifests(path, info)
    tokens: Counter[str] = Counter()
    for file in manifest_files(path):
        try:
            row, found = _check_manifest(path, file, info)
        except CorruptStoreError as error:
            problems.append(Problem(kind="manifest", path=str(file), message=error.message, remedy=error.remedy or ""))
            continue
        tokens.update(frame.token for frame in row.frames)
        problems += found
        if on_partition is not None:
            on_partition(row.partition)
    twice = sorted(token for token, count in tokens.items() if count > 1)
    if twice:
        problems.append(
            Problem(
                kind="duplicate",
                path=str(path / MANIFESTS),
                message=f"{len(twice)} frames are in two partitions, the first is {twice[0]}",
                remedy="Delete one of the manifests that name it and run the same `ovps precompute` again",
            )
        )
    return problems


def _check_root(path: Path, info: StoreInfo) -> list[Problem]:
    problems = []
    hashes = {VOCABULARY: info.vocabulary_sha256, CODEC_STATE: info.provenance.codec_state_sha256}
    known = {path / name for name in (INFO, LOCK, MANIFESTS, PARTITIONS)}
    for name, sha256 in hashes.items():
        if sha256 is None:
            continue
        file = path / name
        known.add(file)
        if not file.is_file():
            problems.append(Problem(kind="missing", path=str(file), message="missing file", remedy=LOST))
        elif hash_file(file) != sha256:
            message = "not the bytes that were written"
            problems.append(Problem(kind="content", path=str(file), message=message, remedy=LOST))
    inside = [*path.iterdir(), *(p for p in (path / MANIFESTS).glob("*") if p.suffix != ".parquet")]
    problems += [_extra(p) for p in sorted(inside) if p not in known and not p.name.startswith(TEMPORARY)]
    return problems


def _lost_manifests(store: Path, info: StoreInfo) -> list[Problem]:
    found = []
    for folder in sorted((store / PARTITIONS).glob("*.zarr")):
        partition = partition_of(folder.name)
        if manifest_path(store, partition).exists() or not is_complete(folder, info.provenance):
            continue
        manifest = manifest_path(store, partition)
        if not manifest.exists():  # nor has a run that writes meanwhile committed it
            message = f"lost: {folder} holds its frames, but without a manifest nobody reads them"
            remedy = "Restore it, or run the same `ovps precompute` again: it makes this partition anew"
            found.append(Problem(kind="missing", path=str(manifest), message=message, remedy=remedy))
    return found


def _check_manifest(store: Path, file: Path, info: StoreInfo) -> tuple[PartitionRow, list[Problem]]:
    row = read_manifest(file)
    problems = _check_partition(store, row, info)
    if problems and read_manifest(file).parts != row.parts:  # replaced by a run that writes meanwhile
        return _check_manifest(store, file, info)
    return row, problems


def _check_partition(store: Path, row: PartitionRow, info: StoreInfo) -> list[Problem]:
    remedy = again(manifest_path(store, row.partition))
    problems = []

    def add(kind: ProblemKind, file: Path | str, message: str) -> None:
        problems.append(Problem(kind=kind, path=str(file), message=message, remedy=remedy))

    for part in row.parts.values():
        folder = partition_path(store, part.folder)
        for entry in part.files:
            file = folder / entry.path
            try:
                size = file.stat().st_size
                if size != entry.bytes:
                    add("size", file, f"{size} bytes, expected {entry.bytes}")
                elif hash_file(file) != entry.sha256:
                    add("content", file, "not the bytes that were written")
            except FileNotFoundError:
                add("missing", file, "missing file")
            except OSError as error:
                add("missing", file, f"cannot be read: {error.strerror}")
        listed = {folder / entry.path for entry in part.files}
        problems += [_extra(file) for file in files_below(folder) if file not in listed]
    if row.frames and not problems:
        try:
            Partition.open(store, row, info.provenance)
        except CorruptStoreError as error:
            add("schema", error.path or store, error.message)
    return problems


def _extra(file: Path) -> Problem:
    remedy = "Delete it, or move it elsewhere: it is not part of the store"
    return Problem(kind="extra", path=str(file), message="a file that no manifest lists", remedy=remedy)
