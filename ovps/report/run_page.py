"""The report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ovps.evaluation.results import EvalResult
from ovps.report.charts import Score
from ovps.report.curves import curves
from ovps.report.gallery import Gallery, gallery
from ovps.report.page import Page, render
from ovps.report.pictures import FrameView
from ovps.report.score_tables import Details, GroupTable, Tile, details, system_table, tiles
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
    not_measured: tuple[str, ...] = NOT_MEASURED


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPage(Page):
    """Everything that `run_page.html` shows."""

    template: ClassVar[str] = "run_page.html"
    result: EvalResult
    tiles: list[Tile]
    pq: GroupTable
    miou: GroupTable
    details: Details
    gallery: Gallery


def render_run(content: ReportContent) -> str:
    """The whole page."""
    result = content.evaluation

    def score(group: str, name: str) -> Score:
        return result.system.score(group, name) if group in result.system.panoptic.groups else None

    page = RunPage(
        title=result.run,
        result=result,
        tiles=tiles(score, result.references[0]),
        pq=system_table(result, "pq"),
        miou=system_table(result, "miou"),
        details=details(result, content.taxonomy),
        gallery=gallery(content.views, content.taxonomy, result.novel, content.no_images),
        curves=curves(content.metrics),
        provenance=content.provenance,
        not_measured=content.not_measured,
    )
    return render(page)
