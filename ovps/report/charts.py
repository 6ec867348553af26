"""Bars with error bars as inline SVG, coloured by the page's own style so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ovps.evaluation.comparison import Spread

WIDTH, ROW, LABEL, VALUE, HEAD = 560, 22, 150, 90, 8
NOTHING = "\u2013"  # a dash, where a score says nothing


@dataclass(frozen=True)
class Bar:
    """One system; None: the score says nothing about it."""

    name: str
    value: Spread | None


def bar_chart(title: str, kind: str, bars: Sequence[Bar], chance: float | None, top: float) -> str:
    """A figure of horizontal bars.

    Args:
        kind: `all`, `base` or `novel`, which decides the colour.
        chance: where a dashed line stands; None: none.
        top: score at the right end, common to charts that are to be compared.
    """
    height = HEAD + ROW * len(bars) + 4
    drawn = "".join(_bar(bar, HEAD + ROW * i, top) for i, bar in enumerate(bars))
    line = ""
    if chance is not None:
        x = _x(chance, top)
        line = f'<line class="chance" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height - 2}"/>'
    heading = escape(title)
    about = escape("; ".join(f"{b.name} {text(b.value)}" for b in bars))
    shown = f"<span>chance {100 * chance:.1f}</span>" if chance is not None else ""
    return (
        f'<figure class="chart {kind}"><figcaption>{heading}{shown}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{heading}: {about}">{drawn}{line}</svg></figure>'
    )


def text(value: Spread | None) -> str:
    """In percent, `14.6 ± 0.4`; a dash where there is nothing."""
    if value is None:
        return NOTHING
    return f"{100 * value.mean:.1f}" + (f" ± {100 * value.sd:.1f}" if value.sd is not None else "")


def _bar(bar: Bar, y: int, top: float) -> str:
    middle = y + ROW / 2
    label = f'<text class="label" x="{LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.name)}</text>'
    value = f'<text class="value" x="{WIDTH}" y="{middle + 4}" text-anchor="end">{text(bar.value)}</text>'
    if bar.value is None:
        return label + value
    x = _x(bar.value.mean, top)
    drawn = f'<rect x="{LABEL}" y="{y + 4}" width="{max(x - LABEL, 0.5):.1f}" height="{ROW - 8}" rx="2"/>'
    if bar.value.sd is not None:
        low, high = (_x(bar.value.mean + sign * bar.value.sd, top) for sign in (-1, 1))
        whisker = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"
        drawn += f'<path class="error" d="{whisker}"/>'
    return label + drawn + value


def _x(score: float, top: float) -> float:
    return LABEL + (WIDTH - VALUE - LABEL) * min(max(score / top, 0.0), 1.0)
