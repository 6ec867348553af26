"""Points with names as inline SVG: what a score costs. Coloured by the page's own style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import escape

from ovps.report.charts import Figure, svg

WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 560, 300, 40, 36, 130, 12
CLOSE = 13  # names nearer than this above each other are moved apart


@dataclass(frozen=True)
class Point:
    """One system: x in the axis' unit, y a score from 0 to 1."""

    name: str
    x: float
    y: float


def scatter(title: str, x_name: str, points: Sequence[Point], part: str) -> Figure:
    """A figure of named points, both axes from zero; scores in percent.

    Args:
        part: `all`, `base` or `novel`, which decides the colour.
    """
    right, top = (_nice(max(values)) for values in ([p.x for p in points], [100 * p.y for p in points]))

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = x / right, y / top
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    placed = [(p, *at(p.x, 100 * p.y)) for p in points]
    drawn, last = "", -math.inf
    for point, x, y in sorted(placed, key=lambda p: p[2]):
        last = max(y, last + CLOSE)
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        drawn += f'<text x="{x + 8:.1f}" y="{last + 4:.1f}">{escape(point.name)}</text>'
    quarters = [i / 4 for i in range(5)]
    grid = "".join(_line(*at(0, top * q), at(right, 0)[0], top * q) for q in quarters)
    ticks = "".join(_tick(*at(right * q, 0), right * q) for q in quarters)
    about = f"{title}: {'; '.join(f'{p.name} {p.x:.1f}, {100 * p.y:.1f}' for p in points)}"
    picture = svg(WIDTH, HEIGHT, about, grid + ticks + drawn)
    return Figure(f"chart scatter {part}", title, picture, aside=f"{x_name} to the right")


def _line(x: float, y: float, end: float, label: float) -> str:
    return (
        f'<line class="grid" x1="{x}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{label:g}</text>'
    )


def _tick(x: float, y: float, label: float) -> str:
    return f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{label:g}</text>'


def _nice(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 times a power of ten: its quarters are short numbers."""
    power = 10 ** math.floor(math.log10(max(value, 1e-9)))
    return next(m * power for m in (1, 2, 4, 6, 8, 10) if m * power >= value)
