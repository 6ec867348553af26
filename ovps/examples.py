"""A class shown by examples out of a store: segments of its frames instead of, or beside, words.

Image features lie nearer to each other than to any text, so that examples as rows beside those of text would take what
belongs to others: on true segments of the drive world they cost other classes 8 to 11 points of accuracy. So the texts
of an entry are moved towards its examples, and an entry without text has its examples moved to where texts lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ovps.entries import Entry, parse_entries, shown, split_unquoted, unquoted
from ovps.errors import VocabularyError
from ovps.segment_reference import Segment, parse_segment
from ovps.taxonomy import Kind, name_key
from ovps.vocabulary import Vocabulary

WEIGHT = 0.3  # of the examples beside each text; chosen on base classes alone: docs/results/names
_WRITE = (
    "Write NAME=FRAME:objects:NUMBER|FRAME:clusters:NUMBER with the frames and numbers that `ovps query` lists, or"
    " NAME=CLASS@SUBSET for all labelled objects of a class; NAME:stuff=... for stuff"
)


class ClassOf(NamedTuple):
    """All labelled objects of a class in the frames of a subset."""

    name: str
    subset: str


@dataclass(frozen=True)
class Examples:
    """Examples of an entry.

    Attributes:
        kind: None: that of the entry of this name, else of the classes that show it, else a thing.
    """

    name: str
    kind: Kind | None
    items: tuple[Segment | ClassOf, ...]


def parse_examples(text: str) -> Examples:
    """`NAME[:thing|stuff]=FRAME:objects:NUMBER|CLASS@SUBSET|...`; what holds a `|` stands in double quotes.

    >>> parse_examples("scooter=a6b3:objects:12|bus@train").items
    (Segment(frame='a6b3', number=12, of='objects'), ClassOf(name='bus', subset='train'))

    Raises:
        VocabularyError: not of this form.
    """
    head, _, tail = text.partition("=")
    items = tuple(_item(part, text) for item in split_unquoted(tail, "|") if (part := unquoted(item)))
    if not items:
        raise VocabularyError(f"no examples in {shown(text)!r}", remedy=_WRITE)
    entries = parse_entries(head)
    if len(entries) > 1:
        raise VocabularyError(f"more than one name in {shown(text)!r}", remedy=_WRITE)
    return Examples(entries[0].name, entries[0].kind if ":" in head else None, items)


def _item(part: str, text: str) -> Segment | ClassOf:
    if segment := parse_segment(part):
        return segment._replace(frame=unquoted(segment.frame))
    name, _, subset = part.partition("@")
    if name.strip() and subset.strip():
        return ClassOf(unquoted(name), subset.strip())
    raise VocabularyError(f"{part!r} in {shown(text)!r} names no segment and no class", remedy=_WRITE)


def mean_direction(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean of the unit vectors of (K, C), normalised: (C,) float32."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return _unit(unit.mean(axis=0))


def add_examples(
    vocabulary: Vocabulary,
    name: str,
    kind: Kind | None,
    vectors: NDArray[np.floating],
    shift: NDArray[np.floating],
    weight: float = WEIGHT,
) -> Vocabulary:
    """Show an entry by examples: its texts t become t + `weight` p, or without text p + `shift`, all of length 1.

    Args:
        vocabulary: with or without an entry of this name.
        name, kind: of the entry; see `Examples`.
        vectors: (K, C), CLIP features of the examples; p is their mean direction.
        shift: (C,), from where image features lie to where texts lie: see `shift_to_texts`.
        weight: of the examples.

    Raises:
        VocabularyError: the entry of this name is of the other kind.
    """
    example = mean_direction(vectors)
    label = f"{len(vectors)} example{'s' if len(vectors) != 1 else ''}"
    keys = [name_key(entry.name) for entry in vocabulary.entries]
    if name_key(name) not in keys:
        return replace(
            vocabulary,
            entries=(*vocabulary.entries, Entry(name, kind or "thing", (label,))),
            embeddings=np.concatenate([vocabulary.embeddings, _unit(example + shift)[None]]),
            class_index=np.append(vocabulary.class_index, np.int64(len(keys))),
        )
    number = keys.index(name_key(name))
    entry = vocabulary.entries[number]
    if kind not in (None, entry.kind):
        raise VocabularyError(f"{entry.name} is {entry.kind}, not {kind}", remedy=_WRITE)
    entries, rows = list(vocabulary.entries), vocabulary.embeddings.copy()
    entries[number] = replace(entry, synonyms=tuple(f"{s} and {label}" for s in entry.synonyms))
    own = vocabulary.class_index == number
    rows[own] = [_unit(text + weight * example) for text in rows[own]]
    return replace(vocabulary, entries=tuple(entries), embeddings=rows)


def shift_to_texts(features: Sequence[NDArray[np.floating]], texts: NDArray[np.floating]) -> NDArray[np.float32]:
    """Compute the way from the mean image feature to the mean text, (C,) [the modality gap, Liang et al. 2022].

    Args:
        features: of some frames, (V, C) each.
        texts: (T, C).
    """
    count = max(sum(map(len, features)), 1)
    return (texts.mean(axis=0) - sum(f.sum(axis=0) for f in features) / count).astype(np.float32)


def _unit(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
