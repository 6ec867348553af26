"""Weights of a mixture of cells in few bytes: which cells a voxel mixes exactly, how much of each nearly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas import Array
from ovps.cache.codecs.protocol import Arrays

LEVELS = 63  # of a weight, against the largest of its voxel: names and cosines do not see the difference to float32

MIXTURE: tuple[Array, ...] = (
    Array(name="clip/counts", dims=("valid",), dtype="int32"),  # cells that a voxel mixes
    Array(name="clip/steps", dims=("weights",), dtype="int32"),  # row within the frame's cells, less the one before
    Array(name="clip/weights", dims=("weights",), dtype="uint8"),  # parts; a voxel's weights are its parts by their sum
)


def mixture_arrays(weights: csr_array) -> tuple[NDArray[np.int64], Arrays]:
    """The cells that are used, sorted, and the arrays of how they are mixed.

    Args:
        weights: (V, K) CSR whose rows sum to 1, or are empty.
    """
    counts = np.diff(weights.indptr)
    counts = counts[counts > 0]
    used, indices = np.unique(weights.indices, return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int64)
    largest = np.maximum.reduceat(weights.data, starts) if len(starts) else weights.data
    parts = np.rint(weights.data * (LEVELS / np.repeat(largest, counts)))
    return used, {
        "clip/counts": counts.astype(np.int32),
        "clip/steps": np.diff(indices.reshape(-1), prepend=0).astype(np.int32),
        "clip/weights": parts.astype(np.uint8),
    }


def mixture_weights(arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], cells: int) -> csr_array:
    """Weights (V, cells) CSR float32 from the arrays of one frame; rows that are not `valid` are empty."""
    counts = np.zeros(len(valid), np.int32)
    counts[valid] = arrays["clip/counts"]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    parts = arrays["clip/weights"].astype(np.float32)
    filled = arrays["clip/counts"]
    starts = np.concatenate([[0], np.cumsum(filled)])[:-1].astype(np.int64)
    sums = np.add.reduceat(parts, starts) if len(starts) else parts
    data = parts / np.repeat(sums, filled)
    return csr_array((data, np.cumsum(arrays["clip/steps"], dtype=np.int32), indptr), shape=(len(valid), cells))
