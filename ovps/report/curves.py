"""Training curves as inline SVG, coloured by the page's own style so that they follow light and dark."""

from __future__ import annotations

import math

from ovps.report.charts import Figure, svg

WIDTH, HEIGHT, PAD = 260, 96, 4
POINTS = 200  # of a drawn line; more would not be seen


def curve_names(metrics: list[dict[str, float]]) -> list[str]:
    """Choose the scalars that are worth a curve: totals first, then loss parts, then the rest; times are not."""
    names = {n for line in metrics for n in line if n != "step" and not n.startswith("seconds/")}
    rank = {"loss/total": 0, "loss/supervised": 1, "loss/voxel": 2}
    return sorted(names, key=lambda n: (rank.get(n, 3 if n.startswith("loss/") else 4), n))


def curves(metrics: list[dict[str, float]]) -> list[Figure]:
    """Figures of everything in a run's `metrics.jsonl` that is worth one."""
    return [figure for name in curve_names(metrics) if (figure := curve(metrics, name))]


def curve(metrics: list[dict[str, float]], name: str) -> Figure | None:
    """One scalar over steps: every value faint, their running mean on top; None where it is absent or always zero."""
    points = [(x["step"], x[name]) for x in metrics if name in x and math.isfinite(x[name])]
    values = [v for _, v in points]
    if not any(values):
        return None
    smooth = values if name == "learning_rate" else _smooth(values)
    low, high = min(values), max(values)
    first, last = points[0][0], points[-1][0]

    def line(values: list[float], kind: str) -> str:
        every = max(len(values) // POINTS, 1)
        kept = [*range(0, len(values), every)]
        kept += [len(values) - 1] if kept[-1] != len(values) - 1 else []
        at = [(_at(points[i][0], first, last, WIDTH), HEIGHT - _at(values[i], low, high, HEIGHT)) for i in kept]
        return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>'

    label = name.removeprefix("loss/").replace("last/", "last layer: ").replace("_", " ")
    about = f"{label}, {values[0]:.3g} to {smooth[-1]:.3g}"
    drawn = svg(WIDTH, HEIGHT, about, line(values, "raw") + line(smooth, "smooth"))
    ends = (f"step {first:.0f}: {values[0]:.3g}", f"step {last:.0f}")
    return Figure("curve", label, drawn, value=f"{smooth[-1]:.3g}", ends=ends)


def _smooth(values: list[float]) -> list[float]:
    """Running mean with the weight of about a twentieth of the run."""
    keep = 1 - min(1.0, 20 / max(len(values), 1))
    mean, result = values[0], []
    for value in values:
        mean = keep * mean + (1 - keep) * value
        result.append(mean)
    return result


def _at(value: float, low: float, high: float, length: float) -> float:
    return PAD + (length - 2 * PAD) * ((value - low) / (high - low) if high > low else 0.5)
