"""Texts of the panel: what a vocabulary, a data set or a visitor names something is shown, and not interpreted."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np
import pytest

from ovps.viewer import panel
from ovps.viewer.view import Question, View, legend
from tests.pipelines.test_report import Pieces

ODD = "<script>alert(1)</script>&\"' onload=1"


def named(view: View, name: str) -> View:
    """The frame without a run, its token and all names of the vocabulary and of the taxonomy made of one."""
    entries = tuple(replace(e, name=f"{name} {i}") for i, e in enumerate(view.vocabulary.entries))
    classes = tuple(c.model_copy(update={"name": f"{name} {c.id}"}) for c in view.taxonomy.classes)
    return View(
        replace(view.frame, token=name),
        view.taxonomy.model_copy(update={"classes": classes}),
        replace(view.vocabulary, entries=entries),
        view.novel,
        None,
    )


def texts(view: View, name: str) -> list[str]:
    """Everything that the panel says, with `name` for what a person or a file names."""
    shown = named(view, name)
    question = Question(name, view.vocabulary.embeddings[:1], view.vocabulary.embeddings[1:3], 0.01)
    seen = np.flatnonzero(shown.pooled[1])
    crops = [(name, np.zeros((4, 4, 3), np.uint8))]
    relevance = shown.relevance(question, of_segments=True)
    return [
        panel.said(name),
        panel.problem(name),
        panel.legend_html(legend(shown, "truth")),
        panel.legend_html(legend(shown, "CLIP arg-max")),
        panel.segment_html(shown, int(seen[0]), crops),
        panel.answer_html(shown, question, relevance, 0.0, [name]),
    ]


def replaced(piece: str) -> str:
    """A piece of a page with the odd name in it; in a command it is quoted."""
    if piece.startswith("ovps "):
        return shlex.join(word.replace("plain", ODD) for word in shlex.split(piece))
    return piece.replace("plain", ODD)


def test_names_are_text_wherever_they_appear(plain):
    for odd, harmless in zip(texts(plain, ODD), texts(plain, "plain"), strict=True):
        assert "plain" in harmless
        assert "<script" not in odd
        assert Pieces(odd).seen == [replaced(piece) for piece in Pieces(harmless).seen]


@pytest.mark.parametrize("text", ["bus", ODD])
def test_texts_are_plain_str_for_viser_to_send(plain, text):
    assert {type(said) for said in texts(plain, text)} == {str}
