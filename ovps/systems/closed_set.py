"""`closed_set`, the upper bound: P3Former's way, LiDAR only, learned class logits, trained with all labels.

ovps train --cache ./zarr --system closed_set --out runs/closed_set
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ovps.batch.base_labels import ClassSplit
from ovps.errors import VocabularyError
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.model.config import ModelConfig
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.layers import logit
from ovps.model.network import Network
from ovps.model.panoptic import MergeConfig
from ovps.systems.protocol import Shape
from ovps.systems.queries import QuerySystem
from ovps.taxonomy import name_key
from ovps.vocabulary import Vocabulary


class LearnedClassifier(nn.Module):
    """A linear layer in place of the text of a vocabulary.

    It takes the same arguments as `ovps.model.classify.TextClassifier`, but the text of its classes is `closed_text`:
    one row per class, which says at which of the classes trained on it stands.
    """

    def __init__(self, clip_dim: int, classes: int, class_prior: float) -> None:
        super().__init__()
        self.linear = nn.Linear(clip_dim, classes)
        # class embeddings have length 1: to the scale that a linear layer is made for
        self._scale = math.sqrt(clip_dim)
        nn.init.constant_(self.linear.bias, logit(class_prior))

    def forward(self, class_embedding: Tensor, classes: ClassText) -> Tensor:
        """Give logits (..., E) for embeddings (..., C) and E classes whose text is that of `closed_text`."""
        return self.linear(class_embedding.float() * self._scale) @ classes.text.T


def closed_text(names: Sequence[str], trained: Sequence[str]) -> Tensor:
    """Make the text of a closed set, (E, K) float32: row e is 1 at the trained class that entry e is named after.

    Raises:
        ValueError: a name that is not among the trained: a closed set has no other.
    """
    return torch.eye(len(trained))[[list(trained).index(name) for name in names]]


class ClosedSet(QuerySystem):
    """Queries with a learned logit for each class trained on, and no text."""

    name = "closed_set"
    variants = ("unsplit",)  # what is named by CLIP's text needs text
    uses_text = False
    reads = ("merge.",)
    namings = ("unified",)  # it has no class embeddings to mix with CLIP

    def build(self, config: ModelConfig, shape: Shape) -> nn.Module:
        classifier = LearnedClassifier(shape.clip_dim, shape.classes, config.class_prior)
        return Network(config, shape.input_dim, shape.clip_dim, shape.stuff, classifier)

    def training_classes(self, vocabulary: Vocabulary, base: ClassSplit) -> ClassText:
        is_thing = torch.from_numpy(base.is_thing)
        return _closed(closed_text(base.names, base.names), is_thing)

    def classes(self, vocabulary: Vocabulary, trained: Sequence[str]) -> ClassText:
        by_key = {name_key(name): name for name in trained}
        unknown = [name for name in vocabulary.names if name_key(name) not in by_key]
        if unknown:
            raise VocabularyError(
                f"a closed-set run cannot name {', '.join(unknown)}",
                remedy=f"Use the classes it was trained on, as NAME:stuff if they are no objects: {', '.join(trained)}",
            )
        names = [by_key[name_key(name)] for name in vocabulary.names]
        return _closed(closed_text(names, trained), torch.from_numpy(vocabulary.is_thing))

    def probability(
        self,
        network: Network,
        output: LayerOutput,
        batch: VoxelBatch,
        classes: ClassText,
        merge: MergeConfig,
        classifier: ClassifierConfig,
    ) -> Tensor:
        return network.class_logits(output.class_embedding[0], classes).sigmoid()


def _closed(text: Tensor, is_thing: Tensor) -> ClassText:
    return ClassText(text, torch.arange(len(text)), is_thing, torch.ones(len(text), dtype=torch.bool))


SYSTEM = ClosedSet()
