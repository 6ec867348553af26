"""The beginning of a report: one picture, and one sentence with the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.frame import Camera
from ovps.geometry.projection import project
from ovps.inference.segments import segments
from ovps.report.charts import Score, text
from ovps.report.colours import RGB, class_colours, rgb
from ovps.report.overlay import from_above, paint
from ovps.report.page import spaced
from ovps.report.pictures import FrameView, Labels, jpeg_url
from ovps.taxonomy import Taxonomy

_HALF_M = 40.0  # that a view from above shows to every side
_LEAST = 0.01  # of the points in a picture, for a class to be in its legend


@dataclass(frozen=True)
class Opening:
    """The labels and the prediction of one view.

    Attributes:
        pictures: data URL, text for who does not see it, and caption.
        caption: below them.
        legend: names and colours of the classes in them, those that were never labelled, then the others.
    """

    pictures: Sequence[tuple[str, str, str]]
    caption: str
    legend: tuple[Sequence[tuple[str, RGB]], Sequence[tuple[str, RGB]]]


@dataclass(frozen=True, eq=False)
class _Look:
    """A frame and the camera it is looked at by, None: from above; the points in it."""

    view: FrameView
    camera: tuple[Camera, NDArray[np.uint8]] | None
    rows: NDArray[np.int64]
    uv: NDArray[np.float64]


def best_view(views: Sequence[FrameView], taxonomy: Taxonomy, novel: frozenset[int]) -> FrameView | None:
    """Choose a frame by its labels, before anyone sees what is predicted: that of `opening`."""
    found = _best(views, taxonomy, novel)
    return found.view if found else None


def opening(views: Sequence[FrameView], taxonomy: Taxonomy, novel: frozenset[int]) -> Opening | None:
    """The view that shows most novel classes, and of those most segments; None where no frame is shown."""
    look = _best(views, taxonomy, novel)
    if look is None:
        return None
    view = look.view
    where = f"{view.scene}, frame {view.index}"
    by = look.camera[0].channel if look.camera else "from above"
    pictures = [
        (_draw(look, labels, taxonomy, novel), f"{where}, {by}: LiDAR points in the colours of {what}", name)
        for labels, what, name in (
            (view.true, "their labels", "labels"),
            (view.predicted, f"what {view.name} calls them", view.name),
        )
    ]
    rule = "the view with most kinds of novel classes" if novel else "the first view"
    seen = np.concatenate([labels.semantic[look.rows] for labels in (view.true, view.predicted)])
    share = {c.id: float((seen == c.id).mean()) if len(seen) else 0.0 for c in taxonomy.classes}
    rows = {
        is_novel: [
            (spaced(c.name), rgb(class_colours(np.array([c.id]), taxonomy)[0]))
            for c in taxonomy.classes
            if (c.id in novel) == is_novel and share[c.id] > (0 if is_novel else _LEAST)
        ]
        for is_novel in (True, False)
    }
    return Opening(pictures, f"{where}, {by}: of the frames below {rule}, by its labels.", (rows[True], rows[False]))


def _best(views: Sequence[FrameView], taxonomy: Taxonomy, novel: frozenset[int]) -> _Look | None:
    looks = [look for view in views for look in _looks(view)]
    return max(looks, key=lambda look: _novel_in(look, taxonomy, novel), default=None)


def _looks(view: FrameView) -> list[_Look]:
    if not view.cameras:
        uv = view.xyz[:, :2].astype(np.float64)
        return [_Look(view, None, np.flatnonzero((np.abs(uv) < _HALF_M).all(axis=1)), uv)]
    found = []
    for camera, image in view.cameras:
        seen = project(view.xyz, camera)
        rows = seen.far_to_near(seen.inside)
        found.append(_Look(view, (camera, image), rows, seen.uv[rows]))
    return found


def _novel_in(look: _Look, taxonomy: Taxonomy, novel: frozenset[int]) -> tuple[int, int]:
    """Novel classes in a view, and their segments, of those that are large enough to be scored."""
    semantic = look.view.true.semantic[look.rows].astype(np.int64)
    keys, _, size = segments(semantic, look.view.true.instance[look.rows].astype(np.int64))
    there = keys[np.isin(keys[:, 0], list(novel)) & (size >= taxonomy.min_points), 0]
    return len(set(there.tolist())), len(there)


def _draw(look: _Look, labels: Labels, taxonomy: Taxonomy, novel: frozenset[int]) -> str:
    """Points in the colours of their classes over the image; those of novel classes are larger, and on top."""
    semantic = labels.semantic[look.rows]
    colours = class_colours(semantic, taxonomy)
    if look.camera is None:
        return jpeg_url(from_above(look.view.xyz[look.rows], colours, _HALF_M))
    is_novel = np.isin(semantic, list(novel))
    base = (semantic > 0) & ~is_novel
    near = [look.uv[is_novel] + (dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    uv = np.concatenate([look.uv[base], *near])
    return jpeg_url(paint(look.camera[1], uv, np.concatenate([colours[base], *[colours[is_novel]] * len(near)])))


def verdict(
    name: str,
    frames: int,
    pq: Mapping[str, Score],
    novel: Sequence[str],
    chance: float | None,
    beside: Mapping[str, Score],
    caveat: str,
    taught: Sequence[str] = (),
    hidden: Sequence[str] = (),
    unlabelled: bool = False,
) -> str:
    """One sentence: the result, and what it does not say.

    Args:
        name: of the system.
        frames: that it was scored on.
        pq: by group, `all`, `base` and `novel`; a group without a class may be missing.
        novel: names of the classes that the split calls novel.
        chance: PQ of novel classes by chance.
        beside: PQ of novel classes of other systems.
        caveat: as the end of a sentence that begins with `but`; empty: none.
        taught: of the novel classes, those whose labels it was trained with.
        hidden: base classes whose labels it was not trained with.
        unlabelled: it was trained without any label.
    """
    words, taught_words, hidden_words = (", ".join(spaced(n) for n in names) for names in (novel, taught, hidden))
    result = f"{name} reaches a PQ of {text(pq.get('all'))} on {frames:,} frames"
    if pq.get("novel") is not None:
        base = "base classes" if taught or hidden or unlabelled else "classes that it was taught"
        base += f" (without labels of {hidden_words})" if hidden else ""
        knew = "those that it never saw a label of"
        if taught:
            part = "which it was taught too" if len(taught) == len(novel) else f"of which it was taught {taught_words}"
            knew = f"the novel ones, {part}"
        if unlabelled:
            knew = "novel ones, of neither of which it saw a label"
        result += f": {text(pq.get('base'))} on {base}, and {text(pq['novel'])} on {knew} ({words})"
        others = [f"{other} has {text(score)}" for other, score in beside.items() if score is not None]
        others += [f"chance is {text(chance)}"] if chance is not None else []
        result += f", where {' and '.join(others)}" if others else ""
    return result + (f"; but {caveat}." if caveat else ".")
