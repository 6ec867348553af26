"""`closed_set`, the upper bound: P3Former's way, LiDAR only, learned class logits, trained with all labels.

ovps train --cache ./zarr --system closed_set --out runs/closed_set
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ovps.model.layers import logit


class LearnedClassifier(nn.Module):
    """A linear layer in place of the text of a vocabulary.

    It takes the same arguments as `ovps.model.classify.TextClassifier`, but its text is `closed_text`: one row per
    class, which says at which of the classes trained on it stands.
    """

    def __init__(self, clip_dim: int, classes: int, class_prior: float) -> None:
        super().__init__()
        self.linear = nn.Linear(clip_dim, classes)
        # class embeddings have length 1: to the scale that a linear layer is made for
        self._scale = math.sqrt(clip_dim)
        nn.init.constant_(self.linear.bias, logit(class_prior))

    def forward(self, class_embedding: Tensor, text: Tensor, class_index: Tensor, classes: int) -> Tensor:
        """(..., C) embeddings and (E, K) rows of `closed_text`, one per entry, to logits (..., E)."""
        return self.linear(class_embedding.float() * self._scale) @ text.T


def closed_text(names: tuple[str, ...], trained: tuple[str, ...]) -> Tensor:
    """(E, K) float32: row e is 1 at the trained class that entry e is named after.

    Raises:
        ValueError: a name that is not among the trained: a closed set has no other.
    """
    return torch.eye(len(trained))[[trained.index(name) for name in names]]
