"""Codecs that store cells in fewer bytes than float16, at a loss: `cells-pca`, `cells-int8`, `cells-pq` and their like.

All mix cells as `cells` does, with weights in six bits; they differ in how a cell is written, which is a `Coder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas import Array
from ovps.cache.codecs.half import to_half, to_single
from ovps.cache.codecs.mixture import MIXTURE, mixture_arrays, mixture_weights
from ovps.cache.codecs.principal_axes import PrincipalAxes
from ovps.cache.codecs.product_quantiser import ProductQuantiser
from ovps.cache.codecs.protocol import Arrays, State, VoxelFeatures
from ovps.cache.codecs.scaled import Scaled

FIT_FRAMES = 16
CODES = "clip/codes"


class Coder(Protocol):
    """One way to write cells (K, C) float32 as codes (K, n), a row for each."""

    dtype: str

    def fit(self, sample: NDArray[np.float32]) -> State:
        """State made of cells (M, C) of training frames."""
        ...

    def encode(self, cells: NDArray[np.float32], state: State) -> NDArray[Any]:
        """Codes (K, n) of `dtype`; K may be 0."""
        ...

    def decode(self, codes: NDArray[Any], state: State) -> NDArray[np.float32]:
        """Cells (K, C)."""
        ...

    def code_bytes(self, clip_dim: int) -> int:
        """Bytes of a cell before compression."""
        ...


class LossyCells:
    """Voxel feature = weights @ cells, both as near as their few bytes allow."""

    lossless = False
    keeps_cells = True
    fit_frames = FIT_FRAMES

    def __init__(self, name: str, coder: Coder) -> None:
        self.name, self.coder = name, coder
        self.arrays = (Array(name=CODES, dims=("cells", "codes"), dtype=coder.dtype), *MIXTURE)

    def fit(self, sample: NDArray[np.float32]) -> State:
        return self.coder.fit(_halved(sample))

    def encode(self, features: VoxelFeatures, state: State) -> Arrays:
        used, arrays = mixture_arrays(features.weights)
        return {CODES: self.coder.encode(_halved(features.cells[used]), state), **arrays}

    def decode(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> NDArray[np.float32]:
        return self.factors(arrays, valid, state).dense()

    def factors(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> VoxelFeatures:
        cells = self.coder.decode(arrays[CODES], state)
        return VoxelFeatures(cells, mixture_weights(arrays, valid, len(cells)))

    def expected_bytes(self, weights: csr_array, clip_dim: int) -> int:
        valid = int((np.diff(weights.indptr) > 0).sum())
        return len(np.unique(weights.indices)) * self.coder.code_bytes(clip_dim) + 5 * weights.nnz + 4 * valid


def _halved(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """As codec `cells` stores them: a store that is converted from it holds the codes that precompute would write."""
    return to_single(to_half(cells))


PCA = LossyCells("cells-pca", PrincipalAxes(noise=0.005))
PCA_SMALL = LossyCells("cells-pca-small", PrincipalAxes(noise=0.02))
INT8 = LossyCells("cells-int8", Scaled())
PQ = LossyCells("cells-pq", ProductQuantiser(channels=4))
PQ_SMALL = LossyCells("cells-pq-small", ProductQuantiser(channels=8))
