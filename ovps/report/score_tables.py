"""Tables of scores, by group of classes and by class, as the templates lay them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ovps.evaluation.results import HARMONIC, ClassScore, EvalResult, GroupRecall, PanopticResult, Row
from ovps.report.charts import Score
from ovps.report.page import spaced
from ovps.taxonomy import Taxonomy

PART_NAMES = {"seen": "points that a camera sees", "unseen": "points that none sees"}
TILES = ("all", "base", "novel", "novel/things", "novel/stuff", HARMONIC)


@dataclass(frozen=True)
class Tile:
    """PQ of a group of classes in large, with chance and mIoU below."""

    title: str
    part: str
    pq: Score
    chance: Score
    miou: Score


@dataclass(frozen=True)
class Column:
    """A group of classes: `all`, `base` or `novel`, and of these `all`, `things` or `stuff`; or `harmonic`, `mean`."""

    part: str
    members: str


@dataclass(frozen=True)
class Line:
    """One system, variant, reference or score, over the groups of its table.

    Attributes:
        kind: as the style sheet names it: `system`, `variant`, `reference`, `reference apart` or nothing.
        about: in small below the name.
    """

    name: str
    scores: Sequence[Score]
    kind: str = ""
    about: str = ""


@dataclass(frozen=True)
class GroupTable:
    """Lines over groups of classes.

    Attributes:
        first: head of the column of names.
    """

    first: str
    columns: Sequence[Column]
    lines: Sequence[Line]


@dataclass(frozen=True)
class ClassLine:
    """One class.

    Attributes:
        score: of the system that speaks for the table.
        colour: red, green, blue.
        chance: its score where classes are drawn at random.
        recall: of masks, of the same system.
        scores: of several systems, where the table compares them.
    """

    score: ClassScore
    colour: tuple[int, int, int]
    chance: Score
    recall: GroupRecall
    scores: Sequence[Score] = ()


def groups_of(result: PanopticResult) -> list[str]:
    """The groups that have a class, and the harmonic mean of base and novel."""
    return list(result.columns)


def part_of(group: str) -> str:
    """`all`, `base` or `novel`; or `harmonic`."""
    return group.partition("/")[0]


def tiles(score: Callable[[str, str], Score], chance: Row, prefix: str = "") -> list[Tile]:
    """The groups that matter; `score` finds a group's score by name, None where there is none."""
    return [
        Tile(f"{prefix}{g.replace('/', ' ')} PQ", part_of(g), pq, chance.score(g, "pq"), score(g, "miou"))
        for g in TILES
        if (pq := score(g, "pq")) is not None
    ]


def group_table(first: str, groups: Sequence[str], lines: Sequence[Line]) -> GroupTable:
    """A table over `groups`, to which the scores of all lines belong in order."""
    columns = [
        Column(part, members or ("mean" if part == HARMONIC else "all"))
        for part, _, members in (g.partition("/") for g in groups)
    ]
    return GroupTable(first, columns, lines)


def system_table(result: EvalResult, score: str) -> GroupTable:
    """One line for the system, its variants and the references; `score` is a field of GroupScore."""
    groups = groups_of(result.system.panoptic)
    rows = [
        (result.run, result.system, "system"),
        *((spaced(row.name), row, "variant") for row in result.variants),
        *((spaced(row.name), row, "reference") for row in result.references),
    ]
    lines = [Line(name, [row.score(g, score) for g in groups], kind, row.description) for name, row, kind in rows]
    return group_table("system", groups, lines)


def score_table(result: EvalResult) -> GroupTable:
    """All scores of the system by group, mask recall and what cameras see with them."""
    groups = groups_of(result.system.panoptic)
    recall = {key: {g: found.score(g) for g in groups} for key, found in result.mask_recall.items()}

    def field(name: str) -> Mapping[str, Score]:
        return {g: result.system.score(g, name) for g in groups}

    lines = {
        "PQ": field("pq"),
        "PQ, classes present": field("pq_present"),
        "SQ": field("sq"),
        "RQ": field("rq"),
        "PQ†": field("pq_dagger"),
        "mIoU": field("miou"),
        **{f"PQ, {PART_NAMES[row.name]}": {g: row.score(g, "pq") for g in groups} for row in result.parts},
        "mIoU, points that a camera sees": result.miou["seen"],
        "mIoU, points that none sees": result.miou["unseen"],
        "mask recall, any query": recall["queries"],
        "… points that a camera sees": recall["queries/seen"],
        "… points that none sees": recall["queries/unseen"],
        "mask recall, after the merge": recall["merged"],
    }
    return group_table("score", groups, [Line(n, [v.get(g) for g in groups]) for n, v in lines.items()])


def class_lines(
    result: EvalResult,
    taxonomy: Taxonomy,
    score: Literal["pq", "iou"],
    systems: Sequence[Callable[[str], Score]] = (),
) -> list[ClassLine]:
    """Every class, base before novel, things before stuff.

    Args:
        score: a field of ClassScore, of which chance is shown.
        systems: each finds the score of a class by name.
    """
    chance = {c.name: getattr(c, score) for row in result.references[:1] for c in row.panoptic.classes}
    return [
        ClassLine(
            score=c,
            colour=taxonomy.by_id[c.id].color,
            chance=chance.get(c.name),
            recall=result.mask_recall["queries"].classes[c.name],
            scores=[find(c.name) for find in systems],
        )
        for c in sorted(result.system.panoptic.classes, key=lambda c: (c.novel, c.kind == "stuff", c.id))
    ]
