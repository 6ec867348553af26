"""A lossy codec with state, as another package would bring one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas import Array
from ovps.cache.codecs.protocol import Arrays, State, VoxelFeatures

RANK = 3


class Projected:
    """Coordinates in the first principal directions of some training frames."""

    name = "projected"
    lossless = False
    keeps_cells = False
    fit_frames = 2
    arrays = (Array(name="clip/projected", dims=("projected", RANK), dtype="float16"),)

    def fit(self, sample: NDArray[np.float32]) -> State:
        mean = sample.mean(axis=0)
        _, _, directions = np.linalg.svd(sample - mean, full_matrices=False)
        return {"mean": mean, "basis": directions[:RANK]}

    def encode(self, features: VoxelFeatures, state: State) -> Arrays:
        rows = features.dense()[features.valid] - state["mean"]
        return {"clip/projected": (rows @ state["basis"].T).astype(np.float16)}

    def decode(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> NDArray[np.float32]:
        out = np.zeros((len(valid), len(state["mean"])), np.float32)
        out[valid] = arrays["clip/projected"].astype(np.float32) @ state["basis"] + state["mean"]
        return out

    def factors(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> VoxelFeatures:
        raise NotImplementedError("it keeps no cells")

    def expected_bytes(self, weights: csr_array, clip_dim: int) -> int:
        return 1  # it would always be chosen, were it not lossy


CODEC = Projected()
