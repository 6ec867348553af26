"""Cache version 2: what a store holds, array by array. docs/cache.md tells it with examples.

    STORE/
      store.json                      StoreInfo: schema version, provenance, taxonomy, hash of the vocabulary
      vocabulary.safetensors          the data set's own classes as text embeddings
      codec.safetensors               the codec's state, where it has one
      manifest/PARTITION.parquet      MANIFEST, one row; a partition exists when this file does
      partitions/FOLDER/              the folders that a manifest names, Zarr v3 groups: ARRAYS

A partition has a folder of features and, where there are labels, one of labels. A folder is
`PARTITION-<12 hex digits>.zarr`, made for one attempt to write it and never written to again. The manifest that names
it is the commit; a folder is replaced by a manifest that names another one. A folder that no manifest names is the
leftover of a run that did not finish, or was replaced: nobody reads it.

A partition is at most `MAX_FRAMES` consecutive frames of one scene. Its frames lie one after another along the first
dimension of every array; where each begins tells `offsets/DIMENSION` of the same folder, (F+1,) int64.
C is the number of CLIP channels. The arrays `clip/*` are those of the codec that the provenance names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, field_validator, model_validator

SCHEMA_VERSION = 2
MAX_FRAMES = 40

Part = Literal["features", "labels"]


class _Record(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A part of a store's record: nobody changes it, and no field is unknown."""


class Provenance(_Record):
    """Everything that decides the bytes of a store besides the frames themselves. Two stores mix only if equal."""

    dataset: str
    dataset_version: str
    taxonomy: str
    taxonomy_sha256: str = ""  # of its content, which `StoreInfo` holds; "" in results of before version 2
    encoder: str
    weights_sha256: str
    weights_random: bool
    clip_dim: int = Field(gt=0)
    upscale: float  # images are enlarged by this factor before they are encoded
    precision: str = "float32"  # of the encoder's arithmetic: bfloat16 on a GPU
    grid: str  # as `ovps.geometry.grid` writes it, e.g. "cylinder:480x360x32:rho=0..50,z=-5..3"
    occlusion: dict[str, float] | None  # settings of the visibility test; None: every point in an image is seen
    cameras: tuple[str, ...] | None = None  # that were asked for; None: all that a frame has
    codec: str
    codec_state_sha256: str | None = None  # of the file of its state; None: it has none
    code_version: str
    sweeps: int = Field(default=0, ge=0)  # earlier ones whose points are joined to a frame's own as input
    # codecs, with their states, that the features were stored in before this one, and that are not exact
    converted_from: tuple[str, ...] = ()

    def sha256(self) -> str:
        """Hash it, as each folder of a store states it: fields that are as they usually are have no say, so that the
        hash stays what it is when there are new ones."""
        return content_sha256(self.model_dump(mode="json", exclude_defaults=True))


class StoreInfo(_Record):
    """`store.json`."""

    schema_version: int
    provenance: Provenance
    taxonomy: dict[str, Any]  # whole, as `ovps.taxonomy.Taxonomy` reads it
    vocabulary_sha256: str

    @model_validator(mode="after")
    def _is_the_taxonomy(self) -> StoreInfo:
        if content_sha256(self.taxonomy) != self.provenance.taxonomy_sha256:
            raise ValueError("the taxonomy is not the one that the provenance names")
        return self


def content_sha256(content: Mapping[str, Any]) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Array(BaseModel, frozen=True):
    """One array of a partition.

    Attributes:
        name: in the group.
        dims: the first is that along which frames are concatenated, and names its offsets; the others are sizes, `C`
            stands for the CLIP channels.
        dtype: on disk.
        part: of the partition.
        field: of a frame in memory that it becomes; None: it takes more than reading to make something of it.
        memory: dtype of that field, where it is another.
    """

    name: str
    dims: tuple[str | int, ...]
    dtype: str
    part: Part = "features"
    field: str | None = None
    memory: str | None = None


# Everything but the codec's. The order of a frame's fields, and of the text in docs/cache.md.
ARRAYS: tuple[Array, ...] = (
    Array(name="points/xyz", dims=("points", 3), dtype="float32", field="xyz"),  # metres, LiDAR frame
    Array(name="points/intensity", dims=("points",), dtype="float32", field="intensity"),  # 0..1
    # row within the frame's voxels
    Array(name="points/voxel", dims=("points",), dtype="int32", field="point_voxel", memory="int64"),
    # cameras that see the point; 0: its voxel may have a CLIP feature of others
    Array(name="points/views", dims=("points",), dtype="uint8", field="views"),
    Array(name="voxels/coords", dims=("voxels", 3), dtype="int32", field="coords"),  # grid index, sorted within a frame
    Array(name="voxels/valid", dims=("voxels",), dtype="bool", field="valid"),  # has a CLIP feature
    # encoded images, camera after camera; `CameraRow.thumbnail_bytes` tells where each ends
    Array(name="thumbnails/bytes", dims=("thumbnails",), dtype="uint8"),
    # raw, as the data set gives it
    Array(name="points/label", dims=("points",), dtype="uint32", part="labels", field="label"),
    # object-level embeddings: mean CLIP feature over the segment's own points that have one
    Array(name="objects/class", dims=("objects",), dtype="uint8", part="labels", field="object_class"),
    # things: raw label; stuff: 0
    Array(name="objects/instance", dims=("objects",), dtype="uint32", part="labels", field="object_instance"),
    Array(name="objects/points", dims=("objects",), dtype="int32", part="labels", field="object_points"),
    # of them, with a CLIP feature
    Array(name="objects/seen_points", dims=("objects",), dtype="int32", part="labels", field="object_seen_points"),
    # zeros where seen_points is 0
    Array(name="objects/embedding", dims=("objects", "C"), dtype="float32", part="labels", field="object_embedding"),
)


# Of stores with earlier sweeps alone (`Provenance.sweeps`): points that are input and nothing else, without a voxel, a
# CLIP feature or a label of their own.
EARLIER: tuple[Array, ...] = (
    # metres, LiDAR frame of the frame's own sweep, ego motion taken out
    Array(name="earlier/xyz", dims=("earlier", 3), dtype="float32", field="earlier_xyz"),
    Array(name="earlier/intensity", dims=("earlier",), dtype="float32", field="earlier_intensity"),  # 0..1
)


class CameraRow(_Record):
    """One camera of a frame."""

    channel: str
    image_path: str  # relative to the data root, with forward slashes
    width: int  # pixels, of the image
    height: int
    timestamp_us: int
    intrinsics: tuple[float, ...] = Field(min_length=9, max_length=9)  # (3, 3), row by row, pixels
    # (4, 4), row by row, metres: from the LiDAR at its own time to the camera at its own
    camera_from_lidar: tuple[float, ...] = Field(min_length=16, max_length=16)
    seen: int  # points that it sees
    # the feature map that was laid over the image, see `ovps.geometry.cells.CellGrid`
    cell_rows: int
    cell_cols: int
    cell_stride: float  # pixels of the image
    thumbnail_bytes: int = 0  # of its encoded image in `thumbnails/bytes`; 0: there is none


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
    """One file of a folder, below it."""

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


class FolderRow(_Record):
    """One part of a partition: a folder below `partitions/`, and every file in it."""

    folder: str
    files: tuple[FileRow, ...]


class PartitionRow(_Record):
    """The manifest of one partition. `labels` is None where no frame has any."""

    partition: str
    scene: str
    features: FolderRow
    labels: FolderRow | None
    frames: tuple[FrameRow, ...]
    skipped: tuple[SkippedRow, ...]

    @property
    def parts(self) -> dict[Part, FolderRow]:
        """The folders that it names."""
        found: dict[Part, FolderRow] = {"features": self.features}
        if self.labels is not None:
            found["labels"] = self.labels
        return found

    @field_validator("partition")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise ValueError(f"{name!r} is not a partition name")
        return name

    @model_validator(mode="after")
    def _own_folders(self) -> PartitionRow:
        for part in self.parts.values():
            if not re.fullmatch(re.escape(self.partition) + r"-[0-9a-f]{12}\.zarr", part.folder):
                raise ValueError(f"{part.folder!r} is not a folder of partition {self.partition!r}")
        if (self.labels is not None) != any(frame.labelled for frame in self.frames):
            raise ValueError("labels without a labelled frame, or the other way round")
        return self


CAMERA = pa.struct(
    [
        ("channel", pa.string()),
        ("image_path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("timestamp_us", pa.int64()),
        ("intrinsics", pa.list_(pa.float64(), 9)),
        ("camera_from_lidar", pa.list_(pa.float64(), 16)),
        ("seen", pa.int64()),
        ("cell_rows", pa.int32()),
        ("cell_cols", pa.int32()),
        ("cell_stride", pa.float64()),
        ("thumbnail_bytes", pa.int64()),
    ]
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
FOLDER = pa.struct([("folder", pa.string()), ("files", pa.list_(FILE))])

MANIFEST = pa.schema(
    [
        ("partition", pa.string()),
        ("scene", pa.string()),
        ("features", FOLDER),
        ("labels", FOLDER),  # null where no frame has labels
        ("frames", pa.list_(FRAME)),
        ("skipped", pa.list_(SKIPPED)),  # quarantined frames and why
    ],
    metadata={"ovps_schema_version": str(SCHEMA_VERSION)},
)


def dims_of(specs: Iterable[Array]) -> tuple[str, ...]:
    """The dimensions along which frames are concatenated, each with its offsets."""
    return tuple(dict.fromkeys(str(spec.dims[0]) for spec in specs))


def check_shapes(
    arrays: Mapping[str, tuple[tuple[int, ...], np.dtype]], specs: Iterable[Array], *, clip_dim: int
) -> dict[str, int]:
    """Raise ValueError unless these shapes and dtypes are exactly those of `specs`; return the sizes by dimension."""
    specs = tuple(specs)
    offsets = [Array(name=f"offsets/{dim}", dims=("frames + 1",), dtype="int64") for dim in dims_of(specs)]
    expected = {spec.name: spec for spec in (*specs, *offsets)}
    if set(arrays) != set(expected):
        raise ValueError(f"arrays {sorted(set(arrays) ^ set(expected))} are missing or not in the schema")
    sizes: dict[str, int] = {"C": clip_dim}
    for name, (shape, dtype) in arrays.items():
        spec = expected[name]
        if dtype != np.dtype(spec.dtype) or len(shape) != len(spec.dims):
            raise ValueError(f"{name}: {dtype} of {len(shape)} dimensions, expected {spec.dtype} {spec.dims}")
        for dim, size in zip(spec.dims, shape, strict=True):
            wanted = dim if isinstance(dim, int) else sizes.setdefault(dim, size)
            if wanted != size:
                raise ValueError(f"{name}: dimension {dim} is {size}, elsewhere {wanted}")
    return sizes


def check_offsets(offsets: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    """Raise ValueError unless every `offsets/DIMENSION` rises from 0 to the size of its dimension."""
    for name, values in offsets.items():
        dim = name.removeprefix("offsets/")
        if len(values) == 0 or values[0] != 0 or (np.diff(values) < 0).any():
            raise ValueError(f"{name}: not rising from 0")
        if int(values[-1]) != sizes[dim]:
            raise ValueError(f"{name}: ends at {values[-1]}, but dimension {dim} is {sizes[dim]}")


def check_arrays(arrays: Mapping[str, Any], specs: Iterable[Array], *, clip_dim: int) -> None:
    """Raise ValueError unless these are exactly the arrays of `specs` with their offsets, and all sizes agree."""
    sizes = check_shapes({name: (a.shape, a.dtype) for name, a in arrays.items()}, specs, clip_dim=clip_dim)
    check_offsets({n: a for n, a in arrays.items() if n.startswith("offsets/")}, sizes)
