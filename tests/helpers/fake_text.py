"""A text tower that knows the words of a vocabulary; the usual negatives are as near to all, others far away."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.errors import VocabularyError
from ovps.viewer.relevance import NEGATIVES
from ovps.vocabulary import Vocabulary


@dataclass(frozen=True)
class FakeText:
    vocabulary: Vocabulary
    temperature: float = 0.05

    def embed(self, names: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._one(name) for name in names])

    def warnings(self, name: str) -> list[str]:
        return [f"{name[:9]}... is too long"] if len(name) > 300 else []

    def _one(self, name: str) -> NDArray[np.float32]:
        if not name.isascii():
            raise VocabularyError(
                f"the tokenizer of synthetic reads nothing in the name {name!a}", remedy="Write a word"
            )
        if name in self.vocabulary.names:
            return self.vocabulary.embeddings[self.vocabulary.names.index(name)]
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        middle = self.vocabulary.embeddings.mean(axis=0)
        vector = np.random.default_rng(seed).normal(size=len(middle)) * 0.02
        vector += middle if name in NEGATIVES else -middle
        return (vector / np.linalg.norm(vector)).astype(np.float32)
