"""Summary of `ovps segment`, in figures and in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cache_schemas import SkippedRow
from ovps.errors import counted


@dataclass(frozen=True)
class SegmentSummary:
    """Facts of what was made.

    Attributes:
        page: HTML, with its pictures beside it.
        predictions: folder of each split: `labels/SPLIT/TOKEN.npz` and `about.json`, see `ovps predict`.
        frames: that are labelled; frames_drawn: of them, those on the page.
        left_out: frames that cannot be read, and sweeps without an image, and why.
        cache: the store of features: what it holds is not computed again.
        grid: of the run's network, or of the store where there is no run.
        beyond_range_share: of the points, those that stand in its border cells.
        seen_share: of the points, that some camera sees.
        unlabelled_share: of the points.
        warnings: what to know before believing the labels.
    """

    page: Path
    predictions: tuple[Path, ...]
    cache: Path
    frames: int
    frames_drawn: int
    left_out: tuple[SkippedRow, ...]
    points: int
    seen_share: float
    unlabelled_share: float
    grid: str
    beyond_range_share: float
    encoder: str
    weights_random: bool
    warnings: tuple[str, ...]

    def in_words(self) -> dict[str, object]:
        """The same for people, without the warnings."""
        left = self.frames - self.frames_drawn
        more = f", the other {left} are labelled and not drawn: --pictures {self.frames} draws all" if left else ""
        return {
            "page": f"{self.page}, {counted(self.frames_drawn, 'frame')} of {self.frames}{more}",
            "labels": list(self.predictions),
            "left out": f"{counted(len(self.left_out), 'frame')}, see the warnings" if self.left_out else "none",
            "features": f"{self.cache}, kept for the next time",
            "points": f"{self.points:,}: {self.seen_share:.1%} seen by a camera,"
            f" {self.unlabelled_share:.1%} without a label",
            "grid": f"{self.grid}, {self.beyond_range_share:.1%} of the points beyond it",
            "CLIP": f"{self.encoder}{', with random weights: labels mean nothing' if self.weights_random else ''}",
        }
