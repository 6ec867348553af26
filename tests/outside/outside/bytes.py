"""A lossy codec with a state of its own: features as bytes, at a scale made of training frames."""

from __future__ import annotations

import numpy as np

from cache_schemas import Array


class Bytes:
    name = "bytes"
    lossless = False
    keeps_cells = False
    fit_frames = 1
    arrays = (Array(name="clip/bytes", dims=("valid", "C"), dtype="int8"),)

    def fit(self, sample):
        return {"scale": np.abs(sample).max(axis=0) / np.float32(127) + np.float32(1e-6)}

    def encode(self, features, state):
        scaled = features.dense()[features.valid] / state["scale"]
        return {"clip/bytes": scaled.round().clip(-127, 127).astype(np.int8)}

    def decode(self, arrays, valid, state):
        out = np.zeros((len(valid), len(state["scale"])), np.float32)
        out[valid] = arrays["clip/bytes"] * state["scale"]
        return out

    def factors(self, arrays, valid, state):
        raise NotImplementedError("it keeps no cells")

    def expected_bytes(self, weights, clip_dim):
        return int((np.diff(weights.indptr) > 0).sum()) * clip_dim


CODEC = Bytes()
