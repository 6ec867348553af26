"""Mixtures and reconstructions of voxel features against loops."""

from __future__ import annotations

import math

import pytest
import torch

from ovps.model.masks import mask_probability, mixture, reconstruct


@pytest.mark.parametrize("form", ["sigmoid", "sigmoid_normalised", "softmax"])
def test_reconstruction_against_loops(form):
    g = torch.Generator().manual_seed(0)
    logits, embedding = 3 * torch.randn(4, 6, generator=g), torch.randn(4, 3, generator=g)
    got = reconstruct(logits, embedding, form)
    for v in range(6):
        p = [1 / (1 + math.exp(-float(x))) for x in logits[:, v]]
        if form == "sigmoid_normalised":
            p = [x / (sum(p) + 1e-3) for x in p]
        if form == "softmax":
            e = [math.exp(float(x)) for x in logits[:, v]]
            p = [x / sum(e) for x in e]
        for c in range(3):
            assert float(got[v, c]) == pytest.approx(sum(p[q] * float(embedding[q, c]) for q in range(4)), abs=1e-5)


def test_only_softmax_competes():
    logits = torch.tensor([[5.0], [5.0]])
    assert mask_probability(logits, "sigmoid").min() > 0.99
    assert mask_probability(logits, "sigmoid_normalised").min() > 0.99
    assert mask_probability(logits, "softmax").tolist() == [[0.5], [0.5]]
    assert mixture(logits.sigmoid(), "sigmoid_normalised").sum().item() == pytest.approx(1, abs=1e-3)
    # where no mask is, the normalised form says nothing instead of something arbitrary
    assert mixture(torch.tensor([[-20.0], [-21.0]]).sigmoid(), "sigmoid_normalised").sum().item() < 1e-3
