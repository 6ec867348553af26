"""`queries`: masks, and class embeddings in CLIP space, from a decoder: the method, and `pfc`, the paper's baseline.

ovps train --cache ./zarr --system ovps --out runs/ovps
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ovps.batch.base_labels import ClassSplit
from ovps.batch.sample import Batch
from ovps.errors import VocabularyError
from ovps.losses.config import LossConfig
from ovps.losses.total import LossTerms, loss_terms
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig, TextClassifier
from ovps.model.config import ModelConfig
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.masks import mask_probability, reconstruct
from ovps.model.network import Network
from ovps.model.panoptic import MergeConfig, Panoptic, fill_uncovered, merge
from ovps.model.unclaimed import add_proposals
from ovps.systems.naming import MaskEvidence, name_masks, pooled_clip
from ovps.systems.protocol import Shape
from ovps.vocabulary import Vocabulary

MASK_THRESHOLD = 0.5  # of the masks that mask recall asks about


@dataclass(frozen=True, eq=False)
class MaskAnswer:
    """The answer of a network with queries: their classes and masks, of which thresholds make segments.

    Attributes:
        probability: (Q, E) of the classes.
        logits: (Q, V) of the masks.
        embedding: (Q, C).
        batch, classes: what it was asked.
    """

    probability: Tensor
    logits: Tensor
    embedding: Tensor
    batch: VoxelBatch
    classes: ClassText

    def segment(self, config: MergeConfig) -> Panoptic:
        return merge(self.probability, self.logits, self.classes.is_thing, self.batch.position, config)

    def variant(self, name: str, merged: Panoptic, config: MergeConfig) -> Panoptic:
        if name == "unsplit":
            return self.segment(config.model_copy(update={"split": False}))
        if name == "filled":
            return self._fill(merged, config)
        batch = self.batch
        return add_proposals(merged, batch.clip, batch.clip_valid, self.classes, batch.position, config.proposals)

    def unknown(self, config: MergeConfig) -> Tensor:
        """Score each voxel by 1 - its best class probability times mask: every query rejects it [RbA]."""
        claim = self.probability.amax(dim=1, keepdim=True) * mask_probability(self.logits, config.masks)
        return 1 - claim.amax(dim=0)

    def masks(self, merged: Panoptic, config: MergeConfig) -> Tensor:
        return mask_probability(self.logits, config.masks) > MASK_THRESHOLD

    def _fill(self, panoptic: Panoptic, config: MergeConfig) -> Panoptic:
        """By F_rec where a mask covers the voxel, whatever became of its query; else by F_clip where there is one."""
        batch = self.batch
        covered = (mask_probability(self.logits, config.masks) >= config.mask).any(dim=0)
        features = reconstruct(self.logits, self.embedding, config.masks)
        for feature, usable in ((features, covered), (batch.clip, batch.clip_valid)):
            panoptic = fill_uncovered(panoptic, feature, usable, self.classes, batch.position, config)
        return panoptic


def mask_evidence(
    network: Network, output: LayerOutput, batch: VoxelBatch, classes: ClassText, merge: MergeConfig
) -> MaskEvidence:
    """Gather what is known of the masks of one frame, by which they are named."""
    assert isinstance(network.classifier, TextClassifier)
    embedding = output.class_embedding[0]
    return MaskEvidence(
        logits=network.class_logits(embedding, classes),
        embedding=embedding,
        classes=classes,
        tau=network.classifier.tau,
        pool=lambda: pooled_clip(output.mask_logits[0], batch.clip, batch.clip_valid, merge.masks),
    )


class QuerySystem:
    """Learned queries for things and everything novel, one fixed query for each base stuff class [paper]."""

    name = "queries"
    variants: tuple[str, ...] = ("unsplit", "proposals", "filled")
    # which masks are kept, and where they end
    tuning: Mapping[str, Sequence[float]] = {"score": (0.1, 0.2, 0.3, 0.4), "mask": (0.2, 0.3, 0.5)}
    needs_labels = True
    learns_proposals = True
    uses_text = True

    def build(self, config: ModelConfig, shape: Shape) -> nn.Module:
        return Network(config, shape.input_dim, shape.clip_dim, shape.stuff)

    def training_classes(self, vocabulary: Vocabulary, base: ClassSplit) -> ClassText:
        missing = [name for name in base.names if name not in vocabulary.names]
        if missing:
            raise VocabularyError(
                f"the vocabulary has no entry for {', '.join(missing)}",
                remedy="Use the cache's own vocabulary, or precompute again",
            )
        rows = [np.flatnonzero(vocabulary.class_index == vocabulary.names.index(name)) for name in base.names]
        return ClassText(
            text=torch.from_numpy(vocabulary.embeddings[np.concatenate(rows)]),
            class_index=torch.from_numpy(np.repeat(np.arange(len(rows)), [len(r) for r in rows])),
            is_thing=torch.from_numpy(base.is_thing),
            trained=torch.ones(len(rows), dtype=torch.bool),
        )

    def classes(self, vocabulary: Vocabulary, trained: Sequence[str]) -> ClassText:
        return ClassText.of(vocabulary, trained)

    def loss(
        self,
        network: nn.Module,
        outputs: list[LayerOutput],
        batch: Batch,
        classes: ClassText,
        mean_l1: float,
        config: LossConfig,
        reduce: Callable[[Tensor], Tensor],
    ) -> LossTerms:
        assert isinstance(network, Network)
        return loss_terms(outputs, batch.voxels, batch.targets, network.class_logits, classes, mean_l1, config, reduce)

    def answer(
        self,
        network: nn.Module,
        batch: VoxelBatch,
        classes: ClassText,
        merge: MergeConfig,
        classifier: ClassifierConfig,
    ) -> MaskAnswer:
        assert isinstance(network, Network)
        output = network(batch)[-1]
        probability = self.probability(network, output, batch, classes, merge, classifier)
        return MaskAnswer(probability, output.mask_logits[0], output.class_embedding[0], batch, classes)

    def probability(
        self,
        network: Network,
        output: LayerOutput,
        batch: VoxelBatch,
        classes: ClassText,
        merge: MergeConfig,
        classifier: ClassifierConfig,
    ) -> Tensor:
        """Compute the class probabilities of the queries of one frame, (Q, E)."""
        return name_masks(mask_evidence(network, output, batch, classes, merge), classifier)

    def reads_camera(self, config: ModelConfig, classifier: ClassifierConfig, variant: str | None) -> bool:
        return config.fusion or classifier.classes != "unified" or variant in ("filled", "proposals")


SYSTEM = QuerySystem()
