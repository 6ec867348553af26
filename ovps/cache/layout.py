"""Keys of the files and folders of a store."""

from __future__ import annotations

from uuid import uuid4

INFO = "store.json"
INFO_SHA256 = "sha256"  # in it: of the rest of its content
VOCABULARY = "vocabulary.safetensors"
CODEC_STATE = "codec.safetensors"
LOCK = ".lock"
MANIFESTS = "manifest"
PARTITIONS = "partitions"


def manifest_key(partition: str) -> str:
    """Key of the manifest of a partition."""
    return f"{MANIFESTS}/{partition}.parquet"


def partition_key(folder: str) -> str:
    """Key of the arrays of a part of a partition, given the folder that its manifest names."""
    return f"{PARTITIONS}/{folder}"


def new_folder(partition: str) -> str:
    """A folder name that no other attempt to write a part of it has: dask may run a task twice."""
    return f"{partition}-{uuid4().hex[:12]}.zarr"


def partition_of(folder: str) -> str:
    """The partition that a folder was made for."""
    return folder.rpartition("-")[0]
