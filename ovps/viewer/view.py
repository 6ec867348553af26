"""One frame as the viewer shows it: everything that can colour its points, or be told of a segment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import CachedFrame
from ovps.evaluation.reference import clip_argmax
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.report.colours import DIM
from ovps.segment_reference import Of
from ovps.taxonomy import Taxonomy
from ovps.viewer import colouring
from ovps.viewer.answers import RunAnswer, text_scores
from ovps.viewer.labelling import Labelling, labelling, true_labelling, vocabulary_palette
from ovps.viewer.pooling import label_free, pooled_clip
from ovps.viewer.relevance import margin, nearest
from ovps.vocabulary import Vocabulary

RGB = tuple[int, int, int]
QUERY = "query"


@dataclass(frozen=True, eq=False)
class Question:
    """A query as vectors.

    Attributes:
        text: as it was asked, for people.
        queries: (Q, C) unit rows.
        negatives: (K, C) unit rows.
        temperature: of CLIP.
    """

    text: str
    queries: NDArray[np.float32]
    negatives: NDArray[np.float32]
    temperature: float


@dataclass(frozen=True, eq=False)
class View:
    """One frame, its labels and what a run says about it.

    Attributes:
        frame: N points.
        taxonomy, vocabulary: classes of the data set, and names to choose from.
        novel: ids of the classes that were not labelled in training.
        answer: of the run, None without one.
        clip_tau: temperature of the scores by CLIP; of the run, else the one that CLIP is published with.
    """

    frame: CachedFrame
    taxonomy: Taxonomy
    vocabulary: Vocabulary
    novel: frozenset[int]
    answer: RunAnswer | None
    clip_tau: float = ClassifierConfig().clip_tau

    @cached_property
    def truth(self) -> Labelling | None:
        """The labels of the data set, where it gives some."""
        label = self.frame.label
        return None if label is None else true_labelling(label, self.taxonomy)

    @property
    def predicted(self) -> Labelling | None:
        """The labels of the run."""
        return self.answer.labels if self.answer else None

    @cached_property
    def segments(self) -> Labelling:
        """The segments to click on: of the run, else of the labels, else clusters found without either."""
        return self.predicted or self.truth or label_free(self.frame)

    @property
    def source(self) -> Of:
        """Origin of `segments`: `segments`, `objects` or `clusters`, as `ovps query --of` calls them."""
        return "segments" if self.predicted else "objects" if self.truth else "clusters"

    @cached_property
    def clip(self) -> Labelling:
        """Every point called by the text nearest to its CLIP feature."""
        entry = clip_argmax(self.frame, self.vocabulary)
        return labelling(vocabulary_palette(self.vocabulary, self.taxonomy), entry, np.zeros_like(entry))

    @cached_property
    def pooled(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Mean CLIP features of the segments (S, C), and which have one (S,)."""
        return pooled_clip(self.frame, self.segments)

    @cached_property
    def _classes(self) -> ClassText:
        return ClassText.of(self.vocabulary, ())

    def names(self, segment: int, count: int = 5) -> dict[str, list[tuple[str, float]]]:
        """The nearest names of a segment with their scores, best first, by who says so."""
        found: dict[str, list[tuple[str, float]]] = {}
        names = self.vocabulary.names
        if self.answer:
            found |= {by: nearest(scores[segment], names, count) for by, scores in self.answer.scores.items()}
        features, seen = self.pooled
        if seen[segment]:
            scores = text_scores(features[segment : segment + 1], self._classes, self.clip_tau)
            found["pooled CLIP"] = nearest(scores[0], names, count)
        order = ("head", "pooled CLIP", "ensemble")
        return {by: found[by] for by in order if by in found}

    def point_relevance(self, question: Question) -> NDArray[np.float32]:
        """Relevance of every point's CLIP feature, (N,) in 0..1; 0 where no camera sees it."""
        frame = self.frame
        logit = margin(frame.clip, question.queries, question.negatives) / question.temperature
        seen = (frame.views > 0) & frame.valid[frame.point_voxel]
        return np.where(seen, _sigmoid(logit)[frame.point_voxel], 0).astype(np.float32)

    def segment_relevance(self, question: Question) -> NDArray[np.float32]:
        """Relevance of every segment, (S,) in 0..1, by its pooled CLIP feature and by the run's class embedding.

        In the mean of the two as logits; by one of them where there is no other, and 0 where there is neither.
        """
        features, seen = self.pooled
        total = np.where(seen, margin(features, question.queries, question.negatives), 0)
        count = seen.astype(np.float32)
        if self.answer and self.answer.embedding is not None:
            total = total + margin(self.answer.embedding, question.queries, question.negatives)
            count = count + 1
        logit = total / np.maximum(count, 1) / question.temperature
        return np.where(count > 0, _sigmoid(logit), 0).astype(np.float32)

    def relevance(self, question: Question, of_segments: bool) -> NDArray[np.float32]:
        """Relevance of every point (N,): its own, or that of its segment; 0 in none."""
        if not of_segments:
            return self.point_relevance(question)
        return np.append(self.segment_relevance(question), np.float32(0))[self.segments.segment]


@dataclass(frozen=True)
class Colouring:
    """One way to colour a frame.

    Attributes:
        title: for people.
        paint: colours (N, 3) uint8 of a view, None where it does not have what it takes.
        legend: what the colours mean, in the order of a legend.
    """

    title: str
    paint: Callable[[View], NDArray[np.uint8] | None]
    legend: Callable[[View], list[tuple[str, RGB]]]


def _classes(labels: Callable[[View], Labelling | None]) -> Callable[[View], list[tuple[str, RGB]]]:
    def legend(view: View) -> list[tuple[str, RGB]]:
        found = labels(view)
        if found is None:
            return []
        palette = found.palette
        count = np.bincount(found.entry + 1, minlength=len(palette.names) + 1)
        order = [i for i in np.argsort(-count[1:], kind="stable") if count[i + 1]]
        rows = [*order, -1] if count[0] else order
        return [(palette.name(i).replace("_", " "), _rgb(palette.colours[i])) for i in rows]

    return legend


def _fixed(*rows: tuple[str, RGB]) -> Callable[[View], list[tuple[str, RGB]]]:
    return lambda view: list(rows)


def _rgb(colour: NDArray[np.uint8]) -> RGB:
    red, green, blue = colour.tolist()
    return red, green, blue


def _if(labels: Labelling | None, paint: Callable[[Labelling], NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    return None if labels is None else paint(labels)


def _compare(view: View) -> NDArray[np.uint8] | None:
    if view.truth is None or view.predicted is None:
        return None
    return colouring.right_or_wrong(view.truth.class_id, view.predicted)


def _novelty(view: View) -> NDArray[np.uint8] | None:
    labels = view.predicted or view.truth
    return None if labels is None or not view.novel else colouring.base_or_novel(labels.class_id, view.novel)


def _ramp_legend(low: str, high: str, paint: Callable[[NDArray[np.float64]], NDArray[np.uint8]]):
    ends = paint(np.array([0.0, 0.5, 1.0]))
    return _fixed((low, _rgb(ends[0])), ("0.5", _rgb(ends[1])), (high, _rgb(ends[2])))


_HUES = _fixed(("one colour for each thing", (200, 200, 200)), ("no thing", DIM))
COLOURINGS: tuple[Colouring, ...] = (
    Colouring("prediction", lambda v: _if(v.predicted, colouring.by_class), _classes(lambda v: v.predicted)),
    Colouring("prediction, instances", lambda v: _if(v.predicted, lambda p: colouring.by_instance(p, v.truth)), _HUES),
    Colouring(
        "prediction, classes and instances",
        lambda v: _if(v.predicted, colouring.by_class_and_instance),
        _classes(lambda v: v.predicted),
    ),
    Colouring("truth", lambda v: _if(v.truth, colouring.by_class), _classes(lambda v: v.truth)),
    Colouring("truth, instances", lambda v: _if(v.truth, colouring.by_instance), _HUES),
    Colouring(
        "right or wrong",
        _compare,
        _fixed(
            ("right", colouring.RIGHT),
            ("wrong, or nothing", colouring.WRONG),
            ("no label, or a word that is no class", DIM),
        ),
    ),
    Colouring(
        "base or novel",
        _novelty,
        _fixed(("base", colouring.BASE), ("novel", colouring.NOVEL), ("nothing", DIM)),
    ),
    Colouring("CLIP arg-max", lambda v: colouring.by_class(v.clip), _classes(lambda v: v.clip)),
    Colouring(
        "score",
        lambda v: _if(v.predicted, lambda p: colouring.by_score(p.point_score)),
        _ramp_legend("unsure, 0", "sure, 1", colouring.by_score),
    ),
    Colouring(
        "number of cameras",
        lambda v: colouring.by_views(v.frame.views),
        _fixed(*zip(("none", "one", "two", "three or more"), colouring.VIEWS, strict=True)),
    ),
    Colouring(
        "clusters, label-free",
        lambda v: colouring.by_instance(label_free(v.frame)) if v.source == "clusters" else None,
        _HUES,
    ),
)


def available(has_truth: bool, has_run: bool, has_novel: bool) -> list[str]:
    """Titles of the colourings that a store with labels, and a run, can offer, the most wanted first."""
    needs = {
        "truth": has_truth,
        "truth, instances": has_truth,
        "prediction": has_run,
        "prediction, instances": has_run,
        "prediction, classes and instances": has_run,
        "score": has_run,
        "right or wrong": has_truth and has_run,
        "base or novel": has_novel and (has_truth or has_run),
        "clusters, label-free": not has_truth and not has_run,
    }
    return [c.title for c in COLOURINGS if needs.get(c.title, True)]


def paint(view: View, title: str) -> NDArray[np.uint8]:
    """Colours (N, 3) uint8 by the title of a colouring; dim where this frame does not have what it takes."""
    found = next(c for c in COLOURINGS if c.title == title).paint(view)
    return np.broadcast_to(np.array(DIM, np.uint8), view.frame.xyz.shape).copy() if found is None else found


def legend(view: View, title: str) -> list[tuple[str, RGB]]:
    """List what the colours of a colouring mean on a frame."""
    return next(c for c in COLOURINGS if c.title == title).legend(view)


def _sigmoid(logit: NDArray[np.floating]) -> NDArray[np.floating]:
    return 1 / (1 + np.exp(-np.clip(logit, -80, 80)))
