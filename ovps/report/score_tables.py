"""Tables of the report as HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape

from ovps.evaluation.results import GROUPS, EvalResult, GroupRecall, PanopticResult
from ovps.taxonomy import Taxonomy


def percent(value: float | None) -> str:
    return "&ndash;" if value is None else f"{100 * value:.1f}"


def cell(value: float | None, extra: str = "") -> str:
    return f"<td class='num {'none' if value is None else ''} {extra}'>{percent(value)}</td>"


def badge(novel: bool) -> str:
    return f"<span class='badge {'novel' if novel else 'base'}'>{'novel' if novel else 'base'}</span>"


def groups_of(result: PanopticResult) -> list[str]:
    """The groups that have a class."""
    return [g for g in GROUPS if g in result.groups]


def group_head(groups: list[str], first: str) -> str:
    """Two header rows: all, base, novel above; all, things, stuff below."""
    spans = {s: sum(g.split("/")[0] == s for g in groups) for s in ("all", "base", "novel")}
    above = "".join(f"<th class='{s} edge' colspan='{n}'>{s}</th>" for s, n in spans.items() if n)
    below = "".join(f"<th class='num {_classes(g)}'>{_second(g)}</th>" for g in groups)
    return f"<thead><tr><th rowspan='2'>{first}</th>{above}</tr><tr>{below}</tr></thead>"


def _second(group: str) -> str:
    return group.partition("/")[2] or "all"


def _classes(group: str) -> str:
    """Of a cell: which part of the table it is in, and whether that part begins here."""
    return part_of(group) + ("" if "/" in group else " edge")


def part_of(group: str) -> str:
    """`all`, `base` or `novel`."""
    return group.partition("/")[0]


def _line(name: str, values: Mapping[str, float | None], groups: list[str], kind: str = "") -> str:
    return f"<tr class='{kind}'><th>{name}</th>{''.join(cell(values.get(g), _classes(g)) for g in groups)}</tr>"


def system_table(result: EvalResult, score: str) -> str:
    """One line for the system, its variants and the references; `score` is a field of GroupScore."""
    groups = groups_of(result.system.panoptic)
    lines = []
    for row in result.rows:
        kind = "system" if row is result.system else "variant" if row in result.variants else "reference"
        name = escape(result.run if row is result.system else row.name.replace("_", " "))
        label = f"{name}<small>{escape(row.description)}</small>"
        lines.append(_line(label, {g: row.score(g, score) for g in groups}, groups, kind))
    return f"<table>{group_head(groups, 'system')}<tbody>{''.join(lines)}</tbody></table>"


def score_table(result: EvalResult) -> str:
    """All scores of the system by group, mask recall and what cameras see with them."""
    groups = groups_of(result.system.panoptic)
    scores = result.system.panoptic.groups
    names: list[tuple[str, Callable]] = [
        ("PQ", lambda s: s.pq),
        ("PQ, classes present", lambda s: s.pq_present),
        ("SQ", lambda s: s.sq),
        ("RQ", lambda s: s.rq),
        ("PQ†", lambda s: s.pq_dagger),
        ("mIoU", lambda s: s.miou),
    ]
    lines = [_line(name, {g: get(scores[g]) for g in groups}, groups) for name, get in names]
    for part, text in (("seen", "with a CLIP feature"), ("unseen", "without one")):
        lines.append(_line(f"mIoU, points {text}", result.miou[part], groups))
    recalls = {
        "queries": "mask recall, any query",
        "queries/seen": "… points with a CLIP feature",
        "queries/unseen": "… points without one",
        "merged": "mask recall, after the merge",
    }
    for key, text in recalls.items():
        found = result.mask_recall[key].groups
        lines.append(_line(text, {g: found[g].recall for g in groups if g in found}, groups))
    return f"<table>{group_head(groups, 'score')}<tbody>{''.join(lines)}</tbody></table>"


def class_table(result: EvalResult, taxonomy: Taxonomy) -> str:
    """Every class: scores with a bar for PQ, matched, false and missed segments, mask recall, chance."""
    chance = {c.name: c.pq for row in result.references if row.name == "random_class" for c in row.panoptic.classes}
    recall = result.mask_recall["queries"].classes
    lines = []
    for c in sorted(result.system.panoptic.classes, key=lambda c: (c.novel, c.kind == "stuff", c.id)):
        absent = not c.points
        red, green, blue = taxonomy.by_id[c.id].color
        name = (
            f"<span class='swatch' style='background:rgb({red},{green},{blue})'></span>"
            f"{escape(c.name.replace('_', ' '))} {badge(c.novel)}"
        )
        bar = f"<span class='bar {'novel' if c.novel else 'base'}' style='width:{100 * c.pq:.1f}%'></span>"
        counts = "".join(f"<td class='num'>{v:,.0f}</td>" for v in (c.tp, c.fp, c.fn, c.points))
        lines.append(
            f"<tr{' class=absent' if absent else ''}><th>{name}</th><td>{c.kind}</td>"
            f"<td class='barcell'><span class='track'>{bar}</span></td>{cell(c.pq, 'strong')}{cell(chance.get(c.name))}"
            f"{cell(c.sq)}{cell(c.rq)}{cell(c.iou)}{_recall_cell(recall[c.name])}{counts}</tr>"
        )
    heads = "".join(
        f"<th class='num'>{h}</th>"
        for h in ("PQ", "chance", "SQ", "RQ", "IoU", "mask recall", "matched", "false", "missed", "points")
    )
    return (
        f"<table><thead><tr><th>class</th><th></th><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _recall_cell(recall: GroupRecall) -> str:
    return f"<td class='num' title='{recall.found} of {recall.segments}'>{percent(recall.recall)}</td>"


def facts(values: Mapping[str, str]) -> str:
    """Names and values."""
    lines = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items())
    return f"<dl>{lines}</dl>"
