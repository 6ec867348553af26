"""Prediction of a system for one frame, in points, and the mapping of its entries to classes of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.entries import shown
from ovps.errors import VocabularyError, listed
from ovps.taxonomy import UNLABELLED, ClassInfo, Taxonomy, name_key
from ovps.vocabulary import Vocabulary

LISTED = 20  # names in a sentence


@dataclass(frozen=True, eq=False)
class PointLabels:
    """Predicted classes and instances of N points.

    Attributes:
        entry: (N,) int64, row of the vocabulary's entries, -1 where nothing was predicted.
        instance: (N,) int64, unique within the frame for things, 0 for stuff and where nothing was predicted.
    """

    entry: NDArray[np.int64]
    instance: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """Everything that is predicted on one frame.

    Attributes:
        labels: as the inference settings say.
        variants: the same with one setting changed, by name.
        point_voxel: (N,) int64, row of each point's voxel.
        masks: (Q, V) bool, the queries' masks before the merge (probability above 0.5).
        unknown: (N,) float32 in 0..1, how likely each point is none of the vocabulary; None unless asked for.
    """

    labels: PointLabels
    variants: dict[str, PointLabels]
    point_voxel: NDArray[np.int64]
    masks: NDArray[np.bool_]
    unknown: NDArray[np.float32] | None = None


def class_ids(vocabulary: Vocabulary, taxonomy: Taxonomy) -> NDArray[np.int64]:
    """Map entries to class ids by name, (E + 1,) int64: 0 for distractors, and at the end 0 for entry -1.

    Raises:
        VocabularyError: no entry is a class of the taxonomy.
    """
    known = [UNLABELLED if c is None else c.id for c in named_classes(vocabulary, taxonomy)]
    if not any(known):
        raise VocabularyError(
            f"none of {_listed(vocabulary.names)} is a class of {taxonomy.name}",
            remedy=f"Name entries after its classes ({', '.join(taxonomy.by_name)}), synonyms behind `=`",
        )
    return np.array([*known, UNLABELLED])


def named_classes(vocabulary: Vocabulary, taxonomy: Taxonomy) -> tuple[ClassInfo | None, ...]:
    """Find the class that each entry is named after, by `ovps.taxonomy.name_key`; None for distractors."""
    return tuple(taxonomy.by_key.get(name_key(name)) for name in vocabulary.names)


def unnamed_classes(vocabulary: Vocabulary, taxonomy: Taxonomy) -> list[str]:
    """List the classes that no entry is named after, which are therefore never predicted."""
    named = {c.name for c in named_classes(vocabulary, taxonomy) if c}
    return [c.name for c in taxonomy.classes if c.name not in named]


def class_warnings(vocabulary: Vocabulary, taxonomy: Taxonomy) -> list[str]:
    """List what does not fit between a vocabulary and the classes that it is scored on, a sentence each."""
    pairs = list(zip(vocabulary.entries, named_classes(vocabulary, taxonomy), strict=True))
    unnamed, distractors = unnamed_classes(vocabulary, taxonomy), [e.name for e, c in pairs if c is None]
    sentences = {
        f"no entry of the vocabulary is named after {_listed(unnamed)}: nothing is predicted as these": unnamed,
        f"{_listed(distractors)}: no class of {taxonomy.name}; what is called so counts as unlabelled": distractors,
    }
    return [sentence for sentence, found in sentences.items() if found]


def mixed_kinds(vocabulary: Vocabulary, taxonomy: Taxonomy) -> list[str]:
    """Warn of entries named after classes of the other kind, in one sentence, or none."""
    pairs = zip(vocabulary.entries, named_classes(vocabulary, taxonomy), strict=True)
    other = [f"{e.name}:{c.kind}" for e, c in pairs if c and c.kind != e.kind]
    return [f"things and stuff are mixed up, {taxonomy.name} has {_listed(other)}: write them so"] if other else []


def _listed(names: Sequence[str]) -> str:
    return listed(map(shown, names), LISTED)
