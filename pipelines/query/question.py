"""Question that objects are compared with: words, an example among them, or a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ovps.clip.pictures import embed_pictures
from ovps.errors import ConfigError, listed
from ovps.segment_reference import Of, Segment, parse_segment
from ovps.viewer.index import (
    ObjectIndex,
)
from ovps.viewer.view import Question
from ovps.viewer.words import Words
from pipelines.look import text_of
from pipelines.options import QueryOptions
from pipelines.vocabulary import encoder_of


def question_of(options: QueryOptions, like: Segment | None, index: ObjectIndex) -> tuple[Question, list[str]]:
    """Embed what objects are compared with.

    Args:
        like: the example among the objects, if `options` name one.

    Returns:
        The question, and warnings of words that CLIP does not see.

    Raises:
        ConfigError: no such segment.
        VocabularyError: words that CLIP cannot read, or a file that is no picture.
        WeightsError: the weights of the store's CLIP are not to be had.
    """
    if options.text is not None:
        negatives = tuple(word for word in options.negatives if word.strip())
        return Words(lambda: text_of(options.cache, options.weights)).ask(options.text, negatives)
    if options.image is not None:
        encoder = encoder_of(options.cache, options.weights)
        vector = embed_pictures(encoder, [options.image])
        return _example(f"picture {options.image.name}", vector), []
    assert like is not None
    return _example(f"like {like}", _vector(like, index)), []


def _example(text: str, vector: NDArray[np.floating]) -> Question:
    vector = vector.astype(np.float32)
    unit = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return Question(text, unit[None], np.zeros((0, len(unit)), np.float32), 1.0)


def example_of(like: str, of: Of | None) -> Segment:
    """Parse the name of an example.

    Args:
        like: as viewer and contact sheet write it, such as `FRAME:objects:NUMBER`.
        of: what is ranked; None: whatever the example is one of.

    Raises:
        ConfigError: no such name, or one of something else than is ranked.
    """
    segment = parse_segment(like)
    if segment is None:
        raise ConfigError(
            f"{like!r} names no segment", remedy="Write FRAME:objects:NUMBER, as viewer and contact sheet do"
        )
    if of and segment.of and segment.of != of:
        raise ConfigError(f"{like} is one of {segment.of}, and {of} are asked for", remedy=f"Leave out --of {of}")
    return segment


def _vector(like: Segment, index: ObjectIndex) -> NDArray[np.float16]:
    row = index.row_of(like.frame, like.number)
    if row is None:
        known = index.segment[index.frame == like.frame]
        remedy = (
            f"The frame has {listed(known, 20)}"
            if len(known)
            else "Give the token of a frame that is searched; one that no camera sees cannot be compared"
        )
        raise ConfigError(f"no segment {like} that a camera sees", remedy=remedy)
    return np.asarray(index.vectors[row])


def scores_of(question: Question, example: bool) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Choose how margins become scores: of an example they are cosines, of words relevance in 0..1.

    Args:
        example: the question is an example, or a picture.
    """
    if example:
        return lambda margins: margins
    return lambda margins: 1 / (1 + np.exp(-np.clip(margins / question.temperature, -80, 80)))
