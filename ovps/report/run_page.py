"""The report of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ovps.evaluation.results import EvalResult
from ovps.report.charts import Figure, Score
from ovps.report.curves import curves
from ovps.report.gallery import Gallery
from ovps.report.mistakes import Mistakes, find_mistakes
from ovps.report.opening import Opening, opening, verdict
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
        caveat: the gravest of that, as the end of a sentence that begins with `but`.
        scene: a page of one frame to turn (`ovps view --html`), whose frame the opening shows; None: none.
        unlabelled: the run was trained without any label.
        warnings: of the evaluation, and of the run, its curves and the store now.
    """

    evaluation: EvalResult
    taxonomy: Taxonomy
    metrics: list[dict[str, float]]
    views: list[FrameView]
    provenance: Mapping[str, Mapping[str, str]]
    no_images: str | None = None
    not_measured: tuple[str, ...] = NOT_MEASURED
    caveat: str = ""
    scene: str | None = None
    warnings: Sequence[str] = ()
    unlabelled: bool = False

    @property
    def title(self) -> str:
        return self.evaluation.run

    @cached_property
    def opening(self) -> Opening | None:
        return opening(self.views, self.taxonomy, self.evaluation.novel)

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        row, chance = self.evaluation.system, self.evaluation.references[0]
        there = [group for group in ("all", "base", "novel") if group in row.panoptic.groups]
        groups: dict[str, Score] = {group: row.score(group, "pq") for group in there}
        return verdict(
            self.evaluation.run,
            self.evaluation.frames,
            groups,
            [c.name for c in row.panoptic.classes if c.novel],
            chance.score("novel", "pq") if "novel" in groups else None,
            {},
            self.caveat,
            self.evaluation.novel_taught,
            self.evaluation.base_hidden,
            self.unlabelled,
        )

    @cached_property
    def mistakes(self) -> Mistakes:
        return find_mistakes(self.views, self.taxonomy)

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
