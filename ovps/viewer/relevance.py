"""Relevance of features to a query, in 0..1: against negatives, since a lone query lights up everything.

The relevancy of LERF [Kerr et al. 2023]: softmax of the query against each negative in turn, the least of them counts.
That is the sigmoid of the margin to the best negative, divided by CLIP's temperature: 0.5 where the query is as near as
the nearest negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NEGATIVES = ("object", "things", "stuff", "texture")  # LERF's


def margin(
    features: NDArray[np.floating], queries: NDArray[np.floating], negatives: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Cosine to the nearest query less that to the nearest negative, (M,) float32; what a ranking goes by.

    Args:
        features: (M, C), of any length; one of length 0 has margin 0.
        queries: (Q, C) unit rows, Q > 0.
        negatives: (K, C) unit rows; without any, the cosine to the query alone.
    """
    features = features.astype(np.float32)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    wanted = (unit @ queries.T).max(axis=1)
    return wanted - (unit @ negatives.T).max(axis=1) if len(negatives) else wanted


def nearest(scores: NDArray[np.floating], names: Sequence[str], count: int = 5) -> list[tuple[str, float]]:
    """The names with the highest scores (E,), best first."""
    best = np.argsort(-scores, kind="stable")[:count]
    return [(names[i], float(scores[i])) for i in best]
