"""Conversion between a frame in memory and its arrays on disk: one loop each way over the table of `cache_schemas`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache_schemas import ARRAYS, EARLIER, Array, FrameRow, Part, Provenance
from ovps.cache.codecs.protocol import Arrays, Codec
from ovps.cache.frame_data import CachedFrame

# what the manifest and a frame in memory call by one name
_IN_THE_ROW = tuple(field.name for field in fields(CachedFrame) if field.name in FrameRow.model_fields)


def arrays_of(part: Part, codec: Codec, provenance: Provenance) -> tuple[Array, ...]:
    """The arrays that a part of a partition has, the codec's included."""
    own = tuple(spec for spec in ARRAYS if spec.part == part)
    return (*own, *(EARLIER if provenance.sweeps else ()), *codec.arrays) if part == "features" else own


def arrays_of_frame(frame: CachedFrame) -> Arrays:
    """The arrays of a frame as they are stored, without the codec's; those of labels only where it has some."""
    return {
        spec.name: getattr(frame, spec.field).astype(spec.dtype) if spec.memory else getattr(frame, spec.field)
        for spec in (*ARRAYS, *(EARLIER if frame.earlier_xyz is not None else ()))
        if spec.field and (spec.part == "features" or frame.label is not None)
    }


def frame_of(row: FrameRow, scene: str, arrays: Mapping[str, NDArray[Any]], clip: NDArray[np.float32]) -> CachedFrame:
    """A frame from its row of the manifest, its arrays, and its decoded features (V, C) float32."""
    values: dict[str, Any] = {name: getattr(row, name) for name in _IN_THE_ROW}
    values |= {"global_from_lidar": np.array(row.global_from_lidar).reshape(4, 4), "scene": scene, "clip": clip}
    for spec in (*ARRAYS, *EARLIER):
        if spec.field and spec.name in arrays:
            values[spec.field] = arrays[spec.name].astype(spec.memory or spec.dtype, copy=False)
        elif spec.field and spec.part == "labels":  # which are not there
            values[spec.field] = None if spec.field == "label" else _none(spec, clip.shape[1])
    return CachedFrame(**values)


def row_of(frame: CachedFrame, *, max_error: float, mean_error: float) -> FrameRow:
    """The manifest's row of a frame, with the error of its codec."""
    values = {name: getattr(frame, name) for name in _IN_THE_ROW}
    pose = tuple(frame.global_from_lidar.astype(np.float64).ravel().tolist())
    return FrameRow(
        **values | {"global_from_lidar": pose},
        points=len(frame.xyz),
        voxels=len(frame.coords),
        valid_voxels=int(frame.valid.sum()),
        objects=len(frame.object_class),
        labelled=frame.label is not None,
        codec_max_error=max_error,
        codec_mean_error=mean_error,
    )


def _none(spec: Array, clip_dim: int) -> NDArray[Any]:
    rest = tuple(clip_dim if dim == "C" else int(dim) for dim in spec.dims[1:])
    return np.zeros((0, *rest), spec.memory or spec.dtype)
