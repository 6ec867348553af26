"""Manifests: one Parquet file of one row per partition. A partition exists when its manifest does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from cache_schemas import MANIFEST, SCHEMA_VERSION, PartitionRow, content_sha256
from ovps.cache.layout import MANIFESTS, manifest_key
from ovps.cache.remedies import again
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.errors import CacheError, CorruptStoreError, faults_of
from ovps.parquet import parse_parquet
from ovps.shortage import faults
from ovps.versions import WROTE_IT, only_unknown

WAITING = "repair"  # kind of a frame that is quarantined until `ovps cache repair` has made its lost partition anew
_SUFFIX = ".parquet"
_VERSION = b"ovps_schema_version"
_SHA256 = b"ovps_sha256"  # of the row: Parquet has no checksum of its own that covers all that is read


def write_manifest(storage: Storage, row: PartitionRow, before: PartitionRow | None) -> None:
    """Commit a partition.

    Args:
        before: what is there now, as it was read when the work on `row` began; None if nothing was.

    Raises:
        StorageError: the disk refuses.
        CacheError: another run has committed the partition meanwhile, which stays as that run wrote it.
    """
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([row.model_dump()], schema=MANIFEST)
    stated = {**MANIFEST.metadata, _SHA256: content_sha256(table.to_pylist()[0]).encode()}
    pq.write_table(table.replace_schema_metadata(stated), sink)
    key = manifest_key(row.partition)

    def as_before(content: bytes | None) -> bool:
        return (None if content is None else _parse(storage, row.partition, content)) == before

    if not storage.replace(key, sink.getvalue().to_pybytes(), as_before):
        raise _conflict(storage, row.partition)


@contextmanager
def unless_replaced(storage: Storage, partition: str, before: PartitionRow | None) -> Iterator[None]:
    """Around work on a partition as it was: what another run has replaced meanwhile is told as that, not as damage.

    Raises:
        CacheError: another run has committed the partition meanwhile.
    """
    try:
        yield
    except CorruptStoreError as error:
        if find_manifest(storage, partition) != before:
            raise _conflict(storage, partition) from error
        raise


def find_manifest(storage: Storage, partition: str) -> PartitionRow | None:
    """The manifest of a partition; None where there is none.

    Raises:
        CorruptStoreError, CacheError: as `read_manifest`.
    """
    try:
        content = storage.get(manifest_key(partition))
    except FileNotFoundError:
        return None
    except faults(OSError) as error:
        raise _unreadable(storage, partition, error) from error
    return _parse(storage, partition, content)


def read_manifest(storage: Storage, partition: str) -> PartitionRow:
    """Read and check one manifest.

    Raises:
        CorruptStoreError: unreadable, of other columns, or naming files outside its partition.
        CacheError: of another schema version.
    """
    try:
        return _parse(storage, partition, storage.get(manifest_key(partition)))
    except faults(OSError) as error:
        raise _unreadable(storage, partition, error) from error


def read_manifests(storage: Storage) -> Iterator[PartitionRow]:
    """Every manifest of a store, by name.

    Raises:
        CorruptStoreError, CacheError: as `read_manifest`.
    """
    names = partitions(storage)
    contents = storage.each(storage.get, map(manifest_key, names))
    for name in names:
        try:
            yield _parse(storage, name, next(contents))
        except faults(OSError) as error:
            raise _unreadable(storage, name, error) from error


def partitions(storage: Storage) -> list[str]:
    """Names of the partitions of a store. None begins with a dot, as what is not whole, and copies of macOS, do."""
    names = storage.children(MANIFESTS)
    return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX) and not name.startswith(".")]


def _conflict(storage: Storage, partition: str) -> CacheError:
    return CacheError(
        f"another run has committed partition {partition} meanwhile",
        path=storage.at(manifest_key(partition)),
        remedy="Let it finish, or stop it; then run the same command again: what is committed is kept",
    )


def _parse(storage: Storage, partition: str, content: bytes) -> PartitionRow:
    try:
        table = parse_parquet(content)
        rows = table.to_pylist()
    except faults(pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _unreadable(storage, partition, error) from error
    version = (table.schema.metadata or {}).get(_VERSION, b"").decode(errors="replace")
    if version.isdecimal() and int(version) != SCHEMA_VERSION:
        raise CacheError(
            f"the manifest has schema version {version}, this ovps reads version {SCHEMA_VERSION}",
            path=storage.at(manifest_key(partition)),
            remedy=WROTE_IT,
        )
    if not table.schema.equals(MANIFEST) or table.num_rows != 1:
        message = f"{table.num_rows} rows of columns {table.column_names}"
        raise _damaged(storage, partition, f"not a manifest of schema version {SCHEMA_VERSION}: {message}")
    stated = (table.schema.metadata or {}).get(_SHA256)
    if stated is not None and stated != content_sha256(rows[0]).encode():
        raise _damaged(storage, partition, "not the manifest that was written")
    try:
        row = PartitionRow.model_validate(rows[0])
    except ValidationError as error:
        if unknown := only_unknown(error):
            raise CacheError(unknown, path=storage.at(manifest_key(partition)), remedy=WROTE_IT) from error
        raise _damaged(storage, partition, f"senseless manifest: {faults_of(error)}") from error
    if row.partition != partition:
        raise _damaged(storage, partition, f"a manifest of partition {row.partition!r}, by its content")
    return row


def _unreadable(storage: Storage, partition: str, error: Exception) -> CorruptStoreError:
    return _damaged(storage, partition, f"unreadable manifest: {error}")


def _damaged(storage: Storage, partition: str, message: str) -> CorruptStoreError:
    remedy = again(storage, partition, read_info(storage).provenance)
    return CorruptStoreError(message, path=storage.at(manifest_key(partition)), remedy=remedy)
