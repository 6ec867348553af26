"""Texts of the viewer's panel as HTML; every name and every word of a person is escaped.

Plain `str`, since viser cannot send what is derived from it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ovps.errors import command
from ovps.segment_reference import Segment
from ovps.viewer.pictures import jpeg
from ovps.viewer.view import RGB, Question, View

LISTED = 6  # segments that a query names
_SMALL = Markup('<div style="font-size:0.8em;line-height:1.45;padding:0 0.9em 0.5em;overflow-wrap:anywhere">{}</div>')
_FAINT = Markup('<div>{}&nbsp;<span style="opacity:0.65">{}</span></div>')
_SWATCH = Markup(
    '<span style="white-space:nowrap;margin-right:0.9em;display:inline-block"><span style="display:inline-block;'
    "width:0.8em;height:0.8em;border-radius:2px;margin-right:0.35em;vertical-align:-0.06em;"
    'background:rgb({},{},{})"></span>{}</span>'
)


def said(text: str) -> str:
    """A line about what goes on."""
    return str(_SMALL.format(text))


def problem(text: str) -> str:
    """Text of what went wrong, set off from the rest."""
    box = Markup('<div role="alert" style="border-left:3px solid #e67814;padding-left:0.6em">{}</div>')
    return str(_SMALL.format(box.format(text)))


def legend_html(rows: Sequence[tuple[str, RGB]]) -> str:
    """Colours and what they mean."""
    return str(_SMALL.format(Markup("").join(_SWATCH.format(*colour, name) for name, colour in rows)))


def segment_html(
    view: View, segment: int, crops: Sequence[tuple[str, NDArray[np.uint8]]], flags: Sequence[str] = ()
) -> str:
    """One segment: its class and score, its nearest names, its crops in the cameras, and how to ask for its like.

    Args:
        flags: with which the command that asks looks at the same, see `Catalogue`.
    """
    labels, frame = view.segments, view.frame
    inside = labels.segment == segment
    title = labels.palette.name(int(labels.segment_entry[segment])) if labels.palette.names else "cluster"
    colour = labels.palette.colours[labels.segment_entry[segment]].tolist()
    score = float(labels.score[segment])
    facts = [f"score {score:.2f}"] if np.isfinite(score) else []
    facts += [f"{int(inside.sum()):,} points, {int((frame.views[inside] > 0).sum()):,} seen by a camera"]
    facts += [f"{float(np.hypot(*frame.xyz[inside, :2].mean(axis=0))):.0f} m away"]
    if view.truth is not None and view.source != "objects":
        facts += [f"labelled {_majority(view, inside)}"]
    parts = [
        Markup('<div style="font-size:1.15em;font-weight:600;margin-bottom:0.2em">{}</div>').format(
            _SWATCH.format(*colour, title.replace("_", " "))
        )
    ]
    parts += [Markup("<div>{}</div>").format("; ".join(facts))]
    names = view.names(segment)
    columns = [
        Markup('<td style="vertical-align:top;padding:0.3em 0.7em 0 0"><b>{}</b>{}</td>').format(
            by,
            Markup("").join(_FAINT.format(name.replace("_", " "), f"{sure:.2f}") for name, sure in found),
        )
        for by, found in names.items()
    ]
    if columns:
        table = Markup('<table style="border-collapse:collapse"><tr>{}</tr></table>')
        parts += [table.format(Markup("").join(columns))]
    else:
        parts += [Markup("<div>no camera sees it, and no run names it</div>")]
    for channel, picture in crops:
        encoded = base64.b64encode(jpeg(picture)).decode()
        parts += [
            Markup(
                '<figure style="display:inline-block;margin:0.5em 0.4em 0 0"><img alt="{}" style="max-height:7.5em;'
                'max-width:100%;border-radius:3px" src="data:image/jpeg;base64,{}"><figcaption style="opacity:0.65">'
                "{}</figcaption></figure>"
            ).format(f"the segment in {channel}", encoded, channel)
        ]
    words = command("ovps", "query", "--like", str(Segment(frame.token, segment, view.source)), *flags)
    parts += [Markup('<div style="opacity:0.65;margin-top:0.4em">more like it: <code>{}</code></div>').format(words)]
    return str(_SMALL.format(Markup("").join(parts)))


def answer_html(
    view: View, question: Question, relevance: NDArray[np.float32], threshold: float, warnings: Sequence[str]
) -> str:
    """Answer of a frame to a query: how many points, and the segments that answer best.

    Args:
        relevance: of the points (N,).
    """
    lit = int((relevance >= threshold).sum())
    best = float(relevance.max(initial=0))
    if lit:
        line = f"“{question.text}”: {lit:,} points reach {threshold:.2f}"
    else:
        line = f"“{question.text}”: nothing here reaches {threshold:.2f}; the best point has {best:.2f}"
    of_segments, labels = view.segment_relevance(question), view.segments
    # what is too small to be scored has a feature of few pixels: it comes after the rest
    order = np.lexsort((-of_segments, labels.size < view.taxonomy.min_points))
    rows = [s for s in order if of_segments[s] >= threshold][:LISTED]
    shown = Markup("").join(
        Markup("<div>{} {} <span style='opacity:0.65'>({:,} points, no. {})</span></div>").format(
            f"{of_segments[s]:.2f}",
            labels.palette.name(int(labels.segment_entry[s])).replace("_", " ") if labels.palette.names else "cluster",
            int(labels.size[s]),
            int(s),
        )
        for s in rows
    )
    notes = Markup("").join(Markup("<div>{}</div>").format(text) for text in warnings)
    return str(_SMALL.format(Markup("<div><b>{}</b></div>").format(line) + shown + notes))


def _majority(view: View, inside: NDArray[np.bool_]) -> str:
    assert view.truth is not None
    entry, count = np.unique(view.truth.entry[inside], return_counts=True)
    name = view.truth.palette.name(int(entry[count.argmax()])).replace("_", " ")
    return f"{name} ({count.max() / count.sum():.0%} of its points)"
