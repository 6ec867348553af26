"""The text embeddings that training sees: those of the base classes. A closed set has none."""

from __future__ import annotations

import numpy as np
import torch

from ovps.batch.base_labels import ClassSplit
from ovps.errors import VocabularyError
from ovps.losses.base_classes import BaseClasses
from ovps.systems.closed_set import closed_text
from ovps.vocabulary import Vocabulary


def base_classes(vocabulary: Vocabulary, base: ClassSplit) -> BaseClasses:
    """Rows of `vocabulary` that belong to base classes; class k is the k-th of `base`, wherever its entry stands.

    Raises:
        VocabularyError: a base class has no entry.
    """
    missing = [name for name in base.names if name not in vocabulary.names]
    if missing:
        raise VocabularyError(
            f"the vocabulary has no entry for {', '.join(missing)}",
            remedy="Use the cache's own vocabulary, or precompute again",
        )
    rows = [np.flatnonzero(vocabulary.class_index == vocabulary.names.index(name)) for name in base.names]
    index = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    return BaseClasses(
        text=torch.from_numpy(vocabulary.embeddings[np.concatenate(rows)]),
        class_index=torch.from_numpy(index),
        is_thing=torch.from_numpy(base.is_thing),
    )


def closed_classes(base: ClassSplit) -> BaseClasses:
    """The same for `model.head: learned`: classes without text."""
    return BaseClasses(
        text=closed_text(base.names, base.names),
        class_index=torch.arange(len(base.names)),
        is_thing=torch.from_numpy(base.is_thing),
    )
