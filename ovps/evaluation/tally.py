"""Adds up frames of an evaluation: scores of the system, its variants and the reference rows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import CachedFrame
from ovps.evaluation.mask_recall import RecallCounts, best_iou, true_segments
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.reference import SEEDS, clip_argmax, random_class, true_masks
from ovps.evaluation.results import (
    FrameScore,
    Row,
    frame_pq,
    mean_result,
    miou_result,
    panoptic_result,
    recall_result,
)
from ovps.inference.prediction import FramePrediction, PointLabels, class_ids
from ovps.taxonomy import Taxonomy
from ovps.vocabulary import Vocabulary

VARIANTS = {
    "unsplit": "without splitting things that fall apart",
    "proposals": "unclaimed points off the ground, clustered without labels, named by their mean F_clip",
    "filled": "points that no segment covers take the class nearest to their reconstructed feature, else to F_clip",
}
PARTS = {
    "seen": "the run, on the points that a camera sees: true and predicted segments are cut to these",
    "unseen": "the run, on the points that none sees",
}
_CHANCE = [f"random_class/{seed}" for seed in range(SEEDS)]


@dataclass(eq=False)
class Tally:
    """The counts of an evaluation, added up over frames.

    Args:
        taxonomy: of the data set.
        novel: ids of the novel classes.
        vocabulary: whose entries predictions name.

    Attributes:
        frames: the system's scores frame by frame.
    """

    taxonomy: Taxonomy
    novel: tuple[int, ...]
    vocabulary: Vocabulary
    _panoptic: dict[str, PanopticCounts] = field(default_factory=lambda: defaultdict(PanopticCounts.empty))
    _recall: dict[str, RecallCounts] = field(default_factory=lambda: defaultdict(RecallCounts.empty))
    _parts: dict[str, PanopticCounts] = field(default_factory=lambda: {part: PanopticCounts.empty() for part in PARTS})

    frames: list[FrameScore] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._class_of = class_ids(self.vocabulary, self.taxonomy)

    def add(self, frame: CachedFrame, prediction: FramePrediction, rng_key: int) -> None:
        """Add one labelled frame; `rng_key` makes the random classes of this frame its own."""
        assert frame.label is not None, frame.token
        semantic, instance = self.taxonomy.true_segments(frame.label)
        self._add(semantic, instance, "system", prediction.labels)
        self._add_frame(frame, semantic, instance, prediction.labels)
        for name, labels in prediction.variants.items():
            self._add(semantic, instance, name, labels)

        argmax = clip_argmax(frame, self.vocabulary)
        self._add(semantic, instance, "clip_argmax", PointLabels(argmax, np.zeros_like(argmax)))
        objects = self.taxonomy.decode(frame.label)
        self._add(semantic, instance, "true_masks", PointLabels(*true_masks(frame, *objects, self.vocabulary)))
        for seed, name in enumerate(_CHANCE):
            rng = np.random.default_rng([seed, rng_key])
            drawn = random_class(prediction.labels.entry, prediction.labels.instance, self.vocabulary, rng)
            self._add(semantic, instance, name, PointLabels(*drawn))

        seen = frame.views > 0
        predicted, number = self._class_of[prediction.labels.entry], prediction.labels.instance
        for part, points in (("seen", seen), ("unseen", ~seen)):
            self._parts[part].add(
                semantic[points],
                instance[points],
                predicted[points],
                number[points],
                min_points=self.taxonomy.min_points,
            )
        self._add_recall(semantic, instance, prediction, seen)

    def _add(self, semantic: NDArray, instance: NDArray, name: str, labels: PointLabels) -> None:
        self._panoptic[name].add(
            semantic, instance, self._class_of[labels.entry], labels.instance, min_points=self.taxonomy.min_points
        )

    def _add_frame(self, frame: CachedFrame, semantic: NDArray, instance: NDArray, labels: PointLabels) -> None:
        counts = PanopticCounts.empty()
        counts.add(
            semantic, instance, self._class_of[labels.entry], labels.instance, min_points=self.taxonomy.min_points
        )
        base = [c.id for c in self.taxonomy.classes if c.id not in self.novel]
        scores = {"base": frame_pq(counts, base), "novel": frame_pq(counts, self.novel)}
        self.frames.append(FrameScore(token=frame.token, scene=frame.scene, index=frame.index, **scores))

    def _add_recall(self, semantic: NDArray, instance: NDArray, prediction: FramePrediction, seen: NDArray) -> None:
        """Segments over all points, then cut to the points that a camera sees and to the others."""
        segmented = {"merged": prediction.labels}
        if "proposals" in prediction.variants:
            segmented["proposals"] = prediction.variants["proposals"]
        after = {name: _as_masks(labels) for name, labels in segmented.items()}
        for part, points in (("", np.ones_like(seen)), ("/seen", seen), ("/unseen", ~seen)):
            classes, segment = true_segments(semantic[points], instance[points], min_points=self.taxonomy.min_points)
            before = best_iou(segment, len(classes), prediction.point_voxel[points], prediction.masks)
            self._recall["queries" + part].add(classes, before)
            for name, (row, masks) in after.items():
                self._recall[name + part].add(classes, best_iou(segment, len(classes), row[points], masks))

    def summary(self) -> dict[str, Any]:
        """Compute the measured fields of `EvalResult`."""
        results = {n: panoptic_result(c, self.taxonomy, self.novel) for n, c in self._panoptic.items()}
        chance = mean_result([results[n] for n in _CHANCE])
        points = {part: counts.confusion for part, counts in self._parts.items()}
        labelled = {part: int(confusion.sum()) for part, confusion in points.items()}
        return {
            "frames": results["system"].frames,
            "system": Row(name="system", description="the run, as configured", panoptic=results["system"]),
            "variants": [
                Row(name=n, description=text, panoptic=results[n]) for n, text in VARIANTS.items() if n in results
            ],
            "references": [
                Row(
                    name="random_class",
                    description=f"the same segments, classes at random within things and stuff, mean of {SEEDS} seeds",
                    panoptic=chance,
                ),
                Row(
                    name="clip_argmax",
                    description="every voxel takes the text nearest to its F_clip; no instances",
                    panoptic=results["clip_argmax"],
                    instances=False,
                ),
                Row(
                    name="true_masks",
                    description="true segments, classified by their mean CLIP feature",
                    panoptic=results["true_masks"],
                ),
            ],
            "mask_recall": {n: recall_result(c, self.taxonomy, self.novel) for n, c in self._recall.items()},
            "parts": [
                Row(name=n, description=text, panoptic=panoptic_result(self._parts[n], self.taxonomy, self.novel))
                for n, text in PARTS.items()
            ],
            "miou": {part: miou_result(found, self.taxonomy, self.novel) for part, found in points.items()},
            "seen_points": labelled["seen"] / max(sum(labelled.values()), 1),
        }


def _as_masks(labels: PointLabels) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Merged segments as if every segment were a voxel and a mask of its own: (N,) rows, (S or S - 1, S) bool."""
    covered = labels.entry >= 0
    keys = np.where(covered, labels.entry, 0) + (np.where(covered, labels.instance, 0) << 16)
    distinct, row = np.unique(np.where(covered, keys, -1), return_inverse=True)
    first = int(bool(len(distinct)) and distinct[0] == -1)  # the row of the points without a segment, if any
    return row.reshape(-1), np.eye(len(distinct), dtype=bool)[first:]
