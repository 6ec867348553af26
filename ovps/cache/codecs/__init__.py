"""Codecs, the ways to store voxel features: one object each, found by name."""

from __future__ import annotations

from scipy.sparse import csr_array

from ovps.cache.codecs.protocol import Codec
from ovps.plugins import Registry

GROUP = "ovps.codecs"
BUILT_IN = {
    "dense": "ovps.cache.codecs.dense:CODEC",
    "cells": "ovps.cache.codecs.cells:CODEC",
    "cells-pca": "ovps.cache.codecs.lossy_cells:PCA",
    "cells-pca-small": "ovps.cache.codecs.lossy_cells:PCA_SMALL",
    "cells-int8": "ovps.cache.codecs.lossy_cells:INT8",
    "cells-pq": "ovps.cache.codecs.lossy_cells:PQ",
    "cells-pq-small": "ovps.cache.codecs.lossy_cells:PQ_SMALL",
}
REGISTRY = Registry[Codec](GROUP, Codec, BUILT_IN, optional={"fit": "fit_frames", "factors": "keeps_cells"})
get, names = REGISTRY.get, REGISTRY.names


def smallest(weights: csr_array, clip_dim: int) -> str:
    """The name of the lossless built-in codec that stores weights (V, K) CSR and their cells in the fewest bytes.

    What another package brings is never chosen unasked: nobody without it could read the store.
    """
    codecs = [codec for codec in map(get, BUILT_IN) if codec.lossless]
    return min(codecs, key=lambda codec: codec.expected_bytes(weights, clip_dim)).name
