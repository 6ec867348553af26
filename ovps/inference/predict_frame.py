"""Network and vocabulary to point labels, one frame at a time: of the method and of the systems beside it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ovps.errors import ConfigError, VocabularyError
from ovps.inference.prediction import FramePrediction, PointLabels
from ovps.model.classify import ClassifierConfig, TextClassifier
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.masks import MaskForm, mask_probability, reconstruct
from ovps.model.network import Network
from ovps.model.panoptic import MergeConfig, Panoptic, fill_uncovered, merge
from ovps.model.unclaimed import add_proposals
from ovps.systems import openscene
from ovps.systems.closed_set import closed_text
from ovps.systems.openscene import VoxelNetwork
from ovps.systems.pfc import ensemble_probability, pooled_clip
from ovps.taxonomy import name_key
from ovps.vocabulary import Vocabulary

MASK_THRESHOLD = 0.5  # of the masks that mask recall asks about

Variant = Literal["unsplit", "filled", "proposals"]


@dataclass(frozen=True, eq=False)
class Text:
    """A vocabulary as tensors.

    Attributes:
        text: (T, C) float32.
        class_index: (T,) int64.
        is_thing: (E,) bool.
        is_base: (E,) bool, entries named after a class that was trained on.
    """

    text: Tensor
    class_index: Tensor
    is_thing: Tensor
    is_base: Tensor

    @classmethod
    def of(cls, vocabulary: Vocabulary, trained: Collection[str], device: torch.device | str = "cpu") -> Text:
        keys = {name_key(name) for name in trained}
        is_base = np.array([name_key(name) in keys for name in vocabulary.names])
        arrays = (vocabulary.embeddings, vocabulary.class_index, vocabulary.is_thing, is_base)
        return cls(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays))

    @classmethod
    def closed(cls, vocabulary: Vocabulary, trained: tuple[str, ...], device: torch.device | str = "cpu") -> Text:
        """For `model.head: learned`, which knows the trained classes and no text.

        Raises:
            VocabularyError: an entry that is not one of them.
        """
        by_key = {name_key(name): name for name in trained}
        unknown = [name for name in vocabulary.names if name_key(name) not in by_key]
        if unknown:
            raise VocabularyError(
                f"a closed-set run cannot name {', '.join(unknown)}",
                remedy=f"Use the classes it was trained on: {', '.join(trained)}",
            )
        names = tuple(by_key[name_key(name)] for name in vocabulary.names)
        text, entries = closed_text(names, trained), len(names)
        is_thing = torch.from_numpy(vocabulary.is_thing)
        tensors = (text, torch.arange(entries), is_thing, torch.ones(entries, dtype=torch.bool))
        return cls(*(t.to(device) for t in tensors))


@torch.inference_mode()
def predict_frame(
    network: Network | VoxelNetwork,
    batch: VoxelBatch,
    text: Text,
    config: MergeConfig,
    classifier: ClassifierConfig | None = None,
    variants: tuple[Variant, ...] = (),
) -> FramePrediction:
    """Labels of every point of a batch of one frame.

    Args:
        network: in evaluation mode, on the device of the batch.
        text: the vocabulary; its entries are what the labels count.
        config: thresholds of the merge.
        classifier: where the classes of masks come from; None: the unified head.
        variants: further merges of the same network output, of those that `variants_of` the network lists.
    """
    if batch.frames != 1 or network.training:
        raise ValueError(f"{batch.frames} frames, network in {'training' if network.training else 'evaluation'} mode")
    answer = ask(network, batch, text, config.masks, classifier)
    merged = answer.segment(config)
    others: dict[str, Panoptic] = {}
    variants = tuple(v for v in variants if v in variants_of(network))
    if "unsplit" in variants:
        others["unsplit"] = answer.segment(config.model_copy(update={"split": False}))
    if "filled" in variants:
        assert isinstance(answer, MaskAnswer)
        others["filled"] = _fill(merged, answer, batch, text, config)
    if "proposals" in variants:
        clip = (batch.clip, batch.clip_valid)
        others["proposals"] = add_proposals(
            merged, *clip, text.text, text.class_index, text.is_thing, batch.position, config.proposals
        )
    return _prediction(merged, others, answer.inside(merged, config), batch)


@dataclass(frozen=True, eq=False)
class MaskAnswer:
    """What a network with queries says about a frame; thresholds make segments of it.

    Attributes:
        probability: (Q, E) of the classes.
        logits: (Q, V) of the masks.
        embedding: (Q, C).
        batch, text: what it was asked.
    """

    probability: Tensor
    logits: Tensor
    embedding: Tensor
    batch: VoxelBatch
    text: Text

    def segment(self, config: MergeConfig) -> Panoptic:
        return merge(self.probability, self.logits, self.text.is_thing, self.batch.position, config)

    def inside(self, merged: Panoptic, config: MergeConfig) -> Tensor:
        """(Q, V) bool, the masks that mask recall asks about."""
        return mask_probability(self.logits, config.masks) > MASK_THRESHOLD


@dataclass(frozen=True, eq=False)
class VoxelAnswer:
    """What a network without queries says about a frame: (V, C) in CLIP space."""

    features: Tensor
    batch: VoxelBatch
    text: Text

    def segment(self, config: MergeConfig) -> Panoptic:
        text = self.text
        return openscene.segment(self.features, self.batch, text.text, text.class_index, text.is_thing, config)

    def inside(self, merged: Panoptic, config: MergeConfig) -> Tensor:
        """(S, V) bool: its masks are its segments."""
        keys = merged.voxel_class * len(self.batch.coords) + merged.voxel_instance
        return keys == keys.unique()[:, None]


@torch.inference_mode()
def ask(
    network: Network | VoxelNetwork,
    batch: VoxelBatch,
    text: Text,
    masks: MaskForm = "sigmoid",
    classifier: ClassifierConfig | None = None,
) -> MaskAnswer | VoxelAnswer:
    """The network's answer on one frame, before any threshold. Arguments as in `predict_frame`."""
    if isinstance(network, VoxelNetwork):
        return VoxelAnswer(network(batch), batch, text)
    output = network(batch)[-1]
    probability = _class_probability(network, output, batch, text, masks, classifier)
    return MaskAnswer(probability, output.mask_logits[0], output.class_embedding[0], batch, text)


def variants_of(network: Network | VoxelNetwork) -> tuple[Variant, ...]:
    """Without queries there are none; what is named by CLIP's text needs a vocabulary of text, not learned classes."""
    if isinstance(network, VoxelNetwork):
        return ()
    return ("unsplit", "proposals", "filled") if isinstance(network.classifier, TextClassifier) else ("unsplit",)


def reads_camera(network: Network | VoxelNetwork, classifier: ClassifierConfig | None, *, filled: bool) -> bool:
    """Whether the labels of `predict_frame` depend on the CLIP features of the frame, and so on its images.

    A LiDAR-only network that learned from such features of other frames does not read any.

    Args:
        network: as for `predict_frame`.
        classifier: as for `predict_frame`.
        filled: the labels are those of the variant `filled`.
    """
    if isinstance(network, VoxelNetwork):
        return True  # its own feature or CLIP's, whichever is nearer to some text
    return network.config.fusion or filled or (classifier is not None and classifier.classes == "ensemble")


def _class_probability(
    network: Network,
    output: LayerOutput,
    batch: VoxelBatch,
    text: Text,
    masks: MaskForm,
    classifier: ClassifierConfig | None,
) -> Tensor:
    """(Q, E)."""
    embedding = output.class_embedding[0]
    logits = network.class_logits(embedding, text.text, text.class_index, len(text.is_thing))
    if classifier is None or classifier.classes == "unified":
        return logits.sigmoid()
    if not isinstance(network.classifier, TextClassifier):
        raise ConfigError(
            "a closed-set run has no class embeddings to mix with CLIP", remedy="Set classifier.classes=unified"
        )
    pooled, has_clip = pooled_clip(output.mask_logits[0], batch.clip, batch.clip_valid, masks)
    tau = network.classifier.tau
    return ensemble_probability(
        logits, embedding, pooled, has_clip, text.text, text.class_index, text.is_base, tau, classifier
    )


def _prediction(merged: Panoptic, others: dict[str, Panoptic], masks: Tensor, batch: VoxelBatch) -> FramePrediction:
    point_voxel = batch.point_voxel.cpu().numpy()
    return FramePrediction(
        labels=_points(merged, point_voxel),
        variants={name: _points(other, point_voxel) for name, other in others.items()},
        point_voxel=point_voxel,
        masks=masks.cpu().numpy(),
    )


def _fill(panoptic: Panoptic, answer: MaskAnswer, batch: VoxelBatch, text: Text, config: MergeConfig) -> Panoptic:
    """By F_rec where a mask covers the voxel, whatever became of its query; else by F_clip where there is one."""
    covered = (mask_probability(answer.logits, config.masks) >= config.mask).any(dim=0)
    features = reconstruct(answer.logits, answer.embedding, config.masks)
    for feature, usable in ((features, covered), (batch.clip, batch.clip_valid)):
        panoptic = fill_uncovered(
            panoptic, feature, usable, text.text, text.class_index, text.is_thing, batch.position, config
        )
    return panoptic


def _points(panoptic: Panoptic, point_voxel: np.ndarray) -> PointLabels:
    entry, instance = panoptic.voxel_class.cpu().numpy(), panoptic.voxel_instance.cpu().numpy()
    return PointLabels(entry[point_voxel], instance[point_voxel])
