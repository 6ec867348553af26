"""How voxel features become bytes: `dense` stores each voxel's feature, `cells` what they are made of.

Everything after the image encoder is linear (bilinear sampling, mean over views, mean over points), so voxel features
are `weights (V, K) @ cells (K, C)`. Many voxels use the same few cells: storing cells and weights is smaller, and
loses nothing but the rounding of the cells to float16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas.v1 import Codec

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class VoxelFeatures:
    """The CLIP features of V voxels, in factors.

    Attributes:
        cells: (K, C) float32, features of the cells of all cameras.
        weights: (V, K) CSR float32; the row of a voxel that no camera sees is empty.
    """

    cells: NDArray[np.float32]
    weights: csr_array

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(V,) bool: the voxel has a feature."""
        return np.diff(self.weights.indptr) > 0

    def dense(self) -> NDArray[np.float32]:
        """(V, C) float32; zeros where not valid."""
        return np.asarray(self.weights @ self.cells, dtype=np.float32)


def encode(features: VoxelFeatures, codec: Codec) -> Arrays:
    """The arrays `clip/*` of one frame, as in `cache_schemas.v1`."""
    if codec == "dense":
        return {"clip/dense": features.dense()[features.valid].astype(np.float16)}
    rows = features.weights[features.valid]  # canonical copy; rows of unseen voxels hold nothing
    used, indices = np.unique(rows.indices, return_inverse=True)
    return {
        "clip/cells": features.cells[used].astype(np.float16),
        "clip/indptr": rows.indptr.astype(np.int32),
        "clip/indices": indices.reshape(-1).astype(np.int32),
        "clip/weights": rows.data.astype(np.float32),
    }


def decode(arrays: Arrays, codec: Codec, valid: NDArray[np.bool_], clip_dim: int) -> NDArray[np.float32]:
    """Voxel features (V, C) float32 from the arrays `clip/*` of one frame; zeros where not `valid` (V,) bool."""
    out = np.zeros((len(valid), clip_dim), np.float32)
    if codec == "dense":
        out[valid] = arrays["clip/dense"]
        return out
    parts = (arrays["clip/weights"], arrays["clip/indices"], arrays["clip/indptr"])
    weights = csr_array(parts, shape=(int(valid.sum()), len(arrays["clip/cells"])))
    out[valid] = weights @ arrays["clip/cells"].astype(np.float32)
    return out


def expected_bytes(weights: csr_array, clip_dim: int) -> dict[Codec, int]:
    """Bytes of `clip/*` in each codec before compression, for weights (V, K) CSR.

    Cells pay where they are larger than voxels, as with the big encoders; with a fine feature map a voxel mixes more
    cells than it is worth.
    """
    valid = int((np.diff(weights.indptr) > 0).sum())
    used = len(np.unique(weights.indices))
    return {"dense": 2 * valid * clip_dim, "cells": 2 * used * clip_dim + 8 * weights.nnz + 4 * (valid + 1)}


class CodecError(NamedTuple):
    """|stored - computed| over the float32 voxel features of a frame."""

    largest: float
    mean: float


def codec_error(arrays: Arrays, codec: Codec, valid: NDArray[np.bool_], computed: NDArray[np.float32]) -> CodecError:
    """Error of what would be read back, against the `computed` features (V, C) float32."""
    difference = np.abs(decode(arrays, codec, valid, computed.shape[1]) - computed)[valid]
    if difference.size == 0:
        return CodecError(0.0, 0.0)
    return CodecError(float(difference.max()), float(difference.mean(dtype=np.float64)))
