"""Bars with error bars as inline SVG, coloured by the page's own style so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from ovps.evaluation.comparison import Spread

WIDTH, ROW, LABEL, VALUE, HEAD = 560, 22, 150, 90, 8
NOTHING = "\u2013"  # a dash, where a score says nothing

Score = float | Spread | None


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption.

    Attributes:
        kind: of chart, as the style sheet names it: `curve`, or `chart` and the colour of a group of classes.
        svg: its texts escaped.
        value, aside: beside the caption, set off from it.
        ends: below the left and the right end.
    """

    kind: str
    caption: str
    svg: Markup
    value: str = ""
    aside: str = ""
    ends: Sequence[str] = ()


def bar_chart(title: str, part: str, bars: Mapping[str, Spread | None], chance: float | None, top: float) -> Figure:
    """A figure of horizontal bars.

    Args:
        bars: scores by system; None: the score says nothing about it.
        part: `all`, `base` or `novel`, which decides the colour.
        chance: where a dashed line stands; None: none.
        top: score at the right end, common to charts that are to be compared.
    """
    height = HEAD + ROW * len(bars) + 4
    drawn = "".join(_bar(*bar, HEAD + ROW * i, top) for i, bar in enumerate(bars.items()))
    if chance is not None:
        x = _x(chance, top)
        drawn += f'<line class="chance" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height - 2}"/>'
    about = f"{title}: {'; '.join(f'{name} {text(value)}' for name, value in bars.items())}"
    aside = "" if chance is None else f"chance {percent(chance)}"
    return Figure(f"chart {part}", title, svg(WIDTH, height, about, drawn), aside=aside)


def svg(width: int, height: int, about: str, drawn: str) -> Markup:
    """An inline SVG; `about` says in words what is drawn, `drawn` is markup whose texts are escaped."""
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(about)}">{drawn}</svg>')


def percent(value: Score) -> str:
    """Format a fraction in percent, `14.6`; a dash where there is nothing."""
    mean = value.mean if isinstance(value, Spread) else value
    return NOTHING if mean is None else f"{100 * mean:.1f}"


def deviation(value: Score) -> str:
    """The standard deviation in percent, ` ± 0.4`; empty where there is none."""
    return f" ± {100 * value.sd:.1f}" if isinstance(value, Spread) and value.sd is not None else ""


def text(value: Score) -> str:
    """Format in percent with the spread, `14.6 ± 0.4`; a dash where there is nothing."""
    return percent(value) + deviation(value)


def _bar(name: str, score: Spread | None, y: int, top: float) -> str:
    middle = y + ROW / 2
    label = f'<text class="label" x="{LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>'
    value = f'<text class="value" x="{WIDTH}" y="{middle + 4}" text-anchor="end">{text(score)}</text>'
    if score is None:
        return label + value
    x = _x(score.mean, top)
    drawn = f'<rect x="{LABEL}" y="{y + 4}" width="{max(x - LABEL, 0.5):.1f}" height="{ROW - 8}" rx="2"/>'
    if score.sd is not None:
        low, high = (_x(score.mean + sign * score.sd, top) for sign in (-1, 1))
        whisker = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"
        drawn += f'<path class="error" d="{whisker}"/>'
    return label + drawn + value


def _x(score: float, top: float) -> float:
    return LABEL + (WIDTH - VALUE - LABEL) * min(max(score / top, 0.0), 1.0)
