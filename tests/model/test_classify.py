"""The unified head against loops."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovps.model.classify import class_cosines, class_logits
from tests.model import tiny


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 5), st.integers(0, 10**6))
def test_cosine_is_the_best_of_a_class(queries, classes, extra, seed):
    g = torch.Generator().manual_seed(seed)
    index = torch.cat([torch.arange(classes), torch.randint(0, classes, (extra,), generator=g)])
    index = index[torch.randperm(len(index), generator=g)]
    embedding, text = torch.randn(queries, 5, generator=g), torch.randn(len(index), 5, generator=g)
    got = class_cosines(embedding, tiny.classes(text, index, [True] * classes))
    for q in range(queries):
        for e in range(classes):
            cosines = [
                float(embedding[q] @ text[t]) / math.sqrt(float(embedding[q] @ embedding[q]) * float(text[t] @ text[t]))
                for t in range(len(index))
                if index[t] == e
            ]
            assert math.isclose(float(got[q, e]), max(cosines), abs_tol=1e-5)


def test_a_class_without_a_good_synonym_may_be_negative():
    classes = tiny.classes(torch.tensor([[-2.0, 0.0], [0.0, 1.0]]), [0, 1], [True, True])
    got = class_logits(torch.tensor([1.0, 0.0]), classes, 0.5, -1.0)
    assert got.tolist() == [-3.0, -1.0]


def test_gradcheck():
    g = torch.Generator().manual_seed(0)
    embedding = torch.randn(3, 4, generator=g, dtype=torch.float64, requires_grad=True)
    text = torch.randn(5, 4, generator=g, dtype=torch.float64)
    classes = tiny.classes(text, [0, 1, 0, 2, 1], [True] * 3)
    # the head computes in float32: finite differences need wide steps
    f = lambda e: class_logits(e, classes, 0.5, -1.0).double()  # noqa: E731
    assert torch.autograd.gradcheck(f, (embedding,), eps=1e-2, atol=2e-2)
