"""Masks as probabilities, and the CLIP features they reconstruct. Voxel distillation and merge share these."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

MaskForm = Literal["sigmoid", "sigmoid_normalised", "softmax"]

# A voxel that no mask covers reconstructs to nearly zero instead of to a normalised accident.
_COVERED = 1e-3


def mask_probability(mask_logits: Tensor, form: MaskForm) -> Tensor:
    """Turn logits (Q, V) into probabilities: each query on its own, or competing (`softmax` over queries).

    `sigmoid_normalised` differs from `sigmoid` in `mixture` only.
    """
    return mask_logits.softmax(dim=0) if form == "softmax" else mask_logits.sigmoid()


def mixture(probability: Tensor, form: MaskForm) -> Tensor:
    """The weights M (Q, V) of the queries in each voxel. Only the two normalised forms sum to 1 over queries.

    Args:
        probability: (Q, V), what `mask_probability` gives for this form.
    """
    return probability / (probability.sum(dim=0) + _COVERED) if form == "sigmoid_normalised" else probability


def reconstruct(mask_logits: Tensor, class_embedding: Tensor, form: MaskForm) -> Tensor:
    """F_rec = M^T E [paper]: (Q, V) and (Q, C) to (V, C)."""
    return mixture(mask_probability(mask_logits, form), form).T @ class_embedding
