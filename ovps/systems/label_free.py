"""`label_free`: masks from label-free proposals alone, named by CLIP pooled in them. No label is looked at.

ovps train --cache ./zarr --system label_free --out runs/label_free
ovps eval --run runs/label_free --cache ./zarr --split b12n4

The task of SAL [Osep et al. 2024] and LOSC: 3D panoptic segmentation without any 3D label. What `ovps` asks of
unlabelled voxels is asked here of all: masks of clusters off the ground, their mean CLIP feature (L_O), and L_V. Every
class is novel. Without a class loss nothing says whether a mask is an object: its mean probability stands for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ovps.batch.base_labels import ClassSplit
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.model.config import ModelConfig
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.masks import mask_probability
from ovps.model.network import Network
from ovps.model.panoptic import MergeConfig
from ovps.systems.naming import name_masks
from ovps.systems.protocol import Shape
from ovps.systems.queries import QuerySystem, mask_evidence
from ovps.vocabulary import Vocabulary

INSIDE = 0.5  # probability from which on a voxel is of a mask
_EPS = 1e-6


class LabelFree(QuerySystem):
    """Learned queries alone: no fixed query of a class, no class that was trained on."""

    name = "label_free"
    needs_labels = False
    learns_proposals = True
    namings = ("per_mask", "ensemble")  # both name masks by CLIP: it learns no head

    def build(self, config: ModelConfig, shape: Shape) -> nn.Module:
        return Network(config, shape.input_dim, shape.clip_dim, 0)

    def training_classes(self, vocabulary: Vocabulary, base: ClassSplit) -> ClassText:
        """Return no class."""
        nothing = torch.zeros(0, dtype=torch.bool)
        text = torch.zeros(0, vocabulary.embeddings.shape[1])
        return ClassText(text, torch.zeros(0, dtype=torch.int64), nothing, nothing)

    def classes(self, vocabulary: Vocabulary, trained: Sequence[str]) -> ClassText:
        """Take all entries, none of which was trained on, whatever the split of the run says."""
        return ClassText.of(vocabulary, ())

    def probability(
        self,
        network: Network,
        output: LayerOutput,
        batch: VoxelBatch,
        classes: ClassText,
        merge: MergeConfig,
        classifier: ClassifierConfig,
    ) -> Tensor:
        """Name each mask by CLIP pooled in it, by its class embedding where it has none; times its mean probability."""
        evidence = mask_evidence(network, output, batch, classes, merge)
        pooled, has_clip = evidence.pooled
        feature = torch.where(has_clip[:, None], pooled, evidence.embedding)
        objectness = mean_probability(mask_probability(output.mask_logits[0], merge.masks))
        asked = replace(
            evidence,
            logits=torch.logit(objectness, _EPS)[:, None].expand(-1, len(classes)),
            pool=lambda: (feature, torch.ones_like(has_clip)),
        )
        return name_masks(asked, classifier)

    def reads_camera(self, config: ModelConfig, classifier: ClassifierConfig, variant: str | None) -> bool:
        """Say yes always: masks are named by CLIP."""
        return True


def mean_probability(masks: Tensor) -> Tensor:
    """Average the probabilities (Q, V) of each mask's voxels above INSIDE, (Q,) [Mask2Former]; 0 of an empty mask."""
    inside = (masks > INSIDE).to(masks.dtype)
    return (masks * inside).sum(dim=1) / inside.sum(dim=1).clamp(min=1)


SYSTEM = LabelFree()
