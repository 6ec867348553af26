"""Relevance against negatives: LERF's formula, and words."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from ovps.errors import VocabularyError, WeightsError
from ovps.viewer.relevance import margin, nearest
from ovps.viewer.words import LONGEST, Words, checked, split_words
from tests.helpers.fake_text import FakeText


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 1000), st.integers(1, 5))
def test_relevance_is_the_least_of_the_pairwise_softmaxes(seed, negatives):
    rng = np.random.default_rng(seed)
    features, query, others = unit(rng, 7, 6), unit(rng, 1, 6), unit(rng, negatives, 6)
    scaled = 3 * features  # length says nothing
    found = expit(margin(scaled, query, others) / 0.1)
    pairs = np.stack([softmax(features @ np.stack([query[0], n]).T / 0.1, axis=1)[:, 0] for n in others])
    np.testing.assert_allclose(found, pairs.min(axis=0), atol=1e-5)


def test_what_has_no_feature_has_no_margin():
    features = np.concatenate([np.zeros((1, 4), np.float32), unit(np.random.default_rng(0), 1, 4)])
    assert margin(features, features[1:], np.zeros((0, 4), np.float32)).tolist() == pytest.approx([0, 1], abs=1e-6)


def test_the_nearest_names_come_best_first():
    assert nearest(np.array([0.1, 0.7, 0.2]), ("a", "b", "c"), 2) == [("b", 0.7), ("c", 0.2)]


def test_points_and_segments_of_the_class_that_is_asked_for_light_up(plain):
    text = FakeText(plain.vocabulary)
    question, _ = Words(lambda: text).ask("bus", ("object", "things"))
    bus = plain.taxonomy.by_name["bus"].id
    of_points = plain.point_relevance(question)
    seen = plain.frame.views > 0
    is_bus = plain.truth.class_id == bus
    assert (of_points[~seen] == 0).all()
    assert of_points[seen & is_bus].mean() > of_points[seen & ~is_bus & (plain.truth.class_id > 0)].mean() + 0.2
    of_segments = plain.segment_relevance(question)
    called = plain.truth.class_id[[np.flatnonzero(plain.truth.segment == s)[0] for s in range(len(of_segments))]]
    assert called[of_segments.argmax()] == bus
    spread = plain.relevance(question, of_segments=True)
    assert (spread[plain.segments.segment < 0] == 0).all()
    assert spread.max() == of_segments.max()


def test_a_query_is_a_few_words():
    assert checked("  fire \n hydrant ") == "fire hydrant"
    for text in ("", " \t", "x" * (LONGEST + 1)):
        with pytest.raises(VocabularyError, match="query"):
            checked(text)
    assert split_words("object, things,, object ,") == ("object", "things")


def test_the_text_tower_is_loaded_once_and_in_the_background(plain):
    loads, go = [], threading.Event()

    def load():
        loads.append(threading.current_thread())
        go.wait(10)
        return FakeText(plain.vocabulary)

    words = Words(load)
    assert not loads
    words.start()
    words.start()
    assert not words.ready
    go.set()
    question, warnings = words.ask("bus", ("object",))
    words.ask("car", ())
    assert words.ready
    assert len(loads) == 1
    assert loads[0] is not threading.current_thread()
    assert (question.text, question.queries.shape[0], question.negatives.shape[0], warnings) == ("bus", 1, 1, [])
    itself, (warning,) = words.ask("bus", ("Bus ", "car"))
    assert (len(itself.negatives), warning) == (1, "the query is not held against itself (--against)")


def test_a_tower_that_cannot_be_loaded_says_so_and_is_tried_again(plain):
    broken = [True]

    def load():
        if broken.pop() if broken else False:
            raise WeightsError("no weights")
        return FakeText(plain.vocabulary)

    words = Words(load)
    with pytest.raises(WeightsError):
        words.ask("bus", ())
    assert words.ask("bus", ())[0].text == "bus"
