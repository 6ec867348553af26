"""Parquet files as tables, read by the thread that asks."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(path: Path) -> pa.Table:
    """The whole file as one table.

    Raises:
        OSError: no such file, or it cannot be read.
        pyarrow.ArrowException: not a Parquet file.
    """
    # read as bytes: given a path, pyarrow takes folder names of the form key=value for extra columns
    return parse_parquet(path.read_bytes())


def parse_parquet(content: bytes) -> pa.Table:
    """The content of a Parquet file as one table, whose text is UTF-8.

    pyarrow would start threads of its own, and a process that ends soon after, as one with an error does, then aborts
    in every third run (`terminate called without an active exception`) instead of ending with its exit code.

    Raises:
        pyarrow.ArrowException: not a Parquet file, or a damaged one.
    """
    with pq.ParquetFile(pa.BufferReader(content), pre_buffer=False) as file:
        table = file.read(use_threads=False)
    table.validate(full=True)
    return table
