"""What a system says about one frame, in points, and how its entries map to the classes of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.errors import VocabularyError
from ovps.taxonomy import UNLABELLED, Taxonomy
from ovps.vocabulary import Vocabulary

NO_ENTRY = -1


@dataclass(frozen=True, eq=False)
class PointLabels:
    """N points.

    Attributes:
        entry: (N,) int64, row of the vocabulary's entries, -1 where nothing was predicted.
        instance: (N,) int64, unique within the frame for things, 0 for stuff and where nothing was predicted.
    """

    entry: NDArray[np.int64]
    instance: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """One frame.

    Attributes:
        labels: as the inference settings say.
        variants: the same with one setting changed, by name.
        point_voxel: (N,) int64, row of each point's voxel.
        masks: (Q, V) bool, the queries' masks before the merge (probability above 0.5).
    """

    labels: PointLabels
    variants: dict[str, PointLabels]
    point_voxel: NDArray[np.int64]
    masks: NDArray[np.bool_]


def class_ids(vocabulary: Vocabulary, taxonomy: Taxonomy) -> NDArray[np.int64]:
    """(E + 1,) int64: the class id of each entry by its name, 0 for distractors; the last is 0, so that entry -1 is.

    Raises:
        VocabularyError: no entry is a class of the taxonomy.
    """
    known = [taxonomy.by_name[n].id if n in taxonomy.by_name else UNLABELLED for n in vocabulary.names]
    if not any(known):
        raise VocabularyError(
            f"none of {', '.join(vocabulary.names)} is a class of {taxonomy.name}",
            remedy=f"Name entries after its classes ({', '.join(taxonomy.by_name)}), synonyms behind `=`",
        )
    return np.array([*known, UNLABELLED])
