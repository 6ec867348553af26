"""Cache version 1: what a store holds, array by array.

    STORE/
      store.json                      StoreInfo: schema version, provenance, hash of the vocabulary
      vocabulary.safetensors          the data set's own classes as text embeddings
      manifest/PARTITION.parquet      MANIFEST, one row; a partition exists when this file does
      partitions/FOLDER/              the folder that a manifest names, a Zarr v3 group: ARRAYS

A folder is `PARTITION-<12 hex digits>.zarr`, made for one attempt to write the partition and never written to again.
The manifest that names it is the commit; a partition is replaced by a manifest that names another folder. A folder that
no manifest names is the leftover of a run that did not finish, or of a partition that was replaced: nobody reads it.

A partition is at most `MAX_FRAMES` consecutive frames of one scene. Frames are concatenated along the first
axis of every array; `offsets/*` tell where each begins. P points, V voxels, S objects, F frames, C CLIP channels;
W <= V voxels that have a CLIP feature; K feature-map cells and Z weights of the `cells` codec.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SCHEMA_VERSION = 1
MAX_FRAMES = 40

Codec = Literal["dense", "cells"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Provenance(_Record):
    """Everything that decides the bytes of a store besides the frames themselves. Two stores mix only if equal."""

    dataset: str
    dataset_version: str
    taxonomy: str
    encoder: str
    weights_sha256: str
    weights_random: bool
    clip_dim: int = Field(gt=0)
    upscale: float  # images are enlarged by this factor before they are encoded
    grid: str  # as `ovps.geometry.grid` writes it, e.g. "cylinder:480x360x32"
    occlusion: dict[str, float] | None  # settings of the visibility test; None: every point in an image is seen
    codec: Codec
    code_version: str


class StoreInfo(_Record):
    """`store.json`."""

    schema_version: int
    provenance: Provenance
    vocabulary_sha256: str


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
    Array(name="offsets/valid", dims=("F+1",), dtype="int64"),
    Array(name="offsets/objects", dims=("F+1",), dtype="int64"),
    Array(name="points/xyz", dims=("P", "3"), dtype="float32"),  # metres, LiDAR frame
    Array(name="points/intensity", dims=("P",), dtype="float32"),  # 0..1
    Array(name="points/voxel", dims=("P",), dtype="int32"),  # row within the frame's voxels
    Array(name="points/views", dims=("P",), dtype="uint8"),  # cameras that see the point; 0: no CLIP feature
    Array(name="points/label", dims=("P",), dtype="uint32", optional=True),  # raw, as the data set gives it
    Array(name="voxels/coords", dims=("V", "3"), dtype="int32"),  # grid index, sorted within a frame
    Array(name="voxels/valid", dims=("V",), dtype="bool"),  # has a CLIP feature; W of them
    # object-level embeddings: mean CLIP feature over the segment's own points that have one
    Array(name="objects/class", dims=("S",), dtype="uint8"),
    Array(name="objects/instance", dims=("S",), dtype="uint32"),  # things: raw label; stuff: 0
    Array(name="objects/points", dims=("S",), dtype="int32"),
    Array(name="objects/seen_points", dims=("S",), dtype="int32"),  # of them, with a CLIP feature
    Array(name="objects/embedding", dims=("S", "C"), dtype="float32"),  # zeros where seen_points is 0
    # codec `dense`: the reference
    Array(name="clip/dense", dims=("W", "C"), dtype="float16", codec="dense"),
    # codec `cells`: voxel feature = weights (CSR, W rows) @ cells, in float32
    Array(name="offsets/cells", dims=("F+1",), dtype="int64", codec="cells"),
    Array(name="offsets/weights", dims=("F+1",), dtype="int64", codec="cells"),
    Array(name="clip/cells", dims=("K", "C"), dtype="float16", codec="cells"),  # only cells that a voxel uses
    Array(name="clip/indptr", dims=("W+F",), dtype="int32", codec="cells"),  # per frame: its own CSR indptr
    Array(name="clip/indices", dims=("Z",), dtype="int32", codec="cells"),  # row within the frame's cells
    Array(name="clip/weights", dims=("Z",), dtype="float32", codec="cells"),
)

_COUNTED_BY = {"offsets/points": "P", "offsets/voxels": "V", "offsets/valid": "W", "offsets/objects": "S"}
_COUNTED_BY |= {"offsets/cells": "K", "offsets/weights": "Z"}


class CameraRow(_Record):
    """One camera of a frame."""

    channel: str
    width: int  # pixels, of the image
    height: int
    seen: int  # points that it sees


class FrameRow(_Record):
    """One frame of a partition, in the order of its arrays."""

    token: str
    subset: str
    index: int
    timestamp_us: int
    points: int
    voxels: int
    valid_voxels: int
    objects: int
    labelled: bool
    beyond_range: int  # points outside the grid's range, in its border cells
    global_from_lidar: tuple[float, ...] = Field(min_length=16, max_length=16)  # (4, 4), row by row, metres
    cameras: tuple[CameraRow, ...]
    codec_max_error: float  # largest |stored - computed| over the voxel features
    codec_mean_error: float


class SkippedRow(_Record):
    """A frame that could not be computed, or not with the labels that it has got since."""

    token: str
    kind: str
    reason: str


class FileRow(_Record):
    """One file of a partition, below its folder."""

    path: str
    bytes: int
    sha256: str

    @field_validator("path")
    @classmethod
    def _stays_below(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or str(pure) != path:
            raise ValueError(f"{path!r} is not a plain relative path")
        return path


class PartitionRow(_Record):
    """The manifest of one partition."""

    partition: str
    folder: str
    scene: str
    frames: tuple[FrameRow, ...]
    skipped: tuple[SkippedRow, ...]
    files: tuple[FileRow, ...]

    @field_validator("partition")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise ValueError(f"{name!r} is not a partition name")
        return name

    @model_validator(mode="after")
    def _own_folder(self) -> PartitionRow:
        if not re.fullmatch(re.escape(self.partition) + r"-[0-9a-f]{12}\.zarr", self.folder):
            raise ValueError(f"{self.folder!r} is not a folder of partition {self.partition!r}")
        return self


CAMERA = pa.struct([("channel", pa.string()), ("width", pa.int32()), ("height", pa.int32()), ("seen", pa.int64())])
FRAME = pa.struct(
    [
        ("token", pa.string()),
        ("subset", pa.string()),
        ("index", pa.int32()),
        ("timestamp_us", pa.int64()),
        ("points", pa.int64()),
        ("voxels", pa.int64()),
        ("valid_voxels", pa.int64()),
        ("objects", pa.int64()),
        ("labelled", pa.bool_()),
        ("beyond_range", pa.int64()),
        ("global_from_lidar", pa.list_(pa.float64(), 16)),
        ("cameras", pa.list_(CAMERA)),
        ("codec_max_error", pa.float64()),
        ("codec_mean_error", pa.float64()),
    ]
)
SKIPPED = pa.struct([("token", pa.string()), ("kind", pa.string()), ("reason", pa.string())])
FILE = pa.struct([("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())])

MANIFEST = pa.schema(
    [
        ("partition", pa.string()),
        ("folder", pa.string()),  # below partitions/
        ("scene", pa.string()),
        ("frames", pa.list_(FRAME)),
        ("skipped", pa.list_(SKIPPED)),  # quarantined frames and why
        ("files", pa.list_(FILE)),  # every file below the folder
    ],
    metadata={"ovps_schema_version": str(SCHEMA_VERSION)},
)


def arrays_of(codec: Codec, *, labelled: bool) -> tuple[Array, ...]:
    """The arrays a partition of this codec has."""
    return tuple(a for a in ARRAYS if a.codec in (None, codec) and (labelled or not a.optional))


def check_shapes(
    arrays: dict[str, tuple[tuple[int, ...], np.dtype]], codec: Codec, *, labelled: bool, clip_dim: int
) -> dict[str, int]:
    """Raise ValueError unless these shapes and dtypes are exactly this schema's; return the symbolic sizes."""
    expected = {a.name: a for a in arrays_of(codec, labelled=labelled)}
    if set(arrays) != set(expected):
        raise ValueError(f"arrays {sorted(set(arrays) ^ set(expected))} are missing or not in the schema")
    sizes = {"3": 3, "C": clip_dim}
    for name, (shape, dtype) in arrays.items():
        spec = expected[name]
        if dtype != np.dtype(spec.dtype) or len(shape) != len(spec.dims):
            raise ValueError(f"{name}: {dtype} of {len(shape)} dimensions, expected {spec.dtype} {spec.dims}")
        for dim, size in zip(spec.dims, shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"{name}: dimension {dim} is {size}, elsewhere {sizes[dim]}")
    return sizes


def check_arrays(arrays: dict[str, np.ndarray], codec: Codec, *, labelled: bool, clip_dim: int) -> None:
    """Raise ValueError unless `arrays` are exactly the arrays of this schema, and their sizes and offsets agree."""
    shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    sizes = check_shapes(shapes, codec, labelled=labelled, clip_dim=clip_dim)
    check_offsets({n: a for n, a in arrays.items() if n.startswith("offsets/")}, sizes)


def check_offsets(offsets: dict[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Raise ValueError unless every `offsets/*` rises from 0 to the size that it divides."""
    for name, values in offsets.items():
        dim = _COUNTED_BY[name]
        if len(values) == 0 or values[0] != 0 or (np.diff(values) < 0).any():
            raise ValueError(f"{name}: not rising from 0")
        if int(values[-1]) != sizes.get(dim, int(values[-1])):
            raise ValueError(f"{name}: ends at {values[-1]}, but dimension {dim} is {sizes[dim]}")
    frames = sizes["F+1"] - 1
    if "W+F" in sizes and sizes["W+F"] != int(offsets["offsets/valid"][-1]) + frames:
        raise ValueError(f"clip/indptr: {sizes['W+F']} entries, expected one more per frame than its valid voxels")
