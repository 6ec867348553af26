"""Cells as bytes, with a scale for each channel: the simple reference for what is cleverer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.cache.codecs.protocol import State

_LARGEST = 127


class Scaled:
    """A channel's range in training frames is divided into 254 steps; what lies beyond is cut."""

    dtype = "int8"

    def fit(self, sample: NDArray[np.float32]) -> State:
        low, high = sample.min(axis=0), sample.max(axis=0)
        return {"middle": (low + high) / 2, "scale": np.maximum((high - low) / (2 * _LARGEST), np.float32(1e-8))}

    def encode(self, cells: NDArray[np.float32], state: State) -> NDArray[Any]:
        steps = np.rint((cells - state["middle"]) / state["scale"])
        return np.clip(steps, -_LARGEST, _LARGEST).astype(np.int8)

    def decode(self, codes: NDArray[Any], state: State) -> NDArray[np.float32]:
        return np.asarray(codes * state["scale"] + state["middle"], np.float32)

    def code_bytes(self, clip_dim: int) -> int:
        return clip_dim
