"""Some frames as one HTML file that needs neither server nor network: points to turn, colours, queries, segments.

A frame is one deflated block of arrays, base64 in the page; the page's own script draws it with WebGL.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from ovps.cache.cameras import camera_of
from ovps.errors import ConfigError
from ovps.report.colours import DIM
from ovps.report.page import render
from ovps.report.pictures import data_url
from ovps.viewer import colouring
from ovps.viewer.labelling import Labelling, hue
from ovps.viewer.pictures import Seen, heading, jpeg, with_points
from ovps.viewer.view import Question, View

MOST_QUERIES = 20
NAMELESS = 65535  # entry of points without a name
CENTIMETRES = 100  # steps to a metre; what lies beyond 327 m is drawn there
_LEVELS = 31  # of a point's relevance; coarse, since it is most of a frame's bytes
_PICTURE_PX = 300


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame of the page.

    Attributes:
        views: of the frame, one for each run, side by side; their points and labels are the same.
        seen: its camera images.
    """

    views: Sequence[View]
    seen: Sequence[Seen]


@dataclass(frozen=True)
class OfflinePage:
    """The content of the template."""

    title: str
    note: str
    data: Markup


def check_queries(count: int) -> None:
    """Raise ConfigError where a file is asked to hold more queries than it can."""
    if count > MOST_QUERIES:
        raise ConfigError(f"{count} queries in one file", remedy=f"Give at most {MOST_QUERIES}")


def render_offline(
    title: str, runs: Sequence[str], frames: Sequence[Shown], questions: Sequence[Question], note: str = ""
) -> str:
    """The whole page.

    Args:
        title: of the page.
        runs: names of the runs, as many as every frame has views.
        frames: to show.
        questions: to light points and segments up by.
        note: what a reader should know, if anything.

    Raises:
        ConfigError: no frame, too many questions, or too many names for a byte.
    """
    if not frames:
        raise ConfigError("no frame to show", remedy="Give --frames")
    check_queries(len(questions))
    content = {
        "runs": list(runs),
        "queries": [question.text for question in questions],
        "frames": [_frame(shown, questions) for shown in frames],
        "colours": {
            "dim": DIM,
            "right": colouring.RIGHT,
            "wrong": colouring.WRONG,
            "base": colouring.BASE,
            "novel": colouring.NOVEL,
            "views": colouring.VIEWS,
            "hues": [hue(i) for i in range(64)],
            "score": colouring.by_score(np.linspace(0, 1, 64)).tolist(),
            "relevance": colouring.by_relevance(np.linspace(0, 1, 64), 0.0).tolist(),
        },
    }
    # a script element ends at the first "</script", wherever it stands
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return render("offline_view.html", OfflinePage(title, note, Markup(data)))


def _frame(shown: Shown, questions: Sequence[Question]) -> dict[str, Any]:
    view = shown.views[0]
    frame = view.frame
    block = _Block()
    place = np.clip(np.round(frame.xyz * CENTIMETRES), -32767, 32767).astype(np.int16)
    layers = [_layer(block, v, v.segments, questions) for v in shown.views]
    colours = colouring.by_class(view.predicted or view.truth or view.segments)
    return {
        "token": frame.token,
        "scene": frame.scene,
        "index": frame.index,
        "points": len(frame.xyz),
        "heading": heading([camera_of(row) for row in frame.cameras]),
        "xyz": [block.add(axis) for axis in place.T],  # axis by axis deflates better
        "views": block.add(frame.views),
        "truth": _labels(block, view.truth) if view.truth is not None else None,
        "clip": {"entry": block.add(_entries(view.clip)), **_palette(view.clip)},
        "layers": layers,
        "relevance": [block.add(_levels(view.point_relevance(q), _LEVELS)) for q in questions],
        "pictures": [
            {"channel": s.camera.channel, "url": data_url(jpeg(_small(with_points(s, colours)), quality=70))}
            for s in shown.seen
        ],
        "block": block.text(),
    }


def _layer(block: _Block, view: View, labels: Labelling, questions: Sequence[Question]) -> dict[str, Any]:
    """The segments of one run, or what stands in for one."""
    count = len(labels.segment_entry)
    scores = [round(float(s), 3) if np.isfinite(s) else None for s in labels.score]
    return {
        **_labels(block, labels),
        "source": view.source,
        "novel": sorted(view.novel),
        "score": scores,
        "names_by": [
            {by: [[name, round(score, 2)] for name, score in found] for by, found in view.names(s).items()}
            for s in range(count)
        ],
        "relevance": [_levels(view.segment_relevance(q), 255).tolist() for q in questions],
    }


def _labels(block: _Block, labels: Labelling) -> dict[str, Any]:
    segment = np.where(labels.segment < 0, 65535, labels.segment).astype(np.uint16)
    return {
        "entry": block.add(_entries(labels)),
        "segment": block.add(segment),
        "segmentEntry": labels.segment_entry.tolist(),
        "thing": (np.bincount(labels.segment[labels.instance > 0], minlength=len(labels.segment_entry)) > 0).tolist(),
        **_palette(labels),
    }


def _palette(labels: Labelling) -> dict[str, Any]:
    palette = labels.palette
    return {
        "names": [name.replace("_", " ") for name in palette.names],
        "palette": palette.colours.tolist(),
        "classId": palette.class_id.tolist(),
    }


def _entries(labels: Labelling) -> NDArray[np.uint16]:
    if len(labels.palette.names) >= NAMELESS:
        raise ConfigError(
            f"{len(labels.palette.names)} names, a page holds {NAMELESS - 1}", remedy="Give a smaller vocabulary"
        )
    return np.where(labels.entry < 0, NAMELESS, labels.entry).astype(np.uint16)


def _levels(relevance: NDArray[np.float32], levels: int) -> NDArray[np.uint8]:
    return np.round(relevance * levels).astype(np.uint8)


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if width <= _PICTURE_PX:
        return image
    size = (_PICTURE_PX, round(height * _PICTURE_PX / width))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


class _Block:
    """Arrays one after another, each at a multiple of its items' size."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, values: NDArray[Any]) -> dict[str, Any]:
        """Take an array in, and say where it lies, as the page's script reads it."""
        padding = -self._size % values.itemsize
        content = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes()
        self._parts += [b"\0" * padding, content]
        place = {"at": self._size + padding, "length": int(values.size), "type": values.dtype.name}
        self._size += padding + len(content)
        return place

    def text(self) -> str:
        return base64.b64encode(zlib.compress(b"".join(self._parts), 9)).decode()
