"""Where things lie in a store."""

from __future__ import annotations

from pathlib import Path

INFO = "store.json"
VOCABULARY = "vocabulary.safetensors"
LOCK = ".lock"
MANIFESTS = "manifest"
PARTITIONS = "partitions"


def manifest_path(store: Path, partition: str) -> Path:
    return store / MANIFESTS / f"{partition}.parquet"


def partition_path(store: Path, partition: str) -> Path:
    return store / PARTITIONS / f"{partition}.zarr"
