"""Frames to show: pictures of truth beside prediction, and the colours of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ovps.report.colours import UNLABELLED_COLOUR, visible
from ovps.report.pictures import FrameView, birds_eye, camera_overlays, data_url
from ovps.taxonomy import Taxonomy


@dataclass(frozen=True)
class Shown:
    """One frame.

    Attributes:
        token, note: see `FrameView`.
        system: of which the predictions are.
        plan: bird's-eye view, a data URL.
        cameras: names of channels and data URLs.
    """

    name: str
    token: str
    note: str
    system: str
    plan: str
    cameras: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Gallery:
    """Pictures of frames.

    Attributes:
        rule: by which the frames were chosen.
        no_images: why there are no camera pictures, None where there are.
        legend: names and colours (red, green, blue) of the classes; those of novel ones first, then of base ones.
        unlabelled: colour of points without a class.
    """

    title: str
    rule: str
    no_images: str | None
    legend: Sequence[tuple[bool, Sequence[tuple[str, tuple[int, int, int]]]]]
    unlabelled: tuple[int, int, int]
    frames: Sequence[Shown]


def gallery(
    views: Sequence[FrameView],
    taxonomy: Taxonomy,
    novel: frozenset[int],
    no_images: str | None,
    rule: str = "",
    title: str = "Frames",
) -> Gallery:
    """Draw frames; arguments as the attributes of `Gallery`."""
    keys = {n: [(c.name, visible(c.color)) for c in taxonomy.classes if (c.id in novel) == n] for n in (True, False)}
    return Gallery(
        title=title,
        rule=rule,
        no_images=no_images,
        legend=[(is_novel, classes) for is_novel, classes in keys.items() if classes],
        unlabelled=UNLABELLED_COLOUR,
        frames=[_shown(view, taxonomy, novel) for view in views],
    )


def _shown(view: FrameView, taxonomy: Taxonomy, novel: frozenset[int]) -> Shown:
    return Shown(
        name=f"{view.scene}, frame {view.index}",
        token=view.token,
        note=view.note,
        system=view.name,
        plan=data_url(birds_eye(view, taxonomy, novel)),
        cameras=[(channel, data_url(picture)) for channel, picture in camera_overlays(view, taxonomy, novel)],
    )
