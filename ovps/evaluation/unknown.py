"""Novel classes as *unknown*: how well a score tells them from base ones when the vocabulary has only the base ones.

The score says of each point how likely it is none of the vocabulary (`ovps.systems.protocol.Answer.unknown`). Novel is
what should score high, base what should score low; points that are unlabelled or ignored take no part. Counted over
points, and over true segments of at least `min_points`, each with the mean score of its points.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ovps.evaluation.mask_recall import true_segments
from ovps.taxonomy import UNLABELLED

BINS = 1 << 16  # of scores in 0..1: those within one are taken for equal
TPR = 0.95


class UnknownScore(BaseModel, frozen=True, extra="forbid"):
    """Measure of how well a score tells novel things and stuff from base ones.

    Attributes:
        novel, base: number of points, or of segments.
        auroc: probability that a novel one scores higher than a base one, ties half; None if either is missing.
        fpr95: share of base ones that score as high as the 95 % of novel ones that score highest; None likewise.
    """

    novel: int
    base: int
    auroc: float | None
    fpr95: float | None


@dataclass(eq=False)
class ScoreCounts:
    """Histograms of scores of base and of novel ones, (2, BINS) int64, added up over frames."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, BINS), np.int64))

    def add(self, score: NDArray[np.floating], novel: NDArray[np.bool_]) -> None:
        """Add scores (N,) in 0..1; `novel` (N,) says whose they are."""
        bins = np.minimum((score.astype(np.float64) * BINS).astype(np.int64), BINS - 1)
        self.counts += np.bincount(novel * BINS + bins, minlength=2 * BINS).reshape(2, BINS)

    def result(self) -> UnknownScore:
        """Compute AUROC and the false positive rate at 95 % of true positives [Hendrycks & Gimpel 2017]."""
        base, novel = self.counts
        of_base, of_novel = int(base.sum()), int(novel.sum())
        if not of_base or not of_novel:
            return UnknownScore(novel=of_novel, base=of_base, auroc=None, fpr95=None)
        lower = np.cumsum(base) - base
        wins = (novel.astype(np.float64) * (lower + 0.5 * base)).sum()
        found, alarms = np.cumsum(novel[::-1]), np.cumsum(base[::-1])  # of what scores at least so much
        threshold = int(np.argmax(found >= TPR * of_novel))
        return UnknownScore(
            novel=of_novel,
            base=of_base,
            auroc=float(wins / of_base / of_novel),
            fpr95=float(alarms[threshold] / of_base),
        )


@dataclass(eq=False)
class UnknownTally:
    """Scores of points and of true segments, added up over frames.

    Args:
        novel: ids of the novel classes; all others are base.
        min_points: of the segments that count.
    """

    novel: Iterable[int]
    min_points: int
    points: ScoreCounts = field(default_factory=ScoreCounts)
    segments: ScoreCounts = field(default_factory=ScoreCounts)

    def __post_init__(self) -> None:
        self._novel = np.array(sorted(self.novel), np.int64)

    def add(self, score: NDArray[np.floating], semantic: NDArray[np.integer], instance: NDArray[np.integer]) -> None:
        """Add a frame: scores (N,) in 0..1, true class ids and instances (N,)."""
        labelled = semantic != UNLABELLED
        self.points.add(score[labelled], np.isin(semantic[labelled], self._novel))
        classes, segment = true_segments(semantic, instance, min_points=self.min_points)
        inside = segment >= 0
        row, weight = segment[inside], score[inside].astype(np.float64)
        size = np.bincount(row, minlength=len(classes))
        mean = np.bincount(row, weight, minlength=len(classes)) / np.maximum(size, 1)
        self.segments.add(mean, np.isin(classes, self._novel))

    def result(self) -> dict[str, UnknownScore]:
        return {"points": self.points.result(), "segments": self.segments.result()}
