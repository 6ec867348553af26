"""Cache version 1: what a store holds, array by array.

    STORE/
      store.json                      StoreInfo: schema version and provenance
      vocabulary.safetensors          the data set's own classes as text embeddings
      manifest/PARTITION.parquet      MANIFEST, one row; a partition exists when this file does
      partitions/PARTITION.zarr/      one Zarr v3 group per partition: ARRAYS

A partition is at most `MAX_FRAMES` consecutive frames of one scene. Frames are concatenated along the first
axis of every array; `offsets/*` tell where each begins. P points, V voxels, S objects, F frames, C CLIP channels;
K feature-map cells and Z weights of the `cells` codec; W <= V voxels that have a CLIP feature.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
MAX_FRAMES = 40

Codec = Literal["dense", "cells"]


class Provenance(BaseModel):
    """Everything that decides the bytes of a store besides the frames themselves. Two stores mix only if equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    dataset_version: str
    taxonomy: str
    encoder: str
    weights_sha256: str
    weights_random: bool
    clip_dim: int
    image_size: tuple[int, int]  # width, height in pixels, as encoded
    grid: str  # e.g. "cylinder:480x360x32" or "cartesian:0.1", with its range
    occlusion: bool
    codec: Codec
    code_version: str


class StoreInfo(BaseModel):
    """`store.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    provenance: Provenance


class Array(BaseModel):
    """One array: its name in the group, symbolic dimensions, dtype."""

    model_config = ConfigDict(frozen=True)

    name: str
    dims: tuple[str, ...]
    dtype: str
    codec: Codec | None = None  # None: in every store
    optional: bool = False  # absent where the data set has no labels


ARRAYS: tuple[Array, ...] = (
    Array(name="offsets/points", dims=("F+1",), dtype="int64"),
    Array(name="offsets/voxels", dims=("F+1",), dtype="int64"),
    Array(name="offsets/objects", dims=("F+1",), dtype="int64"),
    Array(name="points/xyz", dims=("P", "3"), dtype="float32"),  # metres, LiDAR frame
    Array(name="points/intensity", dims=("P",), dtype="float32"),  # 0..1
    Array(name="points/voxel", dims=("P",), dtype="int32"),  # row within the frame's voxels
    Array(name="points/views", dims=("P",), dtype="uint8"),  # cameras that see the point; 0: no CLIP feature
    Array(name="points/label", dims=("P",), dtype="uint32", optional=True),  # raw, as the data set gives it
    Array(name="voxels/coords", dims=("V", "3"), dtype="int32"),  # grid index, sorted within a frame
    Array(name="voxels/valid", dims=("V",), dtype="bool"),  # has a CLIP feature
    # object-level embeddings: mean CLIP feature over the segment's own points that have one
    Array(name="objects/class", dims=("S",), dtype="uint8"),
    Array(name="objects/instance", dims=("S",), dtype="uint32"),  # things: raw label; stuff: 0
    Array(name="objects/points", dims=("S",), dtype="int32"),
    Array(name="objects/seen_points", dims=("S",), dtype="int32"),  # of them, with a CLIP feature
    Array(name="objects/embedding", dims=("S", "C"), dtype="float32"),  # zeros where seen_points is 0
    # codec `dense`: the reference
    Array(name="clip/dense", dims=("W", "C"), dtype="float16", codec="dense"),
    # codec `cells`: voxel feature = weights (CSR, W rows) @ cells
    Array(name="offsets/valid", dims=("F+1",), dtype="int64"),
    Array(name="offsets/cells", dims=("F+1",), dtype="int64", codec="cells"),
    Array(name="clip/cells", dims=("K", "C"), dtype="float16", codec="cells"),
    Array(name="clip/indptr", dims=("W+F",), dtype="int64", codec="cells"),  # per frame: its own CSR indptr
    Array(name="clip/indices", dims=("Z",), dtype="int32", codec="cells"),  # row within the frame's cells
    Array(name="clip/weights", dims=("Z",), dtype="float32", codec="cells"),
    Array(name="offsets/weights", dims=("F+1",), dtype="int64", codec="cells"),
)

FRAME = pa.struct(
    [
        ("token", pa.string()),
        ("subset", pa.string()),
        ("index", pa.int32()),
        ("timestamp_us", pa.int64()),
        ("points", pa.int64()),
        ("voxels", pa.int64()),
        ("valid_voxels", pa.int64()),
        ("labelled", pa.bool_()),
        ("global_from_lidar", pa.list_(pa.float64(), 16)),
    ]
)
FILE = pa.struct([("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())])
SKIPPED = pa.struct([("token", pa.string()), ("kind", pa.string()), ("reason", pa.string())])

MANIFEST = pa.schema(
    [
        ("partition", pa.string()),
        ("scene", pa.string()),
        ("frames", pa.list_(FRAME)),
        ("skipped", pa.list_(SKIPPED)),  # quarantined frames and why
        ("files", pa.list_(FILE)),  # every file below partitions/PARTITION.zarr
        ("codec_max_error", pa.float64()),  # largest |stored - computed| over the voxel features
        ("codec_mean_error", pa.float64()),
    ],
    metadata={"ovps_schema_version": str(SCHEMA_VERSION)},
)


def arrays_of(codec: Codec, *, labelled: bool) -> tuple[Array, ...]:
    """The arrays a partition of this codec has."""
    return tuple(a for a in ARRAYS if a.codec in (None, codec) and (labelled or not a.optional))


def check_arrays(arrays: dict[str, np.ndarray], codec: Codec, *, labelled: bool, clip_dim: int) -> None:
    """Raise ValueError unless `arrays` are exactly the arrays of this schema, of agreeing shapes and dtypes."""
    expected = {a.name: a for a in arrays_of(codec, labelled=labelled)}
    if set(arrays) != set(expected):
        raise ValueError(f"arrays {sorted(set(arrays) ^ set(expected))} are missing or not in the schema")
    frames = len(arrays["offsets/points"]) - 1
    sizes = {"3": 3, "C": clip_dim, "F+1": frames + 1}
    for name, array in arrays.items():
        spec = expected[name]
        if array.dtype != np.dtype(spec.dtype) or array.ndim != len(spec.dims):
            raise ValueError(f"{name}: {array.dtype} of {array.ndim} dimensions, expected {spec.dtype} {spec.dims}")
        for dim, size in zip(spec.dims, array.shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"{name}: dimension {dim} is {size}, elsewhere {sizes[dim]}")
    if "W+F" in sizes and sizes["W+F"] != int(arrays["offsets/valid"][-1]) + frames:
        raise ValueError(f"clip/indptr: {sizes['W+F']} entries, expected one more per frame than its valid voxels")
