"""An evaluation as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovps.evaluation.results import HARMONIC, EvalResult

SCORES = ("pq", "sq", "rq", "pq_dagger", "miou")


def print_result(result: EvalResult, console: Console) -> None:
    """Print the groups, the reference rows and the classes, in percent; random CLIP weights come with a warning."""
    if result.weights_random:
        console.print(
            Text.assemble(("Random CLIP weights:", "bold red"), " these numbers say nothing about the method.")
        )
    console.print(_groups(result))
    console.print(_rows(result))
    console.print(_classes(result))
    if result.unknown:
        console.print(_unknown(result))


def _groups(result: EvalResult) -> Table:
    table = Table(title=f"{result.run}: {result.frames} frames of {result.subset}, split {result.split}, in percent")
    for name in ("", *SCORES, "mask recall"):
        table.add_column(name.replace("_", " "), justify="left" if not name else "right")
    recall = result.mask_recall["queries"]
    for group in result.system.panoptic.columns:
        scores = [_percent(result.system.score(group, score)) for score in SCORES]
        table.add_row(group, *scores, _percent(recall.score(group)), style=_style(group.startswith("novel")))
    return table


def _rows(result: EvalResult) -> Table:
    """PQ and mIoU of the run, its variants and the references."""
    shown = ("all", "base", "novel", "novel/things", "novel/stuff", HARMONIC)
    groups = [g for g in shown if g in result.system.panoptic.columns]
    table = Table("PQ / mIoU", *groups, title="beside it")
    for row in result.rows:
        pairs = [(_percent(row.score(g, "pq")), _percent(row.score(g, "miou"))) for g in groups]
        table.add_row(row.name, *(" / ".join(pair) for pair in pairs))
    return table


def _classes(result: EvalResult) -> Table:
    other = bool(result.novel_taught or result.base_hidden)
    title = f"classes; novel by split {result.split}" if other else "classes; novel ones were never labelled"
    table = Table("class", "", "PQ", "SQ", "RQ", "IoU", "segments", title=title)
    for score in result.system.panoptic.classes:
        values = [_percent(v) for v in (score.pq, score.sq, score.rq, score.iou)]
        label = f"{score.kind}, novel" if score.novel else score.kind
        label += ", labelled in training" if score.name in result.novel_taught else ""
        label += ", never labelled" if score.name in result.base_hidden else ""
        table.add_row(score.name, label, *values, f"{score.segments:.0f}", style=_style(score.novel))
    return table


def _unknown(result: EvalResult) -> Table:
    title = "novel as unknown: scores for none of the vocabulary, which has the base classes only"
    table = Table("score", "of", "novel", "base", "AUROC", "FPR95", title=title)
    for name, counted in result.unknown.items():
        for what, score in counted.items():
            counts = f"{score.novel:,}", f"{score.base:,}"
            table.add_row(name, what, *counts, _percent(score.auroc), _percent(score.fpr95))
    return table


def _style(novel: bool) -> str:
    return "cyan" if novel else ""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
