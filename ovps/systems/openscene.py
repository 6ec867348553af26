"""`voxels`, OpenScene's way: a voxel learns its CLIP feature, the nearest text is its class, clusters are instances.

ovps train --cache ./zarr --system openscene --out runs/openscene

Distillation with a cosine loss and the 2D-3D ensemble are OpenScene's [Peng et al. 2023]; no label is used. It has
no instances: voxels of one thing class are clustered by the gaps that part a thing in every other system; pieces are
not rejoined by their length there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovps.batch.base_labels import ClassSplit
from ovps.batch.sample import Batch
from ovps.entries import NO_ENTRY
from ovps.losses.config import LossConfig
from ovps.losses.total import LossTerms
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig, class_cosines
from ovps.model.config import ModelConfig
from ovps.model.encoder import SparseUNet
from ovps.model.inputs import VoxelBatch
from ovps.model.layers import mlp
from ovps.model.panoptic import MergeConfig, Panoptic, fill_uncovered
from ovps.systems.protocol import Shape
from ovps.vocabulary import Vocabulary


class VoxelNetwork(nn.Module):
    """A sparse U-Net that takes LiDAR voxels to points in CLIP space."""

    def __init__(self, config: ModelConfig, input_dim: int, clip_dim: int) -> None:
        super().__init__()
        self.encoder = SparseUNet(config.encoder, input_dim, config.width)
        self.out = mlp(config.width, config.width, clip_dim)

    def forward(self, batch: VoxelBatch) -> Tensor:
        """Predict a point in CLIP space for every voxel, (V, C) float32, of any length."""
        return self.out(self.encoder(batch.coords, batch.features)).float()


def distillation_loss(
    features: Tensor,
    clip: Tensor,
    valid: Tensor,
    reduce: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Tensor:
    """Average 1 - cos over the voxels that have a CLIP feature, ().

    Args:
        features, clip: (V, C).
        valid: (V,) bool.
        reduce: over processes, as in `ovps.losses.total.loss_terms`.
    """
    distance = 1 - F.cosine_similarity(features[valid], clip[valid], dim=1)
    # without any such voxel there is no sum either
    return distance.sum() / reduce(valid.sum().to(distance.dtype)).clamp(min=1e-6)


def ensemble_features(features: Tensor, batch: VoxelBatch, classes: ClassText) -> Tensor:
    """Keep, per voxel, its own feature or F_clip, whichever is nearer to some text (2D-3D ensemble), (V, C)."""
    own = class_cosines(features, classes).amax(dim=1)
    clip = class_cosines(batch.clip, classes).amax(dim=1)
    return torch.where((batch.clip_valid & (clip > own))[:, None], batch.clip, features)


def far_from_texts(features: Tensor, classes: ClassText) -> Tensor:
    """Compute (1 - cos) / 2 to the nearest text of features (V, C), (V,) in 0..1."""
    return ((1 - class_cosines(features, classes).amax(dim=1)) / 2).clamp(0, 1)


def segment(features: Tensor, batch: VoxelBatch, classes: ClassText, config: MergeConfig) -> Panoptic:
    """Name each voxel by the nearest text; connected pieces of a class are things. Arguments as `fill_uncovered`."""
    chosen = ensemble_features(features, batch, classes)
    nobody = torch.full((len(features),), NO_ENTRY, dtype=torch.int64, device=features.device)
    empty = Panoptic(nobody, torch.zeros_like(nobody), nobody)
    everywhere = torch.ones_like(nobody, dtype=torch.bool)
    return fill_uncovered(empty, chosen, everywhere, classes, batch.position, config)


@dataclass(frozen=True, eq=False)
class VoxelAnswer:
    """The answer of a network without queries: a point in CLIP space for every voxel, (V, C)."""

    features: Tensor
    batch: VoxelBatch
    classes: ClassText

    def segment(self, config: MergeConfig) -> Panoptic:
        return segment(self.features, self.batch, self.classes, config)

    def variant(self, name: str, merged: Panoptic, config: MergeConfig) -> Panoptic:
        raise ValueError(f"no variant {name}")

    def unknown(self, config: MergeConfig) -> Tensor:
        """Score each voxel by how far the nearest text is: (1 - cos) / 2."""
        return far_from_texts(ensemble_features(self.features, self.batch, self.classes), self.classes)

    def masks(self, merged: Panoptic, config: MergeConfig) -> Tensor:
        """Return its segments: a network without queries has no other masks."""
        keys = merged.voxel_class * len(self.batch.coords) + merged.voxel_instance
        return keys == keys.unique()[:, None]


class VoxelSystem:
    """Distillation alone, on voxels: no query, no label."""

    name = "voxels"
    variants: tuple[str, ...] = ()
    # what parts two things
    tuning: Mapping[str, Sequence[float]] = {
        "split_gap": (0.3, 0.5, 0.8, 1.2),
        "split_gap_per_metre": (0.01, 0.02, 0.03),
    }
    reads = tuple(f"merge.{name}" for name in tuning)
    needs_labels = False
    learns_proposals = False
    uses_text = True

    def build(self, config: ModelConfig, shape: Shape) -> nn.Module:
        return VoxelNetwork(config, shape.input_dim, shape.clip_dim)

    def training_classes(self, vocabulary: Vocabulary, base: ClassSplit) -> ClassText:
        """Return the whole vocabulary, which the loss does not look at."""
        return ClassText.of(vocabulary, ())

    def classes(self, vocabulary: Vocabulary, trained: Sequence[str]) -> ClassText:
        return ClassText.of(vocabulary, trained)

    def loss(
        self,
        network: nn.Module,
        outputs: Tensor,
        batch: Batch,
        classes: ClassText,
        mean_l1: float,
        config: LossConfig,
        reduce: Callable[[Tensor], Tensor],
    ) -> LossTerms:
        loss = distillation_loss(outputs, batch.voxels.clip, batch.voxels.clip_valid, reduce)
        return LossTerms(torch.zeros_like(loss), loss, {"distillation": loss.detach()})

    def answer(
        self,
        network: nn.Module,
        batch: VoxelBatch,
        classes: ClassText,
        merge: MergeConfig,
        classifier: ClassifierConfig,
    ) -> VoxelAnswer:
        return VoxelAnswer(network(batch), batch, classes)

    def reads_camera(self, config: ModelConfig, classifier: ClassifierConfig, variant: str | None) -> bool:
        """Say yes always: a voxel keeps its own feature or CLIP's, whichever is nearer to some text."""
        return True


SYSTEM = VoxelSystem()
