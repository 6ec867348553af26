"""`clip`: nothing is learned. A voxel that a camera sees takes the class whose text its CLIP feature is nearest to.

ovps predict --cache ./zarr --out found

OpenScene's 2D fusion [Peng et al. 2023] on the features of the cache, with things clustered as in `voxels`. What no
camera sees stays unlabelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from torch import nn

from ovps.entries import NO_ENTRY
from ovps.errors import ConfigError
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.model.config import ModelConfig
from ovps.model.inputs import VoxelBatch
from ovps.model.panoptic import MergeConfig, Panoptic, fill_uncovered
from ovps.systems.openscene import VoxelAnswer, VoxelSystem
from ovps.systems.protocol import Shape


class ClipAnswer(VoxelAnswer):
    """The CLIP features of a frame's voxels as an answer."""

    def segment(self, config: MergeConfig) -> Panoptic:
        """Name each voxel that has a CLIP feature by the nearest text; connected pieces of a class are things."""
        nobody = torch.full((len(self.features),), NO_ENTRY, dtype=torch.int64, device=self.features.device)
        empty = Panoptic(nobody, torch.zeros_like(nobody), nobody)
        return fill_uncovered(empty, self.features, self.batch.clip_valid, self.classes, self.batch.position, config)


class ClipAlone(VoxelSystem):
    """No network at all: `answer` reads the CLIP features that the batch brings."""

    name = "clip"
    tuning: Mapping[str, Sequence[float]] = {}

    def build(self, config: ModelConfig, shape: Shape) -> NoReturn:
        """Refuse: there is nothing to train.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("system clip learns nothing", remedy="Leave training out: `ovps predict` without a run")

    def answer(
        self,
        network: nn.Module,
        batch: VoxelBatch,
        classes: ClassText,
        merge: MergeConfig,
        classifier: ClassifierConfig,
    ) -> ClipAnswer:
        return ClipAnswer(batch.clip, batch, classes)


SYSTEM = ClipAlone()
