"""The report of an experiment: systems beside each other, mean and spread over seeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

from ovps.errors import counted
from ovps.evaluation.comparison import Scored, class_spread, group_spread, main_system, references_of, spread
from ovps.evaluation.results import EvalResult, GroupScore
from ovps.report.charts import NOTHING, Figure, bar_chart
from ovps.report.curves import curves
from ovps.report.gallery import Gallery
from ovps.report.mistakes import Mistakes, find_mistakes
from ovps.report.opening import Opening, opening, verdict
from ovps.report.page import render, spaced
from ovps.report.pictures import FrameView
from ovps.report.scatter import Point, scatter
from ovps.report.score_tables import (
    ClassLine,
    GroupTable,
    Line,
    Tile,
    class_lines,
    group_table,
    groups_of,
    part_of,
    score_table,
    tiles,
)
from ovps.taxonomy import Taxonomy

SCORES = {  # and their titles
    "pq": "PQ",
    "miou": "mIoU",
    "rq": "RQ",
    "sq": "SQ",
    "pq_seen": "PQ on the points that a camera sees",
    "pq_unseen": "PQ on the points that none sees",
    "recall": "mask recall, any query's mask",
    "recall_merged": "mask recall, after the merge",
}
CHARTS = ("all", "base", "novel/things", "novel/stuff")
CHART_SCORES = ("pq", "miou")


@dataclass(frozen=True, eq=False)
class Pictures:
    """Frames of one split.

    Attributes:
        views: the main system's prediction and others' beside the truth.
        rule: by which the frames were chosen.
        no_images: why there are no camera pictures.
    """

    split: str
    views: Sequence[FrameView]
    rule: str
    no_images: str | None = None


@dataclass(frozen=True, eq=False)
class ComparisonContent:
    """The content of the page.

    Attributes:
        title: of the experiment.
        cells: everything that is scored.
        descriptions: of the systems, by name, in the order of the table.
        taxonomy: of the data set.
        metrics: lines of `metrics.jsonl` of the main system's first run.
        pictures: of every split.
        provenance: sections of names and values.
        missing: cells of the experiment that are not done.
        warnings: of the scores, a sentence each.
        not_measured: what the numbers say nothing about.
        caveat: the gravest of that, as the end of a sentence that begins with `but`.
        taught_all, taught_none: systems that were trained with all labels, and without any.
        scene: a page of one frame to turn (`ovps view --html`), whose frame the opening shows; None: none.
    """

    title: str
    cells: Sequence[Scored]
    descriptions: Mapping[str, str]
    taxonomy: Taxonomy
    metrics: list[dict[str, float]]
    pictures: Sequence[Pictures]
    provenance: Mapping[str, Mapping[str, str]]
    missing: Sequence[str] = ()
    not_measured: Sequence[str] = ()
    caveat: str = ""
    taught_all: Collection[str] = ()
    taught_none: Collection[str] = ()
    scene: str | None = None
    warnings: Sequence[str] = ()

    @cached_property
    def systems(self) -> list[str]:
        """List the systems that are scored, in the order of the table."""
        there = {c.system for c in self.cells}
        return [s for s in self.descriptions if s in there]

    @cached_property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(c.split for c in self.cells))

    @property
    def main(self) -> str:
        return main_system(self.systems)

    def of(self, system: str, split: str) -> list[Scored]:
        """The seeds of one system."""
        return sorted((c for c in self.cells if (c.system, c.split) == (system, split)), key=lambda c: c.seed)

    def references(self, split: str) -> Scored:
        return references_of([c for c in self.cells if c.split == split], self.main)

    @property
    def extent(self) -> list[str]:
        """Count systems, splits and seeds, in words."""
        seeds = {c.seed for c in self.cells}
        counts = {"system": len(self.systems), "split": len(self.splits), "seed": len(seeds)}
        return [counted(number, what) for what, number in counts.items()]

    @property
    def first(self) -> Scored:
        """The cell that speaks for the experiment."""
        return self.references(self.splits[0])

    @property
    def of_first(self) -> str:
        return f"{self.first.system}, split {self.first.split}, seed {self.first.seed}"

    @property
    def random(self) -> list[str]:
        """Systems whose CLIP has random weights."""
        return [s for s in self.systems if any(c.result.weights_random for c in self.cells if c.system == s)]

    @property
    def tiles(self) -> list[Tile]:
        cells = self.of(self.main, self.splits[0])
        return tiles(lambda g, s: group_spread(cells, g, s), self.first.result.references[0], f"{self.main}: ")

    @cached_property
    def opening(self) -> Opening | None:
        shown = self.pictures[0]
        return opening(shown.views, self.taxonomy, self.references(shown.split).result.novel)

    @property
    def verdict(self) -> str:
        """The result of the main system on the first split, in a sentence."""
        split, result = self.splits[0], self.first.result
        novel = [c.name for c in result.system.panoptic.classes if c.novel]
        others = [s for s in self.systems if s != self.main and s not in self.taught_all]
        reference = result.references[0]
        return verdict(
            self.main,
            result.frames,
            {group: group_spread(self.of(self.main, split), group, "pq") for group in ("all", "base", "novel")},
            novel,
            reference.score("novel", "pq") if "novel" in reference.panoptic.groups else None,
            {other: group_spread(self.of(other, split), "novel", "pq") for other in others},
            self.caveat,
            novel if self.main in self.taught_all else result.novel_taught,
            result.base_hidden,
            self.main in self.taught_none,
        )

    @cached_property
    def mistakes(self) -> Mistakes:
        """The mistakes of the main system in the frames of the first split that are shown."""
        return find_mistakes(self.pictures[0].views, self.taxonomy)

    @property
    def compared(self) -> list[Compared]:
        return [Compared(self, split) for split in self.splits]

    @property
    def costs(self) -> list[Cost]:
        return [_cost(name, about, self.cells) for name, about in self.descriptions.items() if name in self.systems]

    @property
    def cost_charts(self) -> list[Figure]:
        """Base PQ of every system against the minutes that its training took, on the first split."""
        points = []
        for system in self.systems:
            cells = self.of(system, self.splits[0])
            minutes, pq = spread(c.training_minutes for c in cells), group_spread(cells, "base", "pq")
            if minutes and pq:
                points.append(Point(system, minutes.mean, pq.mean))
        return [scatter("PQ of base classes", "minutes of training", points, "base")] if points else []

    @property
    def scores(self) -> GroupTable:
        return score_table(self.first.result)

    @property
    def classes(self) -> list[ClassLine]:
        return class_lines(self.first.result, self.taxonomy, "pq")

    @property
    def galleries(self) -> list[Gallery]:
        found = []
        for shown in self.pictures:
            title = "Frames" + (f", split {shown.split}" if len(self.splits) > 1 else "")
            novel = self.references(shown.split).result.novel
            found.append(Gallery(shown.views, self.taxonomy, novel, shown.no_images, shown.rule, title))
        return found

    @property
    def curves(self) -> list[Figure]:
        return curves(self.metrics)


@dataclass(frozen=True)
class Compared:
    """All systems on one split, beside each other."""

    content: ComparisonContent
    split: str

    @property
    def result(self) -> EvalResult:
        """Speaks for the reference rows."""
        return self.content.references(self.split).result

    @property
    def systems(self) -> list[str]:
        return [s for s in self.content.systems if self.cells(s)]

    @property
    def seeds(self) -> int:
        """Number of seeds of the system that has most."""
        return max(len(self.cells(s)) for s in self.systems)

    def cells(self, system: str) -> list[Scored]:
        return self.content.of(system, self.split)

    @property
    def charts(self) -> list[Figure]:
        """PQ and mIoU of every system over the groups that matter, each on one scale."""
        reference, charts = self.result.references[0], []
        for score in CHART_SCORES:
            found = {g: {s: group_spread(self.cells(s), g, score) for s in self.content.systems} for g in CHARTS}
            highest = [v.mean + (v.sd or 0) for bars in found.values() for v in bars.values() if v]
            top = max([*highest, 0.01])
            for group, bars in found.items():
                if any(bars.values()):
                    title = f"{SCORES[score]}, {group.replace('/', ' ')}"
                    chance = reference.score(group, score) if group in reference.panoptic.groups else None
                    charts.append(bar_chart(title, part_of(group), bars, chance, top))
        return charts

    @property
    def pq(self) -> GroupTable:
        return self._table("pq")

    @property
    def others(self) -> list[tuple[str, GroupTable]]:
        """Tables of the other scores, by title."""
        return [(title, self._table(score)) for score, title in SCORES.items() if score != "pq"]

    def classes(self, score: Literal["pq", "iou"]) -> list[ClassLine]:
        """Lines of classes x systems."""
        finders = [partial(class_spread, self.cells(s), score=score) for s in self.systems]
        return class_lines(self.result, self.content.taxonomy, score, finders)

    def _table(self, score: str) -> GroupTable:
        """Systems x groups, the main system's variants below it, reference rows set apart at the end.

        What each line is stands in the table of PQ alone; recall and parts of the points have no variants and
        references.
        """
        content, result = self.content, self.result
        groups = groups_of(result.system.panoptic)
        whole, described = score in GroupScore.model_fields, score == "pq"
        lines = []
        for system in self.systems:
            cells, is_main = self.cells(system), system == content.main
            about = content.descriptions[system] if described else ""
            if len(cells) != len(self.cells(content.main)):
                about += f" ({counted(len(cells), 'seed')})"
            scores = [group_spread(cells, g, score) for g in groups]
            lines.append(Line(system, scores, "system" if is_main else "", about))
            for row in result.variants if is_main and whole else ():
                scores = [group_spread(cells, g, score, row.name) for g in groups]
                lines.append(Line(f"{system}, {row.name}", scores, "variant", row.description if described else ""))
        for number, row in enumerate(result.references if whole else ()):
            of = f", of {content.references(self.split).system}" if row.name == "random_class" else ""  # its segments
            about = row.description + of if described else ""
            kind = "reference" if number else "reference apart"
            lines.append(Line(spaced(row.name), [row.score(g, score) for g in groups], kind, about))
        return group_table("system", groups, lines)


@dataclass(frozen=True)
class Cost:
    """The kind of a system, and its steps, parameters, minutes of training and seeds."""

    system: str
    description: str
    numbers: Sequence[str]


def _cost(system: str, description: str, all_cells: Sequence[Scored]) -> Cost:
    cells = [c for c in all_cells if c.system == system]
    # one may be scored by several splits
    trainings = {(c.seed, c.result.checkpoint_sha256 or c.split): c.training_minutes for c in cells}
    parameters, minutes = cells[0].result.parameters, spread(trainings.values())
    numbers = (
        f"{cells[0].result.step:,}",
        f"{parameters:,}" if parameters else NOTHING,
        f"{minutes.mean:.1f}" + (f" ± {minutes.sd:.1f}" if minutes.sd else "") if minutes else NOTHING,
        f"{len({c.seed for c in cells})}",
    )
    return Cost(system, description, numbers)


def render_comparison(content: ComparisonContent) -> str:
    """The whole page."""
    return render("systems_page.html", content)
