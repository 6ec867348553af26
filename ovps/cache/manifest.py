"""Manifests: one Parquet file of one row per partition. A partition exists when its manifest does."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from cache_schemas import MANIFEST, SCHEMA_VERSION, PartitionRow
from ovps.cache.files import write_whole
from ovps.cache.layout import MANIFESTS, manifest_path
from ovps.errors import CorruptStoreError
from ovps.files import TEMPORARY
from ovps.parquet import read_parquet


def write_manifest(store: Path, row: PartitionRow) -> None:
    """Commit a partition."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row.model_dump()], schema=MANIFEST), sink)
    write_whole(manifest_path(store, row.partition), sink.getvalue().to_pybytes())


def read_manifest(path: Path) -> PartitionRow:
    """Read and check one manifest.

    Raises:
        CorruptStoreError: unreadable, of another schema, or naming files outside its partition.
    """
    remedy = again(path)
    try:
        table = read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise CorruptStoreError(f"unreadable manifest: {error}", path=path, remedy=remedy) from error
    if not table.schema.equals(MANIFEST) or table.num_rows != 1:
        raise CorruptStoreError(
            f"not a manifest of schema version {SCHEMA_VERSION}: {table.num_rows} rows of columns {table.column_names}",
            path=path,
            remedy=remedy,
        )
    try:
        row = PartitionRow.model_validate(table.to_pylist()[0])
    except ValidationError as error:
        raise CorruptStoreError(f"senseless manifest: {error}", path=path, remedy=remedy) from error
    if row.partition != path.stem:
        raise CorruptStoreError(f"a manifest of partition {row.partition!r}, by its content", path=path, remedy=remedy)
    return row


def manifest_files(store: Path) -> list[Path]:
    """The manifests of a store, by name."""
    folder = store / MANIFESTS
    return sorted(p for p in folder.glob("*.parquet") if not p.name.startswith(TEMPORARY))


def again(manifest: Path) -> str:
    """The remedy for a damaged partition."""
    return f"Delete {manifest} and run the same `ovps precompute` again: it makes this partition anew"
