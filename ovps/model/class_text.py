"""Class names as the network and the losses see them: one object for text, synonyms, kinds, and what was trained on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ovps.taxonomy import name_key
from ovps.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class ClassText:
    """E classes of a vocabulary, in its order, as tensors.

    Attributes:
        text: (T, C) float32, one row per synonym; what the rows mean is the classifier's affair.
        class_index: (T,) int64 in 0..E-1, the class of each row; every class has one.
        is_thing: (E,) bool.
        trained: (E,) bool, classes that were trained on.
    """

    text: Tensor
    class_index: Tensor
    is_thing: Tensor
    trained: Tensor

    @classmethod
    def of(cls, vocabulary: Vocabulary, trained: Collection[str]) -> ClassText:
        """The entries of a vocabulary; `trained` are the names of the classes that were trained on."""
        keys = {name_key(name) for name in trained}
        is_trained = np.array([name_key(name) in keys for name in vocabulary.names])
        arrays = (vocabulary.embeddings, vocabulary.class_index, vocabulary.is_thing, is_trained)
        return cls(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))

    def __len__(self) -> int:
        return len(self.is_thing)

    @cached_property
    def stuff(self) -> Tensor:
        """The stuff classes, (S,) int64 on the CPU: in training the k-th fixed query belongs to the k-th of them."""
        return (~self.is_thing.cpu()).nonzero()[:, 0]

    def to(self, device: torch.device | str) -> ClassText:
        return ClassText(*(getattr(self, f.name).to(device) for f in fields(self)))
