"""Network and classes to point labels, one frame at a time, for every system alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ovps.inference.prediction import FramePrediction, PointLabels
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.model.inputs import VoxelBatch
from ovps.model.panoptic import MergeConfig, Panoptic
from ovps.systems import asked
from ovps.systems.protocol import System


@torch.inference_mode()
def predict_frame(
    system: System,
    network: nn.Module,
    batch: VoxelBatch,
    classes: ClassText,
    merge: MergeConfig,
    classifier: ClassifierConfig,
    variants: tuple[str, ...] = (),
    unknown: bool = False,
) -> FramePrediction:
    """Predict a class and an instance for every point of one frame.

    Args:
        system: of the network.
        network: in evaluation mode, on the device of the batch.
        batch: of one frame.
        classes: the vocabulary; its entries are what the labels count.
        merge: thresholds.
        classifier: where the classes of masks come from.
        variants: further merges of the same network output; those that the system does not have are left out.
        unknown: score also how likely each point is none of the vocabulary.
    """
    if batch.frames != 1 or network.training:
        raise ValueError(f"{batch.frames} frames, network in {'training' if network.training else 'evaluation'} mode")
    answer = asked.answer(system, network, batch, classes, merge, classifier)
    merged = asked.segmented(system, answer, merge, batch, classes)
    others = {
        name: asked.variant(system, answer, name, merged, merge, batch, classes)
        for name in variants
        if name in system.variants
    }
    point_voxel = batch.point_voxel.cpu().numpy()
    return FramePrediction(
        labels=_points(merged, point_voxel),
        variants={name: _points(other, point_voxel) for name, other in others.items()},
        point_voxel=point_voxel,
        masks=answer.masks(merged, merge).cpu().numpy(),
        unknown=answer.unknown(merge).float().cpu().numpy()[point_voxel] if unknown else None,
    )


def _points(panoptic: Panoptic, point_voxel: np.ndarray) -> PointLabels:
    entry, instance = panoptic.voxel_class.cpu().numpy(), panoptic.voxel_instance.cpu().numpy()
    return PointLabels(entry[point_voxel], instance[point_voxel])
