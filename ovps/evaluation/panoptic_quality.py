"""Panoptic quality on point labels, by the rules of nuscenes-devkit's `PanopticEval`, which are SemanticKITTI's.

Equal to the devkit's (tests compare them on random label maps), and written again because importing the devkit's loads
OpenCV, matplotlib and the whole data set reader, which evaluation does without. The rules, where papers differ:

- A segment is a pair (class, instance), for stuff as for things. Instance 0 is an instance like any other. What the
  instances of true stuff are, the data set says: `ovps.taxonomy.Taxonomy.true_segments`.
- Points whose *ground truth* is unlabelled are left out before anything is counted. A point *predicted* as
  unlabelled makes no segment, but the segment it is missing from is smaller for it.
- A predicted and a true segment of one class match where their IoU is above 0.5, whatever their size. `min_points`
  only forgives unmatched segments: one with fewer points is neither a false positive nor a false negative.
- PQ = SQ * RQ per class; a class with no segment at all scores 0 and **counts in the mean**. On a small set of frames
  that depresses the mean, so the groups also carry `pq_present` and `miou_present`, over the classes that occur in the
  ground truth.
- IoU per class comes from the confusion of all labelled points; a class that is nowhere scores 0.
- PQ-dagger: the mean over classes of PQ for things and IoU for stuff.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.inference.segments import segments
from ovps.taxonomy import UNLABELLED

CLASSES = 256  # class ids are below this (ovps.taxonomy.ClassInfo)

Ints = NDArray[np.integer]


@dataclass(eq=False)
class PanopticCounts:
    """The counts that PQ is made of, added up over frames. Arrays are indexed by class id.

    Attributes:
        tp, fp, fn: (256,) int64 segments.
        iou: (256,) float64, sum of the IoU of matched segments.
        confusion: (256, 256) int64 points, rows true class, columns predicted class.
        frames: number of frames added.
    """

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    iou: NDArray[np.float64]
    confusion: NDArray[np.int64]
    frames: int = 0

    @classmethod
    def empty(cls) -> PanopticCounts:
        tp, fp, fn = (np.zeros(CLASSES, np.int64) for _ in range(3))
        return cls(tp, fp, fn, np.zeros(CLASSES), np.zeros((CLASSES, CLASSES), np.int64))

    def add(
        self, true_class: Ints, true_instance: Ints, pred_class: Ints, pred_instance: Ints, *, min_points: int
    ) -> None:
        """Add one frame; all arrays (N,), class 0 is unlabelled, instances are any numbers >= 0."""
        labelled = np.asarray(true_class) != UNLABELLED
        true_class, true_instance, pred_class, pred_instance = (
            np.asarray(a)[labelled].astype(np.int64) for a in (true_class, true_instance, pred_class, pred_instance)
        )
        self.frames += 1
        self.confusion += confusion(true_class, pred_class)
        true_keys, true_row, true_size = segments(true_class, true_instance)
        pred_keys, pred_row, pred_size = segments(pred_class, pred_instance)
        rows_true, rows_pred, both = _overlaps(true_row, pred_row, len(pred_keys))
        same = true_keys[rows_true, 0] == pred_keys[rows_pred, 0]
        rows_true, rows_pred, both = rows_true[same], rows_pred[same], both[same]
        iou = both / (true_size[rows_true] + pred_size[rows_pred] - both)
        hit = iou > 0.5
        np.add.at(self.tp, true_keys[rows_true[hit], 0], 1)
        np.add.at(self.iou, true_keys[rows_true[hit], 0], iou[hit])
        for missed, keys, size, matched in (
            (self.fn, true_keys, true_size, rows_true[hit]),
            (self.fp, pred_keys, pred_size, rows_pred[hit]),
        ):
            unmatched = size >= min_points
            unmatched[matched] = False
            unmatched &= keys[:, 0] != UNLABELLED
            np.add.at(missed, keys[unmatched, 0], 1)

    def per_class(self) -> tuple[NDArray[np.float64], ...]:
        """Compute PQ, SQ, RQ and IoU of every class id, each (256,) float64 in 0..1."""
        sq = self.iou / np.maximum(self.tp, 1)
        rq = self.tp / np.maximum(self.tp + 0.5 * self.fp + 0.5 * self.fn, 0.5)  # the least sum above 0 is 0.5
        return sq * rq, sq, rq, class_iou(self.confusion)


def confusion(true_class: Ints, pred_class: Ints) -> NDArray[np.int64]:
    """Count points by true class (rows) and predicted class (columns), (256, 256) int64, from class ids (N,)."""
    pairs = np.asarray(true_class, np.int64) * CLASSES + np.asarray(pred_class, np.int64)
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def class_iou(points: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute IoU by class id, (256,); points of true class 0 do not count, and a class that is nowhere gets 0."""
    points = points.copy()
    points[UNLABELLED] = 0
    hit = points.diagonal()
    return hit / np.maximum(points.sum(0) + points.sum(1) - hit, 1)


def _overlaps(true_row: Ints, pred_row: Ints, predicted: int) -> tuple[Ints, Ints, Ints]:
    """Pairs of segments that share points: row of the true one, row of the predicted one, points shared."""
    pairs, both = np.unique(true_row * predicted + pred_row, return_counts=True)
    return pairs // max(predicted, 1), pairs % max(predicted, 1), both
