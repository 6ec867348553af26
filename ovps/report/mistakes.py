"""Segments that were not found: which kinds there are, and a picture of the largest of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovps.geometry.projection import project
from ovps.inference.segments import segments
from ovps.report.colours import DIM
from ovps.report.overlay import from_above, paint
from ovps.report.page import spaced
from ovps.report.pictures import FrameView, jpeg_url
from ovps.taxonomy import Taxonomy

_DOT_PX = 4  # few points on a small picture
RIGHT, WRONG, NOTHING = (86, 180, 233), (230, 159, 0), (255, 255, 255)  # Okabe and Ito's sky blue and orange; white
SHOWN = 6  # kinds on a page
_WIDTH, _HEIGHT = 480, 360
_MARGIN = 0.9  # of the segment's size, around it on every side
_LEAST_PX = 64  # of the image, around the smallest of segments
_AROUND_M = 6.0  # around a segment seen from above


@dataclass(frozen=True, eq=False)
class Mistake:
    """Labelled segments of one class that were called the same, and have no prediction of their class.

    Attributes:
        true, called: class ids; called 0: most of the points have no label; called as true: the name is right and
            the outline is not.
        segments, of: how many there are, among how many labelled ones of the class.
        view, rows: frame and points of the largest.
    """

    true: int
    called: int
    segments: int
    of: int
    view: FrameView
    rows: NDArray[np.int64]

    @property
    def distance(self) -> float:
        """Metres from the sensor to the middle of the largest."""
        return float(np.linalg.norm(self.view.xyz[self.rows].mean(axis=0)[:2]))


@dataclass(frozen=True)
class Card:
    """A mistake as it is shown: the class, what it was called, and a picture."""

    true: str
    fault: str
    about: str
    url: str
    alt: str


@dataclass(frozen=True)
class Mistakes:
    """The kinds of mistakes, most frequent first.

    Attributes:
        kinds: of them.
        segments: labelled ones that were looked at.
        taxonomy: of the data set.
    """

    kinds: Sequence[Mistake]
    segments: int
    taxonomy: Taxonomy
    key: ClassVar[Sequence[tuple[str, tuple[int, int, int]]]] = (
        ("called by its class", RIGHT),
        ("by another", WRONG),
        ("by none", NOTHING),
    )

    @property
    def missed(self) -> int:
        """Labelled segments that were not found."""
        return sum(kind.segments for kind in self.kinds)

    @property
    def cards(self) -> list[Card]:
        """The most frequent kinds."""
        return [self._card(kind) for kind in self.kinds[:SHOWN]]

    def _card(self, kind: Mistake) -> Card:
        true = spaced(self.taxonomy.by_id[kind.true].name)
        fault = "not labelled"
        if kind.called == kind.true:
            fault = "right name, wrong outline"
        elif kind.called:
            fault = f"called {spaced(self.taxonomy.by_id[kind.called].name)}"
        example = f"this one has {len(kind.rows):,} points, {kind.distance:.0f} m away"
        about = f"{kind.segments} of {kind.of} segments; {example}"
        alt = f"{true}, {fault}: {kind.view.scene}, frame {kind.view.index}"
        return Card(true, fault, about, draw_mistake(kind), alt)


def find_mistakes(views: Sequence[FrameView], taxonomy: Taxonomy) -> Mistakes:
    """Find the labelled segments that no prediction of their class covers, by PQ's own rule: an IoU above 0.5.

    Points without a label count nowhere, nor do segments that are too small to be scored.
    """
    of: defaultdict[int, int] = defaultdict(int)
    found: defaultdict[tuple[int, int], list[tuple[FrameView, NDArray[np.int64]]]] = defaultdict(list)
    for view in views:
        labelled = np.flatnonzero(view.true.semantic > 0)
        semantic, predicted = view.true.semantic[labelled], view.predicted.semantic[labelled]
        keys, row, _ = segments(semantic.astype(np.int64), view.true.instance[labelled].astype(np.int64))
        other, place, _ = segments(predicted.astype(np.int64), view.predicted.instance[labelled].astype(np.int64))
        both = np.bincount(row * len(other) + place, minlength=len(keys) * len(other)).reshape(len(keys), len(other))
        size = both.sum(axis=1)
        iou = both / np.maximum(size[:, None] + both.sum(axis=0) - both, 1)
        matched = ((iou > 0.5) & (keys[:, :1] == other[:, 0])).any(axis=1)
        for number in np.flatnonzero(size >= taxonomy.min_points).tolist():
            true = int(keys[number, 0])
            of[true] += 1
            if not matched[number]:
                rows = labelled[row == number]
                called = int(np.bincount(view.predicted.semantic[rows]).argmax())
                found[true, called].append((view, rows))
    kinds = []
    for (true, called), cases in found.items():
        view, rows = max(cases, key=lambda case: len(case[1]))
        kinds.append(Mistake(true, called, len(cases), of[true], view, rows))
    kinds.sort(key=lambda kind: (-kind.segments, -len(kind.rows)))
    return Mistakes(kinds, sum(of.values()), taxonomy)


def draw_mistake(mistake: Mistake) -> str:
    """A data URL of the largest segment: in the camera that sees most of it, or from above where there is none."""
    view, rows = mistake.view, mistake.rows
    called = view.predicted.semantic[rows]
    colours = np.array([WRONG, RIGHT, NOTHING], np.uint8)[np.where(called == 0, 2, called == mistake.true)]
    seen = [(project(view.xyz[rows], camera), image) for camera, image in view.cameras]
    projection, image = max(seen, key=lambda s: int(s[0].inside.sum()), default=(None, None))
    if projection is None or image is None or not projection.inside.any():
        return jpeg_url(_from_above(view.xyz, rows, colours))
    inside = projection.inside
    left, top, width, height = _box(projection.uv[inside], image.shape[1], image.shape[0])
    size = (_WIDTH, max(1, round(_WIDTH * height / width)))
    part = Image.fromarray(image[top : top + height, left : left + width]).resize(size, Image.Resampling.BICUBIC)
    order = projection.far_to_near(inside)
    uv = (projection.uv[order] - (left, top)) * (_WIDTH / width)
    return jpeg_url(paint(np.asarray(part), uv, colours[order], width=_WIDTH, dot=_DOT_PX))


def _box(uv: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a part of an image around pixels (M, 2), of one shape as far as it goes."""
    low, high = uv.min(axis=0), uv.max(axis=0)
    across, down = np.maximum((high - low) * (1 + 2 * _MARGIN), _LEAST_PX)
    across, down = max(across, down * _WIDTH / _HEIGHT), max(down, across * _HEIGHT / _WIDTH)
    across, down = min(round(across), width), min(round(down), height)
    middle = (low + high) / 2
    left, top = round(middle[0] - across / 2), round(middle[1] - down / 2)
    return int(np.clip(left, 0, width - across)), int(np.clip(top, 0, height - down)), across, down


def _from_above(xyz: NDArray[np.float32], rows: NDArray[np.int64], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    middle = (xyz[rows].min(axis=0) + xyz[rows].max(axis=0)) / 2
    half = float(np.abs(xyz[rows] - middle)[:, :2].max()) + _AROUND_M
    everything = np.broadcast_to(np.array(DIM, np.uint8), xyz.shape).copy()
    everything[rows] = colours
    square = from_above(xyz - middle, everything, half, width=_WIDTH // 2).repeat(2, axis=0).repeat(2, axis=1)
    return square[(_WIDTH - _HEIGHT) // 2 : (_WIDTH + _HEIGHT) // 2]
