"""The answer of a run on one frame, segment by segment: its class, how sure it is, and its other names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ovps.cache.frame_data import CachedFrame
from ovps.inference.session import Session
from ovps.model.class_text import ClassText
from ovps.model.classify import TextClassifier, class_cosines
from ovps.model.network import Network
from ovps.model.panoptic import Panoptic
from ovps.systems import asked
from ovps.systems.naming import MaskEvidence, ensemble
from ovps.systems.openscene import VoxelAnswer
from ovps.systems.queries import MaskAnswer
from ovps.viewer.labelling import Labelling, labelling, vocabulary_palette
from ovps.viewer.pooling import pooled_clip


@dataclass(frozen=True, eq=False)
class RunAnswer:
    """A frame as a run sees it.

    Attributes:
        labels: predicted, with S segments and their scores.
        scores: (S, E) of the vocabulary's entries, by who gives them: `head` and `ensemble`, those that the run has.
        embedding: (S, C) float32, the segments' class embeddings in CLIP space; None: the run has none.
    """

    labels: Labelling
    scores: dict[str, NDArray[np.float32]]
    embedding: NDArray[np.float32] | None


@torch.inference_mode()
def answer_of(session: Session, frame: CachedFrame) -> RunAnswer:
    """Run a network on a frame and look into its answer.

    A segment that is made of several queries, as stuff is, speaks by the one that has most of its points. A system of
    another package gives its labels, and no scores.
    """
    run = session.run
    batch = run.batch(frame).to(session.device)
    answer = asked.answer(run.system, run.network, batch, session.classes, session.merge, session.classifier)
    merged = asked.segmented(run.system, answer, session.merge, batch, session.classes)
    rows = batch.point_voxel
    entry, instance = merged.voxel_class[rows].cpu().numpy(), merged.voxel_instance[rows].cpu().numpy()
    labels = labelling(vocabulary_palette(session.vocabulary, run.taxonomy), entry, instance)
    if isinstance(answer, MaskAnswer) and isinstance(run.network, Network):
        return _of_masks(session, frame, labels, answer, merged, rows)
    if isinstance(answer, VoxelAnswer):
        return _of_voxels(session, labels, answer, rows)
    return RunAnswer(labels, {}, None)


def _of_masks(
    session: Session, frame: CachedFrame, labels: Labelling, answer: MaskAnswer, merged: Panoptic, rows: torch.Tensor
) -> RunAnswer:
    query = torch.from_numpy(_most_frequent(labels.segment, merged.voxel_query[rows].cpu().numpy(), labels.size))
    query = query.to(answer.embedding.device)
    entry = torch.from_numpy(labels.segment_entry).to(query.device)
    embedding = answer.embedding[query]
    network = session.run.network
    assert isinstance(network, Network)
    logits = network.class_logits(embedding, session.classes)
    scores = {"head": logits.sigmoid().cpu().numpy()}
    if isinstance(network.classifier, TextClassifier):
        pooled, seen = (torch.from_numpy(a).to(query.device) for a in pooled_clip(frame, labels))
        tau = network.classifier.tau
        evidence = MaskEvidence(logits, embedding, session.classes, tau, pool=lambda: (pooled, seen))
        scores["ensemble"] = ensemble(evidence, session.classifier).cpu().numpy()
    sure = answer.probability[query, entry].cpu().numpy().astype(np.float32)
    named = session.run.system.uses_text
    return RunAnswer(_scored(labels, sure), scores, embedding.float().cpu().numpy() if named else None)


def _of_voxels(session: Session, labels: Labelling, answer: VoxelAnswer, rows: torch.Tensor) -> RunAnswer:
    features = answer.features[rows].cpu().numpy()
    known = labels.segment >= 0
    total = np.zeros((len(labels.segment_entry), features.shape[1]), np.float32)
    np.add.at(total, labels.segment[known], features[known])
    mean = total / np.maximum(labels.size, 1)[:, None]
    scores = text_scores(mean, ClassText.of(session.vocabulary, ()), session.classifier.clip_tau)
    sure = scores[np.arange(len(scores)), labels.segment_entry].astype(np.float32)
    return RunAnswer(_scored(labels, sure), {"head": scores}, mean)


def text_scores(features: NDArray[np.float32], classes: ClassText, clip_tau: float) -> NDArray[np.float32]:
    """Softmax over the entries of a vocabulary of the cosines of features (M, C), (M, E) float32."""
    return (class_cosines(torch.from_numpy(features), classes.to("cpu")) / clip_tau).softmax(dim=1).numpy()


def _scored(labels: Labelling, score: NDArray[np.float32]) -> Labelling:
    return Labelling(labels.palette, labels.entry, labels.instance, labels.segment, labels.segment_entry, score)


def _most_frequent(segment: NDArray[np.int64], value: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value (N,), none negative, that most points of each segment have, (S,)."""
    known = (segment >= 0) & (value >= 0)
    width = int(value.max(initial=0)) + 1
    counts = np.bincount(segment[known] * width + value[known], minlength=len(size) * width)
    return counts.reshape(len(size), width).argmax(axis=1) if len(size) else np.zeros(0, np.int64)
