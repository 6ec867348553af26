"""The report as one HTML file: nothing is loaded from anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from importlib import resources

from ovps.evaluation.report.colours import UNLABELLED_COLOUR, visible
from ovps.evaluation.report.curves import curve, curve_names
from ovps.evaluation.report.pictures import FrameView, birds_eye, camera_overlays, data_url
from ovps.evaluation.report.tables import badge, class_table, facts, percent, score_table, system_table
from ovps.evaluation.results import EvalResult
from ovps.taxonomy import Taxonomy

NOT_MEASURED = (
    "The spread over seeds: this is one run.",
    "Speed on a GPU, unless the provenance above names one.",
)


@dataclass(frozen=True, eq=False)
class ReportContent:
    """What the page is made of.

    Attributes:
        evaluation: the scores.
        taxonomy: of the data set.
        metrics: lines of the run's `metrics.jsonl`.
        views: validation frames to show.
        provenance: sections of names and values: data, encoder, training, commands, machine.
        no_images: why there are no camera pictures, None where there are.
        not_measured: what the numbers say nothing about.
    """

    evaluation: EvalResult
    taxonomy: Taxonomy
    metrics: list[dict[str, float]]
    views: list[FrameView]
    provenance: Mapping[str, Mapping[str, str]]
    no_images: str | None = None
    not_measured: tuple[str, ...] = field(default=NOT_MEASURED)


def render(content: ReportContent) -> str:
    """The whole page."""
    result = content.evaluation
    style = resources.files("ovps.evaluation.report").joinpath("style.css").read_text(encoding="utf-8")
    parts = [_header(result), _scores(content), _curves(content.metrics), _frames(content), _provenance(content)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{escape(result.run)}: ovps report</title><style>{style}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _header(result: EvalResult) -> str:
    scores, chance = result.system.panoptic.groups, result.references[0].panoptic.groups
    tiles = "".join(
        f"<div class='tile {g.split('/')[0]}'><span>{g.replace('/', ' ')} PQ</span><b>{percent(scores[g].pq)}</b>"
        f"<small>chance {percent(chance[g].pq)} · mIoU {percent(scores[g].miou)}</small></div>"
        for g in ("all", "base", "novel", "novel/things", "novel/stuff")
        if g in scores
    )
    warning = (
        "<p class='warning'><b>Random CLIP weights.</b> The features of this cache mean nothing; every number below"
        " shows that the code runs, and what chance looks like, not what the method does.</p>"
        if result.weights_random
        else ""
    )
    cache = result.cache
    novel = [c.name.replace("_", " ") for c in result.system.panoptic.classes if c.novel]
    about = (
        f"{result.frames:,} frames of <b>{escape(result.subset)}</b>, {escape(cache.dataset)}"
        f" {escape(cache.dataset_version)} · split {escape(result.split)} · {escape(cache.encoder)}"
        f" · step {result.step:,}"
    )
    return (
        f"<header><h1>{escape(result.run)}</h1><p class='lead'>{about}</p>{warning}<div class='tiles'>{tiles}</div>"
        f"<p class='note'>Never labelled in training: {escape(', '.join(novel)) or 'nothing, all classes are base'}."
        f" Vocabulary at test time: {escape(', '.join(n.replace('_', ' ') for n in result.vocabulary))}.</p></header>"
    )


def _scores(content: ReportContent) -> str:
    result = content.evaluation
    return (
        "<section><h2>Panoptic quality</h2><p class='note'>PQ in percent, by the rules of nuscenes-devkit: segments of"
        f" at least {result.min_points} points, and a class without any segment counts as 0 in every mean.</p>"
        f"<div class='wide'>{system_table(result, 'pq')}</div><h3>mIoU of the same systems</h3>"
        f"<div class='wide'>{system_table(result, 'miou')}</div></section>"
        "<section><h2>All scores of the run</h2><p class='note'>PQ† takes the IoU of stuff instead of its PQ. Mask"
        " recall is the share of true segments that some mask covers with an IoU of 0.5 or more, whatever class it is"
        " given. mIoU over a part of the points is the mean over the classes that occur in it;"
        f" {percent(result.seen_points)} % of the labelled points have a CLIP feature.</p>"
        f"<div class='wide'>{score_table(result)}</div></section>"
        "<section><h2>Classes</h2><p class='note'>Chance: the run's own segments with classes drawn at random. Matched,"
        " false and missed are segments. Classes in grey do not occur in these frames.</p>"
        f"<div class='wide'>{class_table(result, content.taxonomy)}</div></section>"
    )


def _curves(metrics: list[dict[str, float]]) -> str:
    figures = "".join(curve(metrics, name) for name in curve_names(metrics))
    body = f"<div class='curves'>{figures}</div>" if figures else "<p class='note'>This run has no metrics.jsonl.</p>"
    return f"<section><h2>Training</h2>{body}</section>"


def _frames(content: ReportContent) -> str:
    if not content.views:
        return ""
    novel = frozenset(c.id for c in content.evaluation.system.panoptic.classes if c.novel)
    figures = []
    for view in content.views:
        name = f"{escape(view.scene)}, frame {view.index}"
        plan = data_url(birds_eye(view, content.taxonomy, novel))
        cameras = "".join(
            f"<figure><img loading='lazy' alt='{channel}, {name}' src='{data_url(picture)}'>"
            f"<figcaption>{escape(channel)}: ground truth left, prediction right; novel classes have a white rim"
            "</figcaption></figure>"
            for channel, picture in camera_overlays(view, content.taxonomy, novel)
        )
        figures.append(
            f"<article><h3>{name} <code>{escape(view.token)}</code></h3><figure><img loading='lazy'"
            f" alt='bird&#39;s-eye view, {name}' src='{plan}'></figure>{cameras}</article>"
        )
    missing = f"<p class='warning'>No camera pictures: {escape(content.no_images)}.</p>" if content.no_images else ""
    return (
        "<section><h2>Frames</h2><p class='note'>From above, the car in the middle. A predicted thing has the colour of"
        f" the true one it covers, otherwise one of its own.</p>{missing}{_legend(content.taxonomy, novel)}"
        f"{''.join(figures)}</section>"
    )


def _legend(taxonomy: Taxonomy, novel: frozenset[int]) -> str:
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


def _provenance(content: ReportContent) -> str:
    sections = "".join(
        f"<div><h3>{escape(name)}</h3>{facts(values)}</div>" for name, values in content.provenance.items()
    )
    missing = "".join(f"<li>{escape(text)}</li>" for text in content.not_measured)
    return (
        f"<section><h2>Where the numbers come from</h2><div class='facts'>{sections}</div></section>"
        f"<section><h2>What was not measured</h2><ul>{missing}</ul></section>"
    )
