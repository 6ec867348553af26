"""The report of an experiment: systems beside each other, mean and spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from ovps.evaluation.comparison import Scored, class_spread, group_spread, main_system, references_of, spread
from ovps.evaluation.results import EvalResult
from ovps.report.charts import NOTHING, Bar, Figure, bar_chart
from ovps.report.curves import curves
from ovps.report.gallery import Gallery, gallery
from ovps.report.page import Page, counted, render, spaced
from ovps.report.pictures import FrameView
from ovps.report.scatter import Point, scatter
from ovps.report.score_tables import (
    ClassLine,
    Details,
    GroupTable,
    Line,
    Tile,
    class_lines,
    details,
    group_table,
    groups_of,
    part_of,
    tiles,
)
from ovps.taxonomy import Taxonomy

SCORES = {  # and their titles
    "pq": "PQ",
    "miou": "mIoU",
    "rq": "RQ",
    "sq": "SQ",
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
    """What the page is made of.

    Attributes:
        title: of the experiment.
        cells: everything that is scored.
        descriptions: of the systems, by name, in the order of the table.
        taxonomy: of the data set.
        metrics: lines of `metrics.jsonl` of the main system's first run.
        pictures: of every split.
        provenance: sections of names and values.
        missing: cells of the experiment that are not done.
        not_measured: what the numbers say nothing about.
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

    @cached_property
    def systems(self) -> list[str]:
        """Those that are scored, in the order of the table."""
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


@dataclass(frozen=True, eq=False)
class Split:
    """All systems on one split.

    Attributes:
        result: speaks for the reference rows.
        seeds: of the system that has most.
        charts: PQ and mIoU over the groups that matter, on one scale each.
        pq: of systems and groups.
        tables: the same of the other scores, by title.
        columns: systems that the tables of classes compare.
        classes: titles and lines.
    """

    name: str
    result: EvalResult
    seeds: int
    charts: Sequence[Figure]
    pq: GroupTable
    tables: Sequence[tuple[str, GroupTable]]
    columns: Sequence[str]
    classes: Sequence[tuple[str, Sequence[ClassLine]]]


@dataclass(frozen=True)
class System:
    """What a system is and costs; its numbers as text."""

    name: str
    description: str
    steps: str
    parameters: str
    minutes: str
    seeds: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SystemsPage(Page):
    """Everything that `systems_page.html` shows.

    Attributes:
        extent: how many systems, splits and seeds.
        result: of the main system on the first split.
        random: systems whose CLIP has random weights.
        missing: see `ComparisonContent`.
        costs: a score against minutes of training; nothing where these are not known.
    """

    template: ClassVar[str] = "systems_page.html"
    extent: Sequence[str]
    result: EvalResult
    random: Sequence[str]
    missing: Sequence[str]
    tiles: Sequence[Tile]
    splits: Sequence[Split]
    systems: Sequence[System]
    costs: Sequence[Figure]
    details: Details
    galleries: Sequence[Gallery]
    curves_title: str


def render_comparison(content: ComparisonContent) -> str:
    """The whole page."""
    split = content.splits[0]
    first = content.references(split)
    of = f"{first.system}, split {split}, seed {first.seed}"
    cells = content.of(content.main, split)
    page = SystemsPage(
        title=content.title,
        extent=[
            counted(len(content.systems), "system"),
            counted(len(content.splits), "split"),
            counted(len({c.seed for c in content.cells}), "seed"),
        ],
        result=first.result,
        random=[s for s in content.systems if any(c.result.weights_random for c in content.cells if c.system == s)],
        missing=content.missing,
        tiles=tiles(lambda g, s: group_spread(cells, g, s), first.result.references[0], f"{content.main}: "),
        splits=[_split(content, s) for s in content.splits],
        systems=[_system(content, s) for s in content.systems],
        costs=_costs(content),
        details=details(first.result, content.taxonomy, of),
        galleries=[_gallery(content, p) for p in content.pictures],
        curves_title=f"Training of {of}",
        curves=curves(content.metrics),
        provenance=content.provenance,
        not_measured=content.not_measured,
    )
    return render(page)


def _gallery(content: ComparisonContent, pictures: Pictures) -> Gallery:
    novel = content.references(pictures.split).result.novel
    title = "Frames" + (f", split {pictures.split}" if len(content.splits) > 1 else "")
    return gallery(pictures.views, content.taxonomy, novel, pictures.no_images, pictures.rule, title)


def _split(content: ComparisonContent, split: str) -> Split:
    result = content.references(split).result
    there = [s for s in content.systems if content.of(s, split)]

    def classes(score: Literal["pq", "iou"]) -> list[ClassLine]:
        systems = [lambda name, s=s: class_spread(content.of(s, split), name, score) for s in there]
        return class_lines(result, content.taxonomy, score, systems)

    return Split(
        name=split,
        result=result,
        seeds=max(len(content.of(s, split)) for s in there),
        charts=_charts(content, split),
        pq=_table(content, split, "pq"),
        tables=[(title, _table(content, split, score)) for score, title in SCORES.items() if score != "pq"],
        columns=there,
        classes=[("PQ of each class", classes("pq")), ("IoU of each class", classes("iou"))],
    )


def _charts(content: ComparisonContent, split: str) -> list[Figure]:
    """PQ and mIoU of every system over the groups that matter, on one scale."""
    reference = content.references(split).result.references[0]
    charts = []
    for score in CHART_SCORES:
        found = {
            group: [Bar(system, group_spread(content.of(system, split), group, score)) for system in content.systems]
            for group in CHARTS
        }
        highest = [b.value.mean + (b.value.sd or 0) for bars in found.values() for b in bars if b.value]
        top = max([*highest, 0.01])
        charts += [
            bar_chart(
                f"{SCORES[score]}, {group.replace('/', ' ')}",
                part_of(group),
                bars,
                reference.score(group, score) if group in reference.panoptic.groups else None,
                top,
            )
            for group, bars in found.items()
            if any(b.value for b in bars)
        ]
    return charts


def _table(content: ComparisonContent, split: str, score: str) -> GroupTable:
    """Systems x groups, the main system's variants below it, reference rows set apart at the end.

    What each line is stands in the table of PQ alone, and recall has no variants and references.
    """
    reference = content.references(split)
    groups = groups_of(reference.result.system.panoptic)
    whole, described = not score.startswith("recall"), score == "pq"
    lines = []
    for system in content.systems:
        cells = content.of(system, split)
        if not cells:
            continue
        is_main = system == content.main
        about = content.descriptions[system] if described else ""
        if len(cells) != len(content.of(content.main, split)):
            about += f" ({counted(len(cells), 'seed')})"
        scores = [group_spread(cells, g, score) for g in groups]
        lines.append(Line(system, scores, "system" if is_main else "", about))
        for row in reference.result.variants if is_main and whole else ():
            scores = [group_spread(cells, g, score, row.name) for g in groups]
            lines.append(Line(f"{system}, {row.name}", scores, "variant", row.description if described else ""))
    for number, row in enumerate(reference.result.references if whole else ()):
        of = f", of {reference.system}" if row.name == "random_class" else ""  # whose segments it is made of
        about = row.description + of if described else ""
        kind = "reference" if number else "reference apart"
        lines.append(Line(spaced(row.name), [row.score(g, score) for g in groups], kind, about))
    return group_table("system", groups, lines)


def _system(content: ComparisonContent, name: str) -> System:
    cells = [c for c in content.cells if c.system == name]
    minutes = spread(c.training_minutes for c in cells)
    parameters = cells[0].result.parameters
    return System(
        name=name,
        description=content.descriptions[name],
        steps=f"{cells[0].result.step:,}",
        parameters=f"{parameters:,}" if parameters else NOTHING,
        minutes=f"{minutes.mean:.1f}" + (f" ± {minutes.sd:.1f}" if minutes.sd else "") if minutes else NOTHING,
        seeds=len({c.seed for c in cells}),
    )


def _costs(content: ComparisonContent) -> list[Figure]:
    """Base PQ of every system against the minutes that its training took, on the first split."""
    points = []
    for system in content.systems:
        cells = content.of(system, content.splits[0])
        minutes, pq = spread(c.training_minutes for c in cells), group_spread(cells, "base", "pq")
        if minutes and pq:
            points.append(Point(system, minutes.mean, pq.mean))
    return [scatter("PQ of base classes", "minutes of training", points, "base")] if points else []
