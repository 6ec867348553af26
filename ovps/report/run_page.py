"""The report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ovps.evaluation.results import EvalResult
from ovps.report.charts import Figure
from ovps.report.curves import curves
from ovps.report.gallery import Gallery
from ovps.report.page import render
from ovps.report.pictures import FrameView
from ovps.report.score_tables import ClassLine, GroupTable, Tile, class_lines, score_table, system_table, tiles
from ovps.taxonomy import Taxonomy

NOT_MEASURED = (
    "The spread over seeds: this is one run.",
    "Speed on a GPU, unless the provenance above names one.",
)


@dataclass(frozen=True, eq=False)
class ReportContent:
    """The content of the page.

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

    @property
    def title(self) -> str:
        return self.evaluation.run

    @property
    def tiles(self) -> list[Tile]:
        row = self.evaluation.system
        return tiles(
            lambda group, name: row.score(group, name) if group in row.panoptic.groups else None,
            self.evaluation.references[0],
        )

    def table(self, score: str) -> GroupTable:
        """Make the table of a field of GroupScore: the run, its variants and the references."""
        return system_table(self.evaluation, score)

    @property
    def scores(self) -> GroupTable:
        return score_table(self.evaluation)

    @property
    def classes(self) -> list[ClassLine]:
        return class_lines(self.evaluation, self.taxonomy, "pq")

    @property
    def curves(self) -> list[Figure]:
        return curves(self.metrics)

    @property
    def gallery(self) -> Gallery:
        return Gallery(self.views, self.taxonomy, self.evaluation.novel, self.no_images)


def render_run(content: ReportContent) -> str:
    """The whole page."""
    return render("run_page.html", content)
