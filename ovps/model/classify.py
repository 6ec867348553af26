"""The unified head: one classifier for base and novel classes, cosines to the text embeddings of a vocabulary."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor, nn

from ovps.model.class_text import ClassText
from ovps.model.layers import logit


class ClassifierConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Settings of how masks get their classes at inference.

    Attributes:
        classes: `unified`: by the query's own class embedding, base and novel alike. `ensemble`: FC-CLIP's. `per_mask`:
            by pooled CLIP where that is nearest to a novel entry, else as `unified`. See `ovps.systems.naming`.
        base_weight, novel_weight: of `ensemble`: part of pooled CLIP in the geometric mean, for base and for other
            entries.
        clip_tau: of `ensemble` and `per_mask`: temperature of the softmax over pooled CLIP; CLIP's own logit scale
            is 100.
        margin: of `per_mask`: by how much cosine a novel entry must be nearer than every base entry; 0.05 was chosen
            on classes hidden from training (docs/results/names).
        certainty: of `ensemble` and `per_mask`: how much CLIP's certainty raises objectness; 0: not at all.
        base_shift: of `unified` and `per_mask`: subtracted from the head's logits of base entries.
    """

    classes: Literal["unified", "ensemble", "per_mask"] = "unified"
    base_weight: float = Field(0.4, ge=0, le=1)
    novel_weight: float = Field(0.8, ge=0, le=1)
    clip_tau: float = Field(0.01, gt=0)
    margin: float = Field(0.05, ge=0, le=2)
    certainty: float = Field(0.0, ge=0, le=1)
    base_shift: float = 0.0


class TextClassifier(nn.Module):
    """Classifier by text, cos / tau + b with two learned scalars: the temperature, and one bias for all classes.

    Args:
        tau: temperature to start from.
        tau_range: it stays within.
        class_prior: class probability to start from where the cosine is 0.
    """

    def __init__(self, tau: float, tau_range: tuple[float, float], class_prior: float) -> None:
        super().__init__()
        self._low, self._high = (math.log(t) for t in tau_range)
        self.raw_tau = nn.Parameter(torch.tensor(logit((math.log(tau) - self._low) / (self._high - self._low))))
        self.bias = nn.Parameter(torch.tensor(logit(class_prior)))

    def forward(self, class_embedding: Tensor, classes: ClassText) -> Tensor:
        """Logits (..., E) of any classes; arguments as in `class_cosines`."""
        return class_logits(class_embedding, classes, self.tau, self.bias)

    @property
    def tau(self) -> Tensor:
        """The temperature. A sigmoid between the logs of its bounds: a clamp that binds would have no gradient."""
        return (self._low + (self._high - self._low) * self.raw_tau.sigmoid()).exp()


def class_cosines(class_embedding: Tensor, classes: ClassText) -> Tensor:
    """Cosine to each class: the largest over its synonyms [paper].

    Args:
        class_embedding: (..., C), any norm.
        classes: E of them, whose text is (T, C), any norm.

    Returns:
        (..., E) float32.
    """
    cosine = F.normalize(class_embedding.float(), dim=-1) @ F.normalize(classes.text.float(), dim=-1).T
    index = classes.class_index.expand_as(cosine)
    best = cosine.new_full((*cosine.shape[:-1], len(classes)), -1.0)
    return best.scatter_reduce(-1, index, cosine, "amax", include_self=False)


def class_logits(class_embedding: Tensor, classes: ClassText, tau: Tensor | float, bias: Tensor | float) -> Tensor:
    """Compute cos / tau + b, (..., E); sigmoid makes class probabilities of it. Arguments as in `class_cosines`."""
    return class_cosines(class_embedding, classes) / tau + bias
