"""Codec `cells`: what voxel features are made of.

Many voxels use the same few cells: storing cells and weights is smaller, and loses nothing but the rounding of the
cells to float16. It pays where cells are larger than voxels, as with the big encoders; with a fine feature map a voxel
mixes more cells than it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas import Array
from ovps.cache.codecs.half import to_half, to_single
from ovps.cache.codecs.protocol import Arrays, State, VoxelFeatures


class Cells:
    """Voxel feature = weights (CSR, a row for each voxel that has a feature) @ cells, in float32."""

    name = "cells"
    lossless = True
    keeps_cells = True
    fit_frames = 0
    arrays = (
        Array(name="clip/cells", dims=("cells", "C"), dtype="float16"),  # only cells that a voxel uses
        Array(name="clip/indptr", dims=("indptr",), dtype="int32"),  # per frame: its own CSR indptr
        Array(name="clip/indices", dims=("weights",), dtype="int32"),  # row within the frame's cells
        Array(name="clip/weights", dims=("weights",), dtype="float32"),
    )

    def fit(self, sample: NDArray[np.float32]) -> State:
        return {}

    def encode(self, features: VoxelFeatures, state: State) -> Arrays:
        rows = features.weights[features.valid]  # canonical copy; rows of unseen voxels hold nothing
        used, indices = np.unique(rows.indices, return_inverse=True)
        return {
            "clip/cells": to_half(features.cells[used]),
            "clip/indptr": rows.indptr.astype(np.int32),
            "clip/indices": indices.reshape(-1).astype(np.int32),
            "clip/weights": rows.data.astype(np.float32),
        }

    def decode(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> NDArray[np.float32]:
        return self.factors(arrays, valid, state).dense()

    def factors(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> VoxelFeatures:
        cells = to_single(arrays["clip/cells"])
        counts = np.zeros(len(valid), np.int32)
        counts[valid] = np.diff(arrays["clip/indptr"])
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        parts = (arrays["clip/weights"], arrays["clip/indices"], indptr)
        return VoxelFeatures(cells, csr_array(parts, shape=(len(valid), len(cells))))

    def expected_bytes(self, weights: csr_array, clip_dim: int) -> int:
        valid = int((np.diff(weights.indptr) > 0).sum())
        return 2 * len(np.unique(weights.indices)) * clip_dim + 8 * weights.nnz + 4 * (valid + 1)


CODEC = Cells()
