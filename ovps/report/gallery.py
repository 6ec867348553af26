"""Frames to show: pictures of truth beside prediction, and the colours of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ovps.report.colours import RGB, UNLABELLED_COLOUR, visible
from ovps.report.pictures import FrameView, birds_eye, camera_overlays, data_url
from ovps.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Gallery:
    """Pictures of frames; their methods draw when the page is laid out.

    Attributes:
        novel: ids of classes.
        no_images: why there are no camera pictures, None where there are.
        rule: by which the frames were chosen.
    """

    views: Sequence[FrameView]
    taxonomy: Taxonomy
    novel: frozenset[int]
    no_images: str | None
    rule: str = ""
    title: str = "Frames"
    unlabelled: ClassVar[RGB] = UNLABELLED_COLOUR

    def legend(self, novel: bool) -> list[tuple[str, RGB]]:
        """Names and colours of the novel classes, or of the base ones."""
        return [(c.name, visible(c.color)) for c in self.taxonomy.classes if (c.id in self.novel) == novel]

    def plan(self, view: FrameView) -> str:
        """Bird's-eye view as a data URL."""
        return data_url(birds_eye(view, self.taxonomy, self.novel))

    def cameras(self, view: FrameView) -> list[tuple[str, str]]:
        """Names of channels and data URLs."""
        overlays = camera_overlays(view, self.taxonomy, self.novel)
        return [(channel, data_url(picture)) for channel, picture in overlays]
