"""Network and vocabulary to point labels, one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ovps.evaluation.prediction import FramePrediction, PointLabels
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.masks import mask_probability, reconstruct
from ovps.model.network import Network
from ovps.model.panoptic import MergeConfig, Panoptic, fill_uncovered, merge
from ovps.vocabulary import Vocabulary

MASK_THRESHOLD = 0.5  # of the masks that mask recall asks about

Variant = Literal["unsplit", "filled"]


@dataclass(frozen=True, eq=False)
class Text:
    """A vocabulary as tensors: text (T, C) float32, class_index (T,) int64, is_thing (E,) bool."""

    text: Tensor
    class_index: Tensor
    is_thing: Tensor

    @classmethod
    def of(cls, vocabulary: Vocabulary, device: torch.device | str = "cpu") -> Text:
        arrays = (vocabulary.embeddings, vocabulary.class_index, vocabulary.is_thing)
        return cls(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays))


@torch.inference_mode()
def predict_frame(
    network: Network, batch: VoxelBatch, text: Text, config: MergeConfig, variants: tuple[Variant, ...] = ()
) -> FramePrediction:
    """Labels of every point of a batch of one frame.

    Args:
        network: in evaluation mode, on the device of the batch.
        text: the vocabulary; its entries are what the labels count.
        config: thresholds of the merge.
        variants: further merges of the same network output, see `ovps.evaluation.tally.VARIANTS`.
    """
    if batch.frames != 1 or network.training:
        raise ValueError(f"{batch.frames} frames, network in {'training' if network.training else 'evaluation'} mode")
    output = network(batch)[-1]
    logits = network.class_logits(output.class_embedding[0], text.text, text.class_index, len(text.is_thing))
    probability, masks = logits.sigmoid(), output.mask_logits[0]

    merged = merge(probability, masks, text.is_thing, batch.position, config)
    others: dict[str, Panoptic] = {}
    if "unsplit" in variants:
        unsplit = config.model_copy(update={"split": False})
        others["unsplit"] = merge(probability, masks, text.is_thing, batch.position, unsplit)
    if "filled" in variants:
        others["filled"] = _fill(merged, output, batch, text, config)

    point_voxel = batch.point_voxel.cpu().numpy()
    return FramePrediction(
        labels=_points(merged, point_voxel),
        variants={name: _points(other, point_voxel) for name, other in others.items()},
        point_voxel=point_voxel,
        masks=(mask_probability(masks, config.masks) > MASK_THRESHOLD).cpu().numpy(),
    )


def _fill(panoptic: Panoptic, output: LayerOutput, batch: VoxelBatch, text: Text, config: MergeConfig) -> Panoptic:
    """By F_rec where a mask covers the voxel, whatever became of its query; else by F_clip where there is one."""
    masks = output.mask_logits[0]
    covered = (mask_probability(masks, config.masks) >= config.mask).any(dim=0)
    features = reconstruct(masks, output.class_embedding[0], config.masks)
    for feature, usable in ((features, covered), (batch.clip, batch.clip_valid)):
        panoptic = fill_uncovered(
            panoptic, feature, usable, text.text, text.class_index, text.is_thing, batch.position, config
        )
    return panoptic


def _points(panoptic: Panoptic, point_voxel: np.ndarray) -> PointLabels:
    entry, instance = panoptic.voxel_class.cpu().numpy(), panoptic.voxel_instance.cpu().numpy()
    return PointLabels(entry[point_voxel], instance[point_voxel])
