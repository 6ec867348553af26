"""Codec `dense`: each voxel's own feature, the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas import Array
from ovps.cache.codecs.half import to_half, to_single
from ovps.cache.codecs.protocol import Arrays, State, VoxelFeatures


class Dense:
    """One row of float16 per voxel that has a feature."""

    name = "dense"
    lossless = True
    keeps_cells = False
    fit_frames = 0
    arrays = (Array(name="clip/dense", dims=("valid", "C"), dtype="float16"),)

    def fit(self, sample: NDArray[np.float32]) -> State:
        return {}

    def encode(self, features: VoxelFeatures, state: State) -> Arrays:
        return {"clip/dense": to_half(features.dense()[features.valid])}

    def decode(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> NDArray[np.float32]:
        stored = arrays["clip/dense"]
        out = np.zeros((len(valid), stored.shape[1]), np.float32)
        out[valid] = to_single(stored)
        return out

    def factors(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> VoxelFeatures:
        raise NotImplementedError("it keeps no cells")

    def expected_bytes(self, weights: csr_array, clip_dim: int) -> int:
        return 2 * int((np.diff(weights.indptr) > 0).sum()) * clip_dim


CODEC = Dense()
