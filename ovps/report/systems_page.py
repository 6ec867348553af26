"""The report of an experiment: systems beside each other, mean and spread over seeds, one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from ovps.evaluation.comparison import (
    Scored,
    Spread,
    class_spread,
    group_spread,
    main_system,
    references_of,
    spread,
)
from ovps.evaluation.results import EvalResult
from ovps.report import markup as parts
from ovps.report.charts import NOTHING, Bar, bar_chart, text
from ovps.report.pictures import FrameView
from ovps.report.run_page import details
from ovps.report.scatter import Point, scatter
from ovps.report.score_tables import badge, group_head, groups_of, part_of
from ovps.taxonomy import Taxonomy

SCORES = {
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
    systems: tuple[str, ...] = field(init=False)
    splits: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        there = {c.system for c in self.cells}
        object.__setattr__(self, "systems", tuple(s for s in self.descriptions if s in there))
        object.__setattr__(self, "splits", tuple(dict.fromkeys(c.split for c in self.cells)))

    @property
    def main(self) -> str:
        return main_system(self.systems)

    def of(self, system: str, split: str) -> list[Scored]:
        """The seeds of one system."""
        return sorted((c for c in self.cells if (c.system, c.split) == (system, split)), key=lambda c: c.seed)

    def references(self, split: str) -> Scored:
        return references_of([c for c in self.cells if c.split == split], self.main)


def render_comparison(content: ComparisonContent) -> str:
    """The whole page."""
    split = content.splits[0]
    first = content.references(split)
    sections = [
        _header(content),
        *(_split(content, s) for s in content.splits),
        _systems(content),
        details(first.result, content.taxonomy, f"{first.system}, split {split}, seed {first.seed}"),
        *(_frames(content, p) for p in content.pictures),
        parts.curves(content.metrics, f"Training of {first.system}, split {split}, seed {first.seed}"),
        parts.provenance(content.provenance, content.not_measured),
    ]
    return parts.document(content.title, sections)


def _frames(content: ComparisonContent, pictures: Pictures) -> str:
    novel = content.references(pictures.split).result.novel
    title = "Frames" + (f", split {pictures.split}" if len(content.splits) > 1 else "")
    return parts.frames(pictures.views, content.taxonomy, novel, pictures.no_images, pictures.rule, title)


def _header(content: ComparisonContent) -> str:
    first = content.references(content.splits[0]).result
    seeds = sorted({c.seed for c in content.cells})
    about = (
        f"{_count(len(content.systems), 'system')}, {_count(len(content.splits), 'split')},"
        f" {_count(len(seeds), 'seed')} · {first.frames:,} frames of <b>{escape(first.subset)}</b>,"
        f" {escape(first.cache.dataset)} {escape(first.cache.dataset_version)} · {escape(first.cache.encoder)}"
    )
    missing = ""
    if content.missing:
        listed = "; ".join(content.missing[:12]) + (" …" if len(content.missing) > 12 else "")
        missing = f"<p class='warning'><b>Not done yet:</b> {escape(listed)}. Run the experiment again to go on.</p>"
    return (
        f"<header><h1>{escape(content.title)}</h1><p class='lead'>{about}</p>{_random_clip(content)}{missing}"
        f"<div class='tiles'>{_tiles(content, content.splits[0])}</div><p class='note'>Vocabulary at test time:"
        f" {escape(', '.join(n.replace('_', ' ') for n in first.vocabulary))}.</p></header>"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _random_clip(content: ComparisonContent) -> str:
    """A warning for all, or for the systems whose CLIP has random weights."""
    random = [s for s in content.systems if any(c.result.weights_random for c in content.cells if c.system == s)]
    if len(random) == len(content.systems):
        return parts.RANDOM_CLIP
    if not random:
        return ""
    return (
        f"<p class='warning'><b>Random CLIP weights</b> behind {escape(', '.join(random))}: these rows show what chance"
        " looks like, not what the method does.</p>"
    )


def _tiles(content: ComparisonContent, split: str) -> str:
    cells, chance = content.of(content.main, split), content.references(split).result.references[0]
    tiles = []
    for group in ("all", "base", "novel", "novel/things", "novel/stuff"):
        pq = group_spread(cells, group, "pq")
        if pq is None:
            continue
        spread_text = f" ± {100 * pq.sd:.1f}" if pq.sd is not None else ""
        tiles.append(
            f"<div class='tile {part_of(group)}'><span>{content.main}: {group.replace('/', ' ')} PQ</span>"
            f"<b>{100 * pq.mean:.1f}<i>{spread_text}</i></b><small>chance {_percent(chance.score(group, 'pq'))} · mIoU"
            f" {text(group_spread(cells, group, 'miou'))}</small></div>"
        )
    return "".join(tiles)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _split(content: ComparisonContent, split: str) -> str:
    result = content.references(split).result
    novel = [c.name.replace("_", " ") for c in result.system.panoptic.classes if c.novel]
    seeds = max(len(content.of(s, split)) for s in content.systems)
    over = f"Mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    tables = {score: _table(content, split, score) for score in SCORES}
    more = "".join(f"<h3>{escape(SCORES[s])}</h3><div class='wide'>{tables[s]}</div>" for s in SCORES if s != "pq")
    return (
        f"<section><h2>Split {escape(split)}</h2><p class='note'>Never labelled in training (but for systems trained"
        f" with all labels): {escape(', '.join(novel)) or 'nothing'}. {over}, in percent, by the rules of"
        f" nuscenes-devkit: segments of at least {result.min_points} points; a class without any counts as 0.</p>"
        f"{_charts(content, split)}<h3>PQ</h3><div class='wide'>{tables['pq']}</div>"
        f"<details open><summary>mIoU, RQ, SQ, mask recall</summary>{more}</details>"
        f"<details open><summary>Classes</summary><h3>PQ of each class</h3>"
        f"<div class='wide'>{_class_table(content, split, 'pq')}</div><h3>IoU of each class</h3>"
        f"<div class='wide'>{_class_table(content, split, 'iou')}</div></details></section>"
    )


def _charts(content: ComparisonContent, split: str) -> str:
    """PQ and mIoU of every system over the groups that matter, on one scale."""
    reference = content.references(split).result.references[0]
    rows = []
    for score in CHART_SCORES:
        found = {
            group: [Bar(system, group_spread(content.of(system, split), group, score)) for system in content.systems]
            for group in CHARTS
        }
        highest = [b.value.mean + (b.value.sd or 0) for bars in found.values() for b in bars if b.value]
        top = max([*highest, 0.01])
        rows += [
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
    return f"<div class='charts'>{''.join(rows)}</div>"


def _table(content: ComparisonContent, split: str, score: str) -> str:
    """Systems x groups, the main system's variants below it, reference rows set apart at the end."""
    reference = content.references(split)
    groups = groups_of(reference.result.system.panoptic)
    whole = score in ("pq", "miou", "rq", "sq")  # which variants and references have
    described = score == "pq"
    lines = []
    for system in content.systems:
        cells = content.of(system, split)
        if not cells:
            continue
        is_main = system == content.main
        about = content.descriptions[system] if described else ""
        if len(cells) != len(content.of(content.main, split)):
            about += f" ({_count(len(cells), 'seed')})"
        values = {g: group_spread(cells, g, score) for g in groups}
        lines.append(_line(system, about, values, groups, "system" if is_main else ""))
        for row in reference.result.variants if is_main and whole else ():
            values = {g: group_spread(cells, g, score, row.name) for g in groups}
            lines.append(
                _line(f"{system}, {row.name}", row.description if described else "", values, groups, "variant")
            )
    for number, row in enumerate(reference.result.references if whole else ()):
        values = {g: spread([row.score(g, score)]) for g in groups}
        about = _of(row.name, row.description, reference.system) if described else ""
        name = row.name.replace("_", " ")
        lines.append(_line(name, about, values, groups, "reference" if number else "reference apart"))
    return f"<table>{group_head(groups, 'system')}<tbody>{''.join(lines)}</tbody></table>"


def _of(name: str, description: str, system: str) -> str:
    """Whose segments a reference row is made of."""
    return f"{description}, of {system}" if name == "random_class" else description


def _line(name: str, about: str, values: Mapping[str, Spread | None], groups: Sequence[str], kind: str) -> str:
    small = f"<small>{escape(about)}</small>" if about else ""
    cells = "".join(_cell(values[g], f"{part_of(g)}{'' if '/' in g else ' edge'}") for g in groups)
    return f"<tr class='{kind}'><th>{escape(name)}{small}</th>{cells}</tr>"


def _cell(value: Spread | None, kind: str) -> str:
    if value is None:
        return f"<td class='num none {kind}'>{NOTHING}</td>"
    sd = "" if value.sd is None else f"<small> ± {100 * value.sd:.1f}</small>"
    return f"<td class='num {kind}'>{100 * value.mean:.1f}{sd}</td>"


def _class_table(content: ComparisonContent, split: str, score: str) -> str:
    """Classes x systems."""
    reference: EvalResult = content.references(split).result
    there = [s for s in content.systems if content.of(s, split)]
    chance = {c.name: c for row in reference.references[:1] for c in row.panoptic.classes}
    lines = []
    for c in sorted(reference.system.panoptic.classes, key=lambda c: (c.novel, c.kind == "stuff", c.id)):
        colour = "rgb({},{},{})".format(*content.taxonomy.by_id[c.id].color)
        swatch = f"<span class='swatch' style='background:{colour}'></span>"
        name = f"{swatch}{escape(c.name.replace('_', ' '))} {badge(c.novel)}"
        cells = "".join(_cell(class_spread(content.of(s, split), c.name, score), "") for s in there)
        drawn = _cell(spread([getattr(chance[c.name], score)]), "edge")
        lines.append(f"<tr class='{'' if c.points else 'absent'}'><th>{name}</th><td>{c.kind}</td>{cells}{drawn}</tr>")
    heads = "".join(f"<th class='num'>{escape(s)}</th>" for s in there)
    return (
        f"<table><thead><tr><th>class</th><th></th>{heads}<th class='num edge'>chance</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _systems(content: ComparisonContent) -> str:
    """What each system is and costs."""
    lines = []
    for system in content.systems:
        cells = [c for c in content.cells if c.system == system]
        minutes = spread(c.training_minutes for c in cells)
        took = NOTHING if minutes is None else f"{minutes.mean:.1f}" + (f" ± {minutes.sd:.1f}" if minutes.sd else "")
        parameters, steps = cells[0].result.parameters, cells[0].result.step
        lines.append(
            f"<tr><th>{escape(system)}</th><td>{escape(content.descriptions[system])}</td>"
            f"<td class='num'>{steps:,}</td><td class='num'>{f'{parameters:,}' if parameters else NOTHING}</td>"
            f"<td class='num'>{took}</td><td class='num'>{len({c.seed for c in cells})}</td></tr>"
        )
    return (
        "<section><h2>Systems</h2><p class='note'>All share encoder, decoder, data, merge and evaluation. Minutes are"
        " those of training, the mean time of a step times their number.</p><div class='wide'><table><thead><tr>"
        "<th>system</th><th>what it is</th><th class='num'>steps</th><th class='num'>parameters</th>"
        "<th class='num'>minutes</th><th class='num'>seeds</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>{_cost(content)}</section>"
    )


def _cost(content: ComparisonContent) -> str:
    """Base PQ of every system against the minutes that its training took, on the first split."""
    points = []
    for system in content.systems:
        cells = content.of(system, content.splits[0])
        minutes, pq = spread(c.training_minutes for c in cells), group_spread(cells, "base", "pq")
        if minutes and pq:
            points.append(Point(system, minutes.mean, pq.mean))
    if not points:
        return ""
    return f"<div class='charts'>{scatter('PQ of base classes', 'minutes of training', points, 'base')}</div>"
