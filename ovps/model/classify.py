"""The unified head: one classifier for base and novel classes, cosines to the text embeddings of a vocabulary."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def class_cosines(class_embedding: Tensor, text: Tensor, class_index: Tensor, classes: int) -> Tensor:
    """Cosine to each class: the largest over its synonyms [paper].

    Args:
        class_embedding: (..., C), any norm.
        text: (T, C), any norm, one row per synonym.
        class_index: (T,) int64, the class of each row; every class has a row.
        classes: E.

    Returns:
        (..., E) float32.
    """
    cosine = F.normalize(class_embedding.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
    index = class_index.expand_as(cosine)
    best = cosine.new_full((*cosine.shape[:-1], classes), -1.0)
    return best.scatter_reduce(-1, index, cosine, "amax", include_self=False)


def class_logits(
    class_embedding: Tensor, text: Tensor, class_index: Tensor, classes: int, tau: Tensor | float, bias: Tensor | float
) -> Tensor:
    """cos / tau + b, (..., E); sigmoid makes class probabilities of it. Arguments as in `class_cosines`."""
    return class_cosines(class_embedding, text, class_index, classes) / tau + bias
