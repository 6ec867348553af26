"""The contact sheet of a query: what was found, in pictures, as one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.report.colours import DIM
from ovps.report.page import render
from ovps.report.pictures import data_url
from ovps.segment_reference import Of, Segment
from ovps.viewer.labelling import Labelling
from ovps.viewer.pictures import Seen, jpeg, most_seen, plan, png
from ovps.viewer.view import View

AROUND = 2.5  # of an object's size, that its bird's-eye view shows, and at least LEAST_M
LEAST_M = 8.0
_LIT = (255, 176, 0)


@dataclass(frozen=True)
class Picture:
    """A picture of a hit; `url` is a data URL."""

    url: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Hit:
    """One object that was found.

    Attributes:
        frame, scene, index: where.
        of, segment: what was ranked, and its number among these in the frame.
        name: what it is called, `unnamed` where nobody does.
        score: see `Sheet.score_means`.
        points: how many it has.
        distance: metres from the sensor.
        pictures: none where only the list was wanted.
    """

    frame: str
    scene: str
    index: int
    of: Of
    segment: int
    name: str
    score: float
    points: int
    distance: float
    pictures: tuple[Picture, ...] = ()

    @property
    def reference(self) -> Segment:
        """Give its name for commands."""
        return Segment(self.frame, self.segment, self.of)


@dataclass(frozen=True)
class FrameHit:
    """A frame, by its best object."""

    frame: str
    scene: str
    index: int
    score: float


@dataclass(frozen=True)
class Sheet:
    """The content of the page."""

    title: str
    lead: str
    score_means: str
    warnings: Sequence[str]
    hits: Sequence[Hit]
    frames: Sequence[FrameHit]


def render_sheet(sheet: Sheet) -> str:
    """The whole page."""
    return render("contact_sheet.html", sheet)


def pictures_of(view: View, labels: Labelling, segment: int, seen: Sequence[Seen]) -> tuple[Picture, ...]:
    """Crops of a segment from the cameras that see most of it, and its bird's-eye view."""
    inside = labels.segment == segment
    crops = [
        Picture(data_url(jpeg(image)), f"the object in {channel}", channel)
        for channel, image in most_seen(list(seen), inside, count=2)
    ]
    return (*crops, Picture(data_url(png(_from_above(view, inside))), "the object from above", "from above"))


def distance_of(view: View, labels: Labelling, segment: int) -> float:
    """Metres from the sensor to the middle of a segment, on the ground."""
    return float(np.hypot(*view.frame.xyz[labels.segment == segment, :2].mean(axis=0)))


def _from_above(view: View, inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    place = view.frame.xyz[inside, :2]
    low, high = place.min(axis=0), place.max(axis=0)
    half = max(float((high - low).max()) / 2 * AROUND, LEAST_M)
    colours = np.where(inside[:, None], np.array(_LIT, np.uint8), np.array(DIM, np.uint8))
    order = np.argsort(inside, kind="stable")  # its own points are drawn last
    return plan(view.frame.xyz[order] * (1, 1, 0), colours[order], (low + high) / 2, half)
