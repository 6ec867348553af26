"""Cells along the principal axes of training cells, rounded to one step: transform coding.

Along the axes nothing is correlated, so that one step for all of them is the best for a given mean error, and axes
with little variance are rounded to runs of zeros, which compression makes nothing of. All axes are kept: the step alone
bounds the error of any cell, also of what training frames never showed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ovps.cache.codecs.protocol import State

_LARGEST = 2**15 - 1
_ROWS = 8192  # at once, in float64
_DENSE = 0.02  # share of values that are not zero, from which an axis is multiplied as a whole


class PrincipalAxes:
    """Signed steps along axes that are sorted by variance, as 2 n for n >= 0 and 2 |n| - 1 below: high bytes are zero.

    Args:
        noise: of the energy of cells, the share that rounding may take on average: mean squared error of a cell against
            the mean squared length; of one cell three times that at most. An axis of less variance than rounding would
            add loses less.
    """

    dtype = "uint16"

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def fit(self, sample: NDArray[np.float32]) -> State:
        mean = sample.mean(axis=0, dtype=np.float64)
        spread = np.zeros((sample.shape[1], sample.shape[1]))
        for start in range(0, len(sample), _ROWS):
            centred = sample[start : start + _ROWS] - mean
            spread += centred.T @ centred
        _, axes = np.linalg.eigh(spread)
        basis = axes[:, ::-1].T  # the largest variance first
        basis *= np.sign(np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1))
        energy = (np.trace(spread) / len(sample)) + np.square(mean).sum()
        step = np.sqrt(12 * self.noise * energy / sample.shape[1])  # rounding to it adds step^2 / 12 along each axis
        return {
            "mean": mean.astype(np.float32),
            "basis": basis.astype(np.float32),
            "step": np.array([max(step, np.finfo(np.float32).tiny)], np.float32),
        }

    def encode(self, cells: NDArray[np.float32], state: State) -> NDArray[Any]:
        steps = np.rint((cells - state["mean"]) @ state["basis"].T / state["step"])
        steps = np.clip(steps, -_LARGEST, _LARGEST).astype(np.int32)
        return ((steps << 1) ^ (steps >> 31)).astype(np.uint16)

    def decode(self, codes: NDArray[Any], state: State) -> NDArray[np.float32]:
        filled = np.count_nonzero(codes, axis=0)
        dense = int(np.flatnonzero(filled > _DENSE * len(codes)).max(initial=-1)) + 1
        head, tail = _signed(codes[:, :dense]), csr_array(_signed(codes[:, dense:]))
        basis = state["basis"] * state["step"]
        cells: NDArray[np.float32] = np.asarray(head @ basis[:dense] + state["mean"], np.float32)
        if tail.nnz:
            cells += tail @ basis[dense:]
        return cells

    def code_bytes(self, clip_dim: int) -> int:
        return 2 * clip_dim


def _signed(codes: NDArray[Any]) -> NDArray[np.float32]:
    half = (codes >> 1).astype(np.int16)
    return (half ^ -(codes & 1).astype(np.int16)).astype(np.float32)
