"""Bicycles, motorcycles, pedestrians, cones, barriers. Each variant: (rng, paint) -> Mesh, facing +x, on z = 0."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from driveworld.assets.variants import Chance, OneOf, Rng, Uniform, varied
from driveworld.mesh import Mesh, ball, box, frustum, hoop, join, loft, path, rectangle, tube, wheel
from driveworld.paint import LAMP, PALETTE, RUBBER, SKINS, STEEL, TAIL_LAMP, Paint, coat, jitter


def _bicycle(
    rng: Rng, paint: Paint, *, radius: float, base: float, step_through: bool, basket: bool, panniers: bool
) -> Mesh:
    """Two open wheels `base` metres apart, joined by a frame of tubes 5 to 6 cm thick."""
    r, b = radius, base / 2
    tyre, steel = paint.tinted(RUBBER), paint.tinted(STEEL)
    crank, seat, head = (-0.05, 0, r * 0.85), (-0.22, 0, r + 0.45), (b - 0.22, 0, r + 0.42)
    parts = []
    for x in (-b, b):
        parts.append(hoop((x, 0, r), r - 0.03, 0.055, tyre))
        for a in np.arange(0, np.pi, np.pi / 4):
            d = (r - 0.04) * np.array([np.cos(a), 0, np.sin(a)])
            parts.append(tube(np.array([x, 0, r]) - d, np.array([x, 0, r]) + d, 0.006, steel, sides=3))
    low_top = (crank[0] + 0.1, 0, crank[2] + 0.15) if step_through else seat
    frame = [(crank, seat), (crank, head), (low_top, head), (crank, (-b, 0, r)), (seat, (-b, 0, r)), (head, (b, 0, r))]
    parts += [tube(p, q, 0.028, paint) for p, q in frame]
    bar = r + 0.68
    parts += [
        tube(head, (head[0] - 0.05, 0, bar), 0.025, steel),
        tube((head[0] - 0.02, -0.3, bar), (head[0] - 0.02, 0.3, bar), 0.022, steel),
        tube(seat, (seat[0] - 0.03, 0, r + 0.6), 0.022, steel),
        ball((seat[0] - 0.03, 0, r + 0.63), (0.16, 0.09, 0.05), tyre),
        tube((crank[0], -0.12, crank[2]), (crank[0], 0.12, crank[2]), 0.09, steel, sides=8),
        box((crank[0] - 0.06, crank[0] + 0.06), (0.12, 0.2), (crank[2] - 0.2, crank[2] - 0.16), tyre),
    ]
    for x in (-b, b):  # mudguards
        arc = [(x + (r + 0.04) * np.cos(a), 0, r + (r + 0.04) * np.sin(a)) for a in np.linspace(0.6, 2.6, 5)]
        parts.append(path(arc, 0.03, paint, sides=4))
    if basket:
        parts.append(
            frustum(
                (b - 0.12, b + 0.14),
                (-0.15, 0.15),
                r + 0.36,
                (b - 0.16, b + 0.2),
                (-0.19, 0.19),
                r + 0.62,
                coat(rng)[0],
            )
        )
    if panniers:
        bag = coat(rng)[0]
        parts += [box((-b - 0.2, -b + 0.15), (y - 0.06, y + 0.06), (r + 0.02, r + 0.36), bag) for y in (-0.14, 0.14)]
        parts.append(box((-b - 0.22, -b + 0.25), (-0.1, 0.1), (r + 0.37, r + 0.4), steel))
    return join(parts)


# big wheels, a low step, a basket in front
city_bicycle = varied(
    _bicycle, radius=Uniform(0.33, 0.36), base=Uniform(1.05, 1.15), step_through=True, basket=True, panniers=Chance(0.5)
)
# a diamond frame with bags
touring_bicycle = varied(
    _bicycle, radius=Uniform(0.34, 0.37), base=Uniform(1.0, 1.1), step_through=False, basket=False, panniers=True
)
# a bare diamond frame
road_bicycle = varied(
    _bicycle, radius=Uniform(0.32, 0.35), base=Uniform(0.95, 1.05), step_through=False, basket=False, panniers=False
)
# small wheels, a basket
small_bicycle = varied(
    _bicycle, radius=Uniform(0.25, 0.3), base=Uniform(0.9, 1.02), step_through=Chance(0.5), basket=True, panniers=False
)


def _motorcycle(
    rng: Rng, paint: Paint, *, radius: float, base: float, fairing: float, top_case: bool, scooter: bool
) -> Mesh:
    """Two fat wheels, engine, tank and seat; a scooter has a floor and a leg shield instead."""
    r, b = radius, base / 2
    tyre, steel, black = paint.tinted(RUBBER), paint.tinted(STEEL), paint.tinted((0.12, 0.12, 0.13))
    parts = [wheel((x, 0, r), r, w, tyre, steel) for x, w in ((-b, 0.19), (b, 0.14))]
    parts += [tube((b, y, r), (b - 0.28, y * 0.8, r + 0.55), 0.035, steel) for y in (-0.12, 0.12)]
    bar = r + 0.68
    if scooter:
        parts += [
            frustum((-b - 0.2, 0.0), (-0.22, 0.22), r + 0.05, (-b - 0.25, -0.05), (-0.16, 0.16), r + 0.45, paint),
            box((-0.1, b - 0.25), (-0.2, 0.2), (0.22, 0.32), paint),
            frustum((b - 0.32, b - 0.2), (-0.22, 0.22), 0.3, (b - 0.42, b - 0.32), (-0.18, 0.18), bar, paint),
            ball((-b * 0.55, 0, r + 0.48), (0.4, 0.15, 0.09), black),
        ]
    else:
        parts += [
            box((-0.25, 0.25), (-0.2, 0.2), (0.2, 0.58), steel),
            ball((0.16, 0, r + 0.5), (0.34, 0.18, 0.17), paint, subdivisions=2),
            frustum((-b - 0.15, -0.05), (-0.13, 0.13), r + 0.38, (-b - 0.25, 0.0), (-0.12, 0.12), r + 0.48, black),
            tube((-b + 0.1, 0.19, 0.3), (0.2, 0.17, 0.28), 0.06, steel),
            tube((-b - 0.3, 0.2, 0.42), (-b + 0.12, 0.19, 0.3), 0.085, steel),
            frustum((-b - 0.35, -b + 0.1), (-0.1, 0.1), r + 0.2, (-b - 0.3, -b + 0.1), (-0.1, 0.1), r + 0.4, paint),
        ]
    arc = [(b + (r + 0.05) * np.cos(a), 0, r + (r + 0.05) * np.sin(a)) for a in np.linspace(0.5, 2.4, 4)]
    parts.append(path(arc, 0.08, paint, sides=4))
    parts += [
        tube((b - 0.3, -0.36, bar), (b - 0.3, 0.36, bar), 0.03, black),
        ball((b - 0.12, 0, r + 0.52), (0.09, 0.11, 0.11), paint.tinted(LAMP)),
        box((-b - 0.37, -b - 0.3), (-0.08, 0.08), (r + 0.25, r + 0.33), paint.tinted(TAIL_LAMP)),
    ]
    parts += [ball((b - 0.28, y, bar + 0.13), (0.03, 0.08, 0.06), black) for y in (-0.34, 0.34)]
    if fairing:
        parts.append(
            frustum(
                (b - 0.5, b + 0.05),
                (-0.22, 0.22),
                r + 0.1,
                (b - 0.45, b - 0.2),
                (-0.16, 0.16),
                r + 0.4 + fairing,
                paint,
            )
        )
    if top_case:
        parts.append(box((-b - 0.45, -b - 0.05), (-0.22, 0.22), (r + 0.5, r + 0.82), coat(rng)[0]))
    return join(parts)


# engine and tank in the open
naked_motorcycle = varied(
    _motorcycle, radius=Uniform(0.3, 0.33), base=Uniform(1.35, 1.5), fairing=0.0, top_case=False, scooter=False
)
# a screen in front and a case behind
touring_motorcycle = varied(
    _motorcycle,
    radius=Uniform(0.31, 0.34),
    base=Uniform(1.45, 1.62),
    fairing=Uniform(0.35, 0.55),
    top_case=True,
    scooter=False,
)
# a low full fairing
sport_motorcycle = varied(
    _motorcycle,
    radius=Uniform(0.29, 0.31),
    base=Uniform(1.3, 1.42),
    fairing=Uniform(0.2, 0.32),
    top_case=False,
    scooter=False,
)
# small wheels, a leg shield and a floor
scooter = varied(
    _motorcycle, radius=Uniform(0.22, 0.26), base=Uniform(1.2, 1.35), fairing=0.0, top_case=Chance(0.5), scooter=True
)


def _person(rng: Rng, paint: Paint, *, height: float, coat_length: float, pack: bool, hat: bool, stout: float) -> Mesh:
    """Standing or in mid-stride. `coat_length`: how far the jacket reaches down the legs, 0..1."""
    s = height / 1.75
    skin = paint.tinted(jitter(rng, SKINS[int(rng.integers(len(SKINS)))], 0.03))
    trousers, shoes, hair = coat(rng)[0], paint.tinted(RUBBER), paint.tinted(jitter(rng, (0.2, 0.14, 0.09), 0.06))
    stride, wide = rng.uniform(-0.32, 0.32), 0.19 * stout
    hip, shoulder = 0.88, 1.42
    parts = []
    for side in (-1, 1):
        foot = side * stride
        knee = (foot * 0.45 + 0.03, side * 0.1, 0.47)
        parts += [
            tube((0, side * 0.09, hip), knee, 0.085 * stout, trousers, end_radius=0.065 * stout),
            tube(knee, (foot, side * 0.1, 0.08), 0.062 * stout, trousers, end_radius=0.045),
            box((foot - 0.08, foot + 0.18), (side * 0.1 - 0.05, side * 0.1 + 0.05), (0.0, 0.1), shoes),
        ]
        elbow = (-foot * 0.5, side * (wide + 0.1), 1.14)
        hand = (-foot * 0.9 + 0.1, side * (wide + 0.09), 0.9)
        parts += [
            tube((0, side * (wide + 0.02), shoulder - 0.02), elbow, 0.058, paint, end_radius=0.05),
            tube(elbow, hand, 0.048, paint, end_radius=0.04),
            ball(hand, 0.05, skin),
        ]
    hem = hip - 0.04 - 0.42 * coat_length
    angle = np.arange(8) * np.pi / 4

    def ring(rx: float, ry: float, z: float) -> list[tuple[float, float, float]]:
        return [(rx * np.cos(a), ry * np.sin(a), z) for a in angle]

    torso = [
        ring(0.13 * stout + 0.08 * coat_length, wide + 0.06 * coat_length, hem),
        ring(0.12 * stout, wide * 0.9, 1.05),
        ring(0.13, wide + 0.03, 1.34),
        ring(0.07, wide * 0.6, shoulder + 0.05),
    ]
    parts += [
        loft(torso, paint),
        tube((0, 0, shoulder), (0.01, 0, 1.56), 0.055, skin),
        ball((0.02, 0, 1.63), (0.1, 0.085, 0.125), skin, subdivisions=2),
        ball((-0.015, 0, 1.66), (0.105, 0.095, 0.115), hair),
    ]
    if hat:
        parts.append(tube((0, 0, 1.69), (0, 0, 1.77), 0.11, coat(rng)[0], end_radius=0.08, sides=8))
    if pack:
        parts.append(frustum((-0.36, -0.11), (-0.17, 0.17), 1.0, (-0.28, -0.1), (-0.13, 0.13), 1.45, coat(rng)[0]))
    body = join(parts)
    return Mesh(body.vertices * np.float32(s), body.faces, body.color, body.reflectance, body.texture)


# an adult in a jacket, often with a rucksack
walker = varied(
    _person, height=Uniform(1.58, 1.92), coat_length=0.0, pack=Chance(0.5), hat=Chance(0.25), stout=Uniform(0.9, 1.15)
)
# an adult in a coat or skirt
coat_wearer = varied(
    _person,
    height=Uniform(1.55, 1.85),
    coat_length=Uniform(0.5, 1.0),
    pack=False,
    hat=Chance(0.4),
    stout=Uniform(0.95, 1.3),
)
# a child
child = varied(
    _person,
    height=Uniform(1.1, 1.4),
    coat_length=Uniform(0.0, 0.4),
    pack=Chance(0.6),
    hat=Chance(0.3),
    stout=Uniform(0.95, 1.15),
)
# a broad adult in a short coat with a hat
stout_walker = varied(
    _person,
    height=Uniform(1.6, 1.9),
    coat_length=Uniform(0.15, 0.45),
    pack=Chance(0.3),
    hat=True,
    stout=Uniform(1.15, 1.4),
)


def _cone(rng: Rng, paint: Paint, *, height: float, slope: float, bands: int, sides: int, foot: float) -> Mesh:
    """A banded cone on a square foot; `slope` is its radius and `foot` half the foot's side, by height."""
    radius, base = height * slope, height * foot
    parts = [box((-base, base), (-base, base), (0.0, 0.05), paint.darker(0.6) if rng.random() < 0.5 else paint)]
    steps = np.linspace(0.05, height, 2 * bands + 2)
    tip, band = 0.035, paint.tinted(PALETTE["white"] if sum(paint.color) < 2.2 else PALETTE["red"])

    def at(z: float) -> float:
        return radius + (tip - radius) * (z - 0.05) / (height - 0.05)

    for i, (low, high) in enumerate(pairwise(steps)):
        parts.append(
            tube((0, 0, low), (0, 0, high), at(low), band if i % 2 else paint, end_radius=at(high), sides=sides)
        )
    return join(parts)


# a square foot, a tall cone, two bands
road_cone = varied(_cone, height=Uniform(0.75, 1.1), slope=Uniform(0.17, 0.21), bands=2, sides=12, foot=0.27)
# a squat cone with one band
small_cone = varied(_cone, height=Uniform(0.6, 0.8), slope=Uniform(0.22, 0.27), bands=1, sides=12, foot=0.34)
# a slim tall cone with three bands on a wide foot
slim_cone = varied(_cone, height=Uniform(0.85, 1.2), slope=Uniform(0.13, 0.16), bands=3, sides=8, foot=0.23)
# a wide cone with one or two bands and a small foot
wide_cone = varied(_cone, height=Uniform(0.6, 0.95), slope=Uniform(0.23, 0.28), bands=OneOf(1, 2), sides=16, foot=0.3)


def jersey_barrier(rng: Rng, paint: Paint) -> Mesh:
    """A concrete wall segment, wide at its foot."""
    length, h = rng.uniform(1.8, 3.2), rng.uniform(0.8, 1.05)
    profile = [
        (-0.3, 0),
        (-0.3, 0.08),
        (-0.14, 0.35 * h),
        (-0.09, h),
        (0.09, h),
        (0.14, 0.35 * h),
        (0.3, 0.08),
        (0.3, 0),
    ]
    parts = [loft([[(x, y, z) for y, z in profile] for x in (-length / 2, length / 2)], paint)]
    if rng.random() < 0.5:
        stripe = coat(rng)[0]
        parts += [
            box((x - 0.12, x + 0.12), (-0.115, 0.115), (0.6 * h, 0.9 * h), stripe)
            for x in np.arange(-length / 2 + 0.3, length / 2 - 0.1, 0.5)
        ]
    return join(parts)


def _planks(rng: Rng, paint: Paint, *, boards: int, board: float, height: float, splay: float) -> Mesh:
    """Striped boards between two pairs of legs."""
    length, other = rng.uniform(1.6, 2.6), coat(rng)[0]
    h = length / 2
    parts = []
    for x in (-h + 0.15, h - 0.15):
        for side in (-1, 1):
            parts.append(tube((x, side * splay, 0), (x, side * 0.03, height), 0.035, paint.tinted(STEEL), sides=4))
        parts.append(box((x - 0.08, x + 0.08), (-splay - 0.05, splay + 0.05), (0, 0.06), paint.tinted(RUBBER)))
    pitch = (height - 0.25) / boards
    for i in range(boards):
        z = height - 0.02 - i * pitch
        edges = np.linspace(-h, h, int(length / 0.3) + 1)
        for j, (a, b) in enumerate(pairwise(edges)):
            parts.append(box((a, b), (-0.05, 0.05), (z - board, z), other if j % 2 else paint))
    return join(parts)


# two striped boards on splayed legs
plank_barrier = varied(_planks, boards=2, board=Uniform(0.22, 0.3), height=Uniform(0.95, 1.15), splay=0.28)
# three narrow boards on flat feet
board_barrier = varied(_planks, boards=3, board=Uniform(0.17, 0.22), height=Uniform(1.0, 1.25), splay=0.2)


def water_barrier(rng: Rng, paint: Paint) -> Mesh:
    """A plastic block with a waist and two slots for a fork lift."""
    length, h = rng.uniform(1.3, 2.0), rng.uniform(0.75, 1.0)
    y, x = 0.24, length / 2
    levels = [
        (1.0, 1.0, 0.0),
        (1.0, 1.0, 0.3 * h),
        (0.94, 0.55, 0.5 * h),
        (0.94, 0.55, 0.7 * h),
        (0.98, 0.7, 0.8 * h),
        (0.95, 0.6, h),
    ]
    body = loft([rectangle((-x * a, x * a), (-y * b, y * b), z) for a, b, z in levels], paint)
    slots = [
        box((c - 0.14, c + 0.14), (-y - 0.012, y + 0.012), (0.03, 0.13), paint.darker(0.35)) for c in (-x / 2, x / 2)
    ]
    return join([body, *slots])
