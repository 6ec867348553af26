"""Cells as product-quantised codes: a byte for each few channels, after a rotation that makes them alike (OPQ).

https://doi.org/10.1109/TPAMI.2010.57, https://doi.org/10.1109/TPAMI.2013.240
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.cache.codecs.protocol import State
from ovps.errors import ConfigError
from ovps.extras import extra

_CENTRES = 256
_SAMPLE = 60_000  # cells that codebooks are made of
_ROUNDS = 10  # of alternating between rotation and codebooks


class ProductQuantiser:
    """Codebooks of training cells. faiss makes them and finds the nearest centres; decoding needs NumPy alone.

    Args:
        channels: to a byte.
    """

    dtype = "uint8"

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def fit(self, sample: NDArray[np.float32]) -> State:
        with extra("pq"):
            import faiss
        clip_dim = sample.shape[1]
        books = self._books(clip_dim)
        order = np.random.default_rng(0).permutation(len(sample))[:_SAMPLE]
        cells = np.ascontiguousarray(np.resize(sample[order], (max(len(order), _CENTRES), clip_dim)))
        within, quantiser = (faiss.ProductQuantizer(clip_dim, books, 8) for _ in range(2))
        for one in (within, quantiser):
            one.cp.min_points_per_centroid = 1  # faiss would warn of every piece
        rotation = faiss.OPQMatrix(clip_dim, books)
        rotation.niter, rotation.pq = _ROUNDS, within
        rotation.train(cells)
        quantiser.train(rotation.apply(cells))
        return {
            "rotation": faiss.vector_to_array(rotation.A).reshape(clip_dim, clip_dim),
            "centres": faiss.vector_to_array(quantiser.centroids).reshape(books, _CENTRES, self.channels),
        }

    def encode(self, cells: NDArray[np.float32], state: State) -> NDArray[Any]:
        with extra("pq"):
            import faiss
        books = self._books(cells.shape[1])
        if not len(cells):
            return np.zeros((0, books), np.uint8)
        quantiser = faiss.ProductQuantizer(cells.shape[1], books, 8)
        faiss.copy_array_to_vector(np.ascontiguousarray(state["centres"]).ravel(), quantiser.centroids)
        return quantiser.compute_codes(np.ascontiguousarray(cells @ state["rotation"].T))

    def decode(self, codes: NDArray[Any], state: State) -> NDArray[np.float32]:
        centres = state["centres"]
        rotated = centres[np.arange(len(centres)), codes.astype(np.intp)]
        return rotated.reshape(len(codes), len(state["rotation"])) @ state["rotation"]

    def code_bytes(self, clip_dim: int) -> int:
        return clip_dim // self.channels

    def _books(self, clip_dim: int) -> int:
        if clip_dim % self.channels:
            raise ConfigError(
                f"{clip_dim} CLIP channels cannot be cut into pieces of {self.channels}",
                remedy="Use another codec, cells-pca for example",
            )
        return clip_dim // self.channels
