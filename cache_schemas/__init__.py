"""The contract on disk, by version. This names the current one; nobody else does.

A store of an older version is read by a module of its own beside `v2`.
"""

from cache_schemas.v2 import (
    ARRAYS,
    EARLIER,
    MANIFEST,
    MAX_FRAMES,
    SCHEMA_VERSION,
    Array,
    CameraRow,
    FileRow,
    FolderRow,
    FrameRow,
    Part,
    PartitionRow,
    Provenance,
    SkippedRow,
    StoreInfo,
    check_arrays,
    check_offsets,
    check_shapes,
    content_sha256,
    dims_of,
)

__all__ = [
    "ARRAYS",
    "EARLIER",
    "MANIFEST",
    "MAX_FRAMES",
    "SCHEMA_VERSION",
    "Array",
    "CameraRow",
    "FileRow",
    "FolderRow",
    "FrameRow",
    "Part",
    "PartitionRow",
    "Provenance",
    "SkippedRow",
    "StoreInfo",
    "check_arrays",
    "check_offsets",
    "check_shapes",
    "content_sha256",
    "dims_of",
]
