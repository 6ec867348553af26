"""The report as one HTML file: nothing is loaded from anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from ovps.evaluation.results import EvalResult
from ovps.report import markup as parts
from ovps.report.pictures import FrameView
from ovps.report.score_tables import class_table, percent, score_table, system_table
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
    sections = [
        _header(result),
        scores(result, content.taxonomy),
        parts.curves(content.metrics),
        parts.frames(content.views, content.taxonomy, result.novel, content.no_images),
        parts.provenance(content.provenance, content.not_measured),
    ]
    return parts.document(result.run, sections)


def _header(result: EvalResult) -> str:
    scores, chance = result.system.panoptic.groups, result.references[0].panoptic.groups
    tiles = "".join(
        f"<div class='tile {g.split('/')[0]}'><span>{g.replace('/', ' ')} PQ</span><b>{percent(scores[g].pq)}</b>"
        f"<small>chance {percent(chance[g].pq)} · mIoU {percent(scores[g].miou)}</small></div>"
        for g in ("all", "base", "novel", "novel/things", "novel/stuff")
        if g in scores
    )
    warning = parts.RANDOM_CLIP if result.weights_random else ""
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


def scores(result: EvalResult, taxonomy: Taxonomy) -> str:
    """Tables of one evaluation."""
    return (
        "<section><h2>Panoptic quality</h2><p class='note'>PQ in percent, by the rules of nuscenes-devkit: segments of"
        f" at least {result.min_points} points, and a class without any segment counts as 0 in every mean.</p>"
        f"<div class='wide'>{system_table(result, 'pq')}</div><h3>mIoU of the same systems</h3>"
        f"<div class='wide'>{system_table(result, 'miou')}</div></section>"
        f"{details(result, taxonomy)}"
    )


def details(result: EvalResult, taxonomy: Taxonomy, of: str = "the run") -> str:
    """All scores of one system, by group and by class."""
    return (
        f"<section><h2>All scores of {escape(of)}</h2><p class='note'>PQ† takes the IoU of stuff instead of its PQ."
        " Mask"
        " recall is the share of true segments that some mask covers with an IoU of 0.5 or more, whatever class it is"
        " given. mIoU over a part of the points is the mean over the classes that occur in it;"
        f" {percent(result.seen_points)} % of the labelled points have a CLIP feature.</p>"
        f"<div class='wide'>{score_table(result)}</div></section>"
        f"<section><h2>Classes of {escape(of)}</h2><p class='note'>Chance: the run's own segments with classes drawn at"
        " random. Matched, false and missed are segments. Classes in grey do not occur in these frames.</p>"
        f"<div class='wide'>{class_table(result, taxonomy)}</div></section>"
    )
