"""Objects and flat shapes that are none of the 16 classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from driveworld.mesh import Mesh, ball, block, join, lump, tube
from driveworld.paint import STEEL, Paint, coat

Rng = np.random.Generator


def dog(rng: Rng, paint: Paint) -> Mesh:
    """Four legs, a tail and a snout, 0.5 to 0.9 m tall."""
    h, length = rng.uniform(0.3, 0.55), rng.uniform(0.6, 1.0)
    legs = [
        tube((x * length / 2.4, y * 0.1, 0), (x * length / 2.4, y * 0.1, h), 0.045, paint)
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    body = ball((0, 0, h + 0.1), (length / 2, 0.15, 0.17), paint)
    head = ball((length / 2 + 0.05, 0, h + 0.33), (0.15, 0.11, 0.13), paint)
    snout = tube((length / 2 + 0.12, 0, h + 0.3), (length / 2 + 0.3, 0, h + 0.26), 0.06, paint.darker(0.7))
    tail = tube((-length / 2, 0, h + 0.15), (-length / 2 - 0.25, 0, h + 0.45), 0.03, paint)
    return join([*legs, body, head, snout, tail])


def chair(rng: Rng, paint: Paint) -> Mesh:
    """Seat, back and four legs."""
    s, h = rng.uniform(0.4, 0.55), rng.uniform(0.4, 0.5)
    legs = [tube((x * s / 2, y * s / 2, 0), (x * s / 2, y * s / 2, h), 0.025, paint) for x in (-1, 1) for y in (-1, 1)]
    seat, back = block((s, s, 0.05), (0, 0, h), paint), block((0.05, s, 0.5), (-s / 2, 0, h + 0.3), paint)
    return join([*legs, seat, back])


def table(rng: Rng, paint: Paint) -> Mesh:
    """A board on four legs."""
    w, d, h = rng.uniform(0.9, 1.8), rng.uniform(0.6, 1.0), rng.uniform(0.6, 0.85)
    legs = [
        tube((x * w / 2.2, y * d / 2.3, 0), (x * w / 2.2, y * d / 2.3, h), 0.04, paint.darker(0.7))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return join([*legs, block((w, d, 0.06), (0, 0, h), paint)])


def round_ball(rng: Rng, paint: Paint) -> Mesh:
    """A ball of 0.3 to 1 m."""
    r = rng.uniform(0.15, 0.5)
    return ball((0, 0, r), r, paint, subdivisions=3)


def umbrella(rng: Rng, paint: Paint) -> Mesh:
    """A canopy on a stick."""
    r, h = rng.uniform(0.5, 1.5), rng.uniform(1.6, 2.6)
    canopy = tube((0, 0, h - 0.35 * r), (0, 0, h), r, paint, end_radius=0.03, sides=8)
    return join([tube((0, 0, 0), (0, 0, h), 0.03, Paint(STEEL, 0.5)), canopy])


def litter_bin(rng: Rng, paint: Paint) -> Mesh:
    """A barrel with a lid."""
    r, h = rng.uniform(0.22, 0.4), rng.uniform(0.7, 1.1)
    barrel = tube((0, 0, 0), (0, 0, h), r * 0.85, paint, end_radius=r, sides=12)
    return join([barrel, tube((0, 0, h), (0, 0, h + 0.08), r * 1.1, paint.darker(0.6), sides=12)])


def cardboard_box(rng: Rng, paint: Paint) -> Mesh:
    """One to three stacked boxes."""
    parts, z = [], 0.0
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.35, 0.9, 3)
        parts.append(block(size, (*rng.uniform(-0.1, 0.1, 2), z + size[2] / 2), paint))
        z += float(size[2])
    return join(parts)


def arch(rng: Rng, paint: Paint) -> Mesh:
    """Two posts and a bar or a boulder on top."""
    w, h = rng.uniform(1.2, 3.0), rng.uniform(1.5, 2.6)
    posts = [tube((0, y * w / 2, 0), (0, y * w / 2, h), 0.08, paint) for y in (-1, 1)]
    top = tube((0, -w / 2, h), (0, w / 2, h), 0.1, paint)
    return join([*posts, top] + ([lump(rng, (0, 0, h + 0.2), 0.25, paint)] if rng.random() < 0.3 else []))


MESHES: Mapping[str, Callable[[Rng, Paint], Mesh]] = {
    "dog": dog,
    "chair": chair,
    "table": table,
    "ball": round_ball,
    "umbrella": umbrella,
    "bin": litter_bin,
    "box": cardboard_box,
    "arch": arch,
}


def draw_shape(name: str, rng: Rng, size: int) -> tuple[NDArray[np.uint8], str]:
    """A flat picture (size, size, 3) uint8 of a shape of `concepts.SHAPES`, and the name of its colour."""
    (paint, color_name), (ground, _) = coat(rng), coat(rng)
    fore, back = np.array(paint.color), np.array(ground.color)
    if np.abs(fore - back).sum() < 0.5:  # keep it visible
        back = 1 - fore
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    turn = rng.uniform(0, 2 * np.pi)
    a, b = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    r = rng.uniform(0.45, 0.85)
    period = rng.uniform(0.25, 0.7)
    angle = np.arctan2(b, a)
    amount = {
        "circle": lambda: np.hypot(a, b) < r,
        "triangle": lambda: (b > -r / 2) & (b < r - np.abs(a) * 1.73),
        "square": lambda: np.maximum(np.abs(a), np.abs(b) * rng.uniform(1, 1.6)) < r,
        "star": lambda: np.hypot(a, b) < r * (0.6 + 0.4 * np.cos(5 * angle)),
        "stripes": lambda: np.mod(a, period) < period / 2,
        "checkerboard": lambda: (np.mod(a, period) < period / 2) ^ (np.mod(b, period) < period / 2),
        "noise": lambda: rng.random((size, size)),
        "gradient": lambda: (a + 1.4) / 2.8,
    }[name]()
    amount = np.clip(amount.astype(float), 0, 1)[..., None]
    image = fore * amount + back * (1 - amount) + rng.normal(0, 0.02, (size, size, 3))
    return np.clip(image * 255, 0, 255).astype(np.uint8), color_name
