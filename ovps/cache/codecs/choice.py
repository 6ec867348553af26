"""The codec of a new store where none is asked for: a small one, where it is seen to lose next to nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ovps.cache.codecs.protocol import Codec, State, VoxelFeatures, encoded

SMALL = ("cells-pca-small", "cells-pca")  # the smallest first
FRAMES_PER_FITTED = 10  # fewer frames are stored exactly: CLIP would run twice on too large a share of them
_JUDGED = 8192  # rows of a sample


class Fidelity(NamedTuple):
    """Cosine of features as they are stored to what was computed."""

    mean: float
    first_percentile: float

    @property
    def enough(self) -> bool:
        """Say whether a codec may be taken unasked: no score of the drive world changed beyond the spread of seeds.

        docs/benchmarks.md, "The default", has the trainings.
        """
        return self.mean >= 0.99 and self.first_percentile >= 0.97


def fidelity(codec: Codec, state: State, sample: NDArray[np.float32]) -> Fidelity:
    """Store rows (M, C) float32 and read them back; of many, 8,192 that are evenly spread.

    A voxel's feature is a mean of some such rows, so that its cosine is higher.
    """
    rows = sample[:: max(1, len(sample) // _JUDGED)]
    found = encoded(codec, VoxelFeatures.of_voxels(rows, np.ones(len(rows), bool)), state).stored.dense()
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(found, axis=1)
    cosine = np.einsum("mc,mc->m", rows, found, dtype=np.float64) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return Fidelity(float(cosine.mean()), float(np.percentile(cosine, 1)))
