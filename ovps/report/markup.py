"""Sections that the report of a run and the report of an experiment share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources

from ovps.report.colours import UNLABELLED_COLOUR, visible
from ovps.report.curves import curve, curve_names
from ovps.report.pictures import FrameView, birds_eye, camera_overlays, data_url
from ovps.report.score_tables import badge, facts
from ovps.taxonomy import Taxonomy

RANDOM_CLIP = (
    "<p class='warning'><b>Random CLIP weights.</b> The features of this cache mean nothing; every number below"
    " shows that the code runs, and what chance looks like, not what the method does.</p>"
)


def document(title: str, parts: Iterable[str]) -> str:
    """A whole HTML file that loads nothing."""
    style = resources.files("ovps.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{escape(title)}: ovps report</title><style>{style}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def curves(metrics: list[dict[str, float]], title: str = "Training") -> str:
    """Training curves of a run."""
    figures = "".join(curve(metrics, name) for name in curve_names(metrics))
    body = f"<div class='curves'>{figures}</div>" if figures else "<p class='note'>This run has no metrics.jsonl.</p>"
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def frames(
    views: Sequence[FrameView],
    taxonomy: Taxonomy,
    novel: frozenset[int],
    no_images: str | None,
    rule: str = "",
    title: str = "Frames",
) -> str:
    """Pictures of frames, truth beside prediction.

    Args:
        no_images: why there are no camera pictures, None where there are.
        rule: by which the frames were chosen.
    """
    if not views:
        return ""
    articles = "".join(_frame(view, taxonomy, novel) for view in views)
    missing = f"<p class='warning'>No camera pictures: {escape(no_images)}.</p>" if no_images else ""
    return (
        f"<section><h2>{escape(title)}</h2><p class='note'>From above, the car in the middle. A predicted thing has the"
        f" colour of the true one it covers, otherwise one of its own. {escape(rule)}</p>{missing}"
        f"{legend(taxonomy, novel)}"
        f"{articles}</section>"
    )


def _frame(view: FrameView, taxonomy: Taxonomy, novel: frozenset[int]) -> str:
    name = f"{escape(view.scene)}, frame {view.index}"
    plan = data_url(birds_eye(view, taxonomy, novel))
    cameras = "".join(
        f"<figure><img loading='lazy' alt='{channel}, {name}' src='{data_url(picture)}'>"
        f"<figcaption>{escape(channel)}: ground truth left, {escape(view.name)} right; novel classes have a white rim"
        "</figcaption></figure>"
        for channel, picture in camera_overlays(view, taxonomy, novel)
    )
    note = f"<p class='note'>{escape(view.note)}</p>" if view.note else ""
    return (
        f"<article><h3>{name} <code>{escape(view.token)}</code></h3>{note}<figure><img loading='lazy'"
        f" alt='bird&#39;s-eye view, {name}' src='{plan}'></figure>{cameras}</article>"
    )


def legend(taxonomy: Taxonomy, novel: frozenset[int]) -> str:
    """Colours of the classes."""

    def swatches(of_novel: bool) -> str:
        return "".join(
            "<span class='key'><span class='swatch' style='background:rgb({},{},{})'></span>{}</span>".format(
                *visible(c.color), escape(c.name.replace("_", " "))
            )
            for c in taxonomy.classes
            if (c.id in novel) == of_novel
        )

    lines = [f"<div>{badge(n)} {swatches(n)}</div>" for n in (True, False) if swatches(n)]
    none = "background:rgb({},{},{})".format(*UNLABELLED_COLOUR)
    lines.append(f"<div><span class='key'><span class='swatch' style='{none}'></span>unlabelled</span></div>")
    return f"<div class='legend'>{''.join(lines)}</div>"


def provenance(sections: Mapping[str, Mapping[str, str]], not_measured: Iterable[str]) -> str:
    """Where the numbers come from, and what they say nothing about."""
    found = "".join(f"<div><h3>{escape(name)}</h3>{facts(values)}</div>" for name, values in sections.items())
    missing = "".join(f"<li>{escape(text)}</li>" for text in not_measured)
    return (
        f"<section><h2>Where the numbers come from</h2><div class='facts'>{found}</div></section>"
        f"<section><h2>What was not measured</h2><ul>{missing}</ul></section>"
    )
