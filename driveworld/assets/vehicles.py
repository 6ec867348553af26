"""Cars, buses, trucks, trailers, construction vehicles. Each variant: (rng, paint) -> Mesh, facing +x, on z = 0.

World and demo-CLIP variants of a class are different constructions, not different seeds of one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from driveworld.assets.variants import Builder, Rng, Uniform, varied
from driveworld.mesh import Mesh, ball, box, frustum, join, loft, path, span, tube, wheel
from driveworld.paint import GLASS, LAMP, RUBBER, STEEL, TAIL_LAMP, Color, Paint, coat, jitter

ORANGE: Color = (0.90, 0.50, 0.10)


def _wheels(xs: list[float], half_width: float, radius: float, width: float, paint: Paint) -> list[Mesh]:
    tyre, hub = paint.tinted(RUBBER, 0.7), paint.tinted(STEEL)
    return [
        wheel((x, side * (half_width - width / 2), radius), radius, width, tyre, hub) for x in xs for side in (-1, 1)
    ]


def _lamps(front: float, back: float, half_width: float, z: float, size: float, paint: Paint) -> list[Mesh]:
    """Head lamps at x = front, tail lamps at x = back, 2 cm proud of the body."""
    parts = []
    for side in (-1, 1):
        y, high = span(side * half_width * 0.95, side * (half_width * 0.95 - 2 * size)), (z - size / 2, z + size / 2)
        parts.append(box((front - 0.05, front + 0.02), y, high, paint.tinted(LAMP)))
        parts.append(box((back - 0.02, back + 0.05), y, high, paint.tinted(TAIL_LAMP)))
    return parts


def _car_body(
    length: float,
    width: float,
    belt: float,
    height: float,
    cabin: tuple[float, float, float, float],
    nose: float,
    tail: float,
    paint: Paint,
) -> Mesh:
    """A car from its side view.

    Args:
        belt, height: heights of the window sill and the roof, metres.
        cabin: where the glass starts and ends at the sill and at the roof, as fractions of the length from the
            rear: (rear sill, rear roof, front roof, front sill).
        nose, tail: height of bonnet and boot at their ends, as fractions of the belt height.
    """
    h, w, clear = length / 2, width / 2, 0.19
    x = np.array([0.0, 0.04, cabin[0], 0.5, cabin[3], 0.95, 1.0]) * length - h
    top = np.array([tail * 0.85, tail, 1.0, 1.0, 1.0, nose, nose * 0.75]) * belt
    half = np.array([0.86, 0.95, 1.0, 1.0, 1.0, 0.95, 0.84]) * w
    rings = [
        [
            (xi, -hi, clear),
            (xi, -hi, 0.7 * ti),
            (xi, -hi * 0.93, ti),
            (xi, hi * 0.93, ti),
            (xi, hi, 0.7 * ti),
            (xi, hi, clear),
        ]
        for xi, ti, hi in zip(x, top, half, strict=True)
    ]
    sill_y, roof_y = (-w * 0.92, w * 0.92), (-w * 0.74, w * 0.74)
    sill_x = (cabin[0] * length - h, cabin[3] * length - h)
    roof_x = (cabin[1] * length - h, cabin[2] * length - h)
    glass = paint.tinted(GLASS, 0.5)
    parts = [
        loft(rings, paint),
        frustum(sill_x, sill_y, belt - 0.02, roof_x, roof_y, height - 0.07, glass),
        frustum(roof_x, roof_y, height - 0.08, roof_x, (roof_y[0] * 0.92, roof_y[1] * 0.92), height, paint),
    ]
    for side in (-1, 1):
        for low, high in ((sill_x[0], roof_x[0]), (sill_x[1], roof_x[1]), (sum(sill_x) / 2, sum(roof_x) / 2)):
            parts.append(
                tube((low, side * w * 0.93, belt - 0.03), (high, side * w * 0.75, height - 0.04), 0.045, paint, sides=4)
            )
        mirror = sill_x[1] - 0.12 * length
        parts.append(ball((mirror, side * w * 1.03, belt + 0.05), (0.09, 0.1, 0.08), paint))
        parts.append(
            box(
                (-0.02 * length, 0.04 * length),
                span(side * w, side * w * 1.01),
                (0.78 * belt, 0.82 * belt),
                paint.tinted(STEEL),
            )
        )
    parts.append(box((h - 0.1, h + 0.02), (-w * 0.5, w * 0.5), (0.35 * belt, 0.55 * belt), paint.tinted(RUBBER)))
    parts += _lamps(h * 0.985, -h, w * 0.9, 0.62 * belt, 0.15, paint)
    parts += _wheels([-0.31 * length, 0.31 * length], w + 0.02, float(np.clip(0.23 * height, 0.3, 0.42)), 0.22, paint)
    return join(parts)


def _car(
    length: tuple[float, float],
    width: tuple[float, float],
    height: tuple[float, float],
    belt: tuple[float, float],
    cabin: tuple[float, float, float, float],
    nose: float,
    tail: float,
) -> Builder:
    def build(rng: Rng, paint: Paint) -> Mesh:
        tall = rng.uniform(*height)
        ends = np.sort(np.asarray(cabin) + rng.uniform(-0.015, 0.015, 4))
        return _car_body(
            rng.uniform(*length),
            rng.uniform(*width),
            tall * rng.uniform(*belt),
            tall,
            (float(ends[0]), float(ends[1]), float(ends[2]), float(ends[3])),
            nose * rng.uniform(0.95, 1.05),
            tail,
            paint,
        )

    return build


sedan = _car((4.4, 5.0), (1.76, 1.92), (1.40, 1.52), (0.60, 0.66), (0.12, 0.26, 0.60, 0.75), 0.78, 0.92)
hatchback = _car((3.6, 4.2), (1.66, 1.80), (1.45, 1.60), (0.58, 0.64), (0.03, 0.12, 0.60, 0.78), 0.80, 0.95)
suv = _car((4.4, 4.9), (1.84, 2.00), (1.65, 1.85), (0.60, 0.66), (0.02, 0.07, 0.62, 0.74), 0.88, 0.98)
coupe = _car((4.1, 4.7), (1.74, 1.90), (1.26, 1.38), (0.62, 0.68), (0.06, 0.32, 0.54, 0.72), 0.70, 0.85)
estate = _car((4.5, 5.1), (1.74, 1.88), (1.42, 1.54), (0.60, 0.65), (0.02, 0.08, 0.58, 0.73), 0.80, 0.96)
minivan = _car((4.3, 5.0), (1.76, 1.94), (1.65, 1.85), (0.54, 0.60), (0.02, 0.05, 0.68, 0.88), 0.78, 0.98)


def _window_row(
    x: tuple[float, float], half_width: float, z: tuple[float, float], count: int, paint: Paint
) -> list[Mesh]:
    """`count` panes on both sides, 1.5 cm proud of the wall, a pillar's width apart."""
    step = (x[1] - x[0]) / count
    parts = []
    for i in range(count):
        a = x[0] + i * step
        for side in (-1, 1):
            y = span(side * half_width, side * (half_width + 0.015))
            parts.append(box((a + 0.06, a + step - 0.06), y, z, paint))
    return parts


def _bus(
    rng: Rng, paint: Paint, *, length: float, height: float, decks: int, nose: float, panes: int, roof_box: bool
) -> Mesh:
    h, w, clear = length / 2, rng.uniform(1.2, 1.3), 0.32
    glass, trim = paint.tinted(GLASS, 0.5), coat(rng)[0]
    parts = [
        frustum((-h, h), (-w, w), clear, (-h, h - nose), (-w * 0.97, w * 0.97), height - 0.12, paint),
        frustum(
            (-h, h - nose),
            (-w * 0.97, w * 0.97),
            height - 0.13,
            (-h + 0.2, h - nose - 0.2),
            (-w * 0.8, w * 0.8),
            height,
            paint,
        ),
        box((-h + 0.3, h - 0.3), (-w - 0.012, w + 0.012), (clear + 0.25, clear + 0.45), trim),
    ]
    deck = (height - 0.9) / decks
    for level in range(decks):
        base = 0.9 + level * deck
        z = (base + 0.28 * deck if decks == 1 else base + 0.35 * deck, base + (0.78 if decks == 1 else 0.85) * deck)
        parts += _window_row((-h + 0.3, h - nose - 1.2), w, z, panes, glass)
        parts.append(
            frustum(
                (h - nose, h + 0.03),
                (-w * 0.92, w * 0.92),
                z[0] - 0.25,
                (h - nose, h - nose * 0.6 + 0.03),
                (-w * 0.9, w * 0.9),
                z[1] + 0.1,
                glass,
            )
        )
        parts.append(box((-h - 0.02, -h + 0.1), (-w * 0.8, w * 0.8), z, glass))
    doors = [h - nose - 0.9, 0.1 * length]
    for x in doors:  # doors on the kerb side: tall dark panes in a frame
        parts.append(box((x - 0.55, x + 0.55), (-w - 0.03, -w + 0.05), (clear + 0.05, 2.3), paint.tinted(STEEL)))
        parts.append(box((x - 0.48, x - 0.03), (-w - 0.045, -w), (clear + 0.2, 2.2), glass))
        parts.append(box((x + 0.03, x + 0.48), (-w - 0.045, -w), (clear + 0.2, 2.2), glass))
    parts.append(
        box(
            (h - nose - 0.15, h - nose * 0.5 + 0.06),
            (-w * 0.6, w * 0.6),
            (height - 0.42, height - 0.16),
            paint.tinted(RUBBER),
        )
    )
    parts.append(
        box(
            (h - nose * 0.5, h - nose * 0.5 + 0.075),
            (-w * 0.45, w * 0.45),
            (height - 0.37, height - 0.21),
            paint.tinted(ORANGE),
        )
    )
    if roof_box:
        parts.append(box((-0.25 * length, 0.1 * length), (-w * 0.55, w * 0.55), (height - 0.02, height + 0.25), trim))
    parts += _lamps(h + 0.02, -h - 0.02, w * 0.9, 0.75, 0.2, paint)
    parts += _wheels([-0.28 * length, 0.30 * length], w + 0.02, 0.48, 0.3, paint)
    return join(parts)


def city_bus(rng: Rng, paint: Paint) -> Mesh:
    """A low-floor single-decker with a box on its roof."""
    length = rng.uniform(9.5, 12.5)
    return _bus(
        rng,
        paint,
        length=length,
        height=rng.uniform(2.9, 3.2),
        decks=1,
        nose=0.15,
        panes=int(length / 1.6),
        roof_box=True,
    )


# a short city bus
midi_bus = varied(
    _bus, length=Uniform(7.2, 9.0), height=Uniform(2.75, 3.05), decks=1, nose=0.3, panes=5, roof_box=False
)
# a long coach with a sloping front and narrow panes
coach = varied(_bus, length=Uniform(10.5, 13.0), height=Uniform(3.2, 3.55), decks=1, nose=0.6, panes=9, roof_box=False)
# two rows of windows
double_decker = varied(
    _bus, length=Uniform(8.5, 10.8), height=Uniform(4.0, 4.3), decks=2, nose=0.2, panes=6, roof_box=False
)
# seven metres, high roof, four wide panes
shuttle_bus = varied(
    _bus, length=Uniform(6.6, 8.2), height=Uniform(2.8, 3.1), decks=1, nose=0.45, panes=4, roof_box=True
)


def _cab(front: float, length: float, half_width: float, height: float, slope: float, paint: Paint) -> list[Mesh]:
    """A truck's cab ending at x = front, with windscreen, side panes, grille and bumper."""
    back, w = front - length, half_width
    glass, dark = paint.tinted(GLASS, 0.5), paint.tinted(RUBBER)
    sill = 0.55 * height
    return [
        frustum((back, front), (-w, w), 0.45, (back, front), (-w, w), sill, paint),
        frustum((back, front), (-w, w), sill, (back, front - slope), (-w * 0.93, w * 0.93), height, paint),
        frustum(
            (front - 0.3, front + 0.02),
            (-w * 0.9, w * 0.9),
            sill + 0.05,
            (front - 0.4, front - slope * 0.8 + 0.02),
            (-w * 0.84, w * 0.84),
            height * 0.9,
            glass,
        ),
        box((back + 0.35 * length, front - slope - 0.15), (-w - 0.015, w + 0.015), (sill + 0.08, height * 0.87), glass),
        box((front - 0.1, front + 0.03), (-w * 0.6, w * 0.6), (0.7, sill - 0.15), dark),
        box((front - 0.15, front + 0.08), (-w, w), (0.35, 0.65), dark),
        tube((front - 0.1, -w - 0.18, sill + 0.2), (front - 0.1, -w - 0.18, sill + 0.75), 0.09, dark),
        tube((front - 0.1, w + 0.18, sill + 0.2), (front - 0.1, w + 0.18, sill + 0.75), 0.09, dark),
    ]


def _truck(rng: Rng, paint: Paint, load: Callable[[Rng, tuple[float, float], float], list[Mesh]], slope: float) -> Mesh:
    length, w = rng.uniform(6.2, 9.2), rng.uniform(1.1, 1.25)
    cab, height = rng.uniform(1.7, 2.2), rng.uniform(2.3, 2.75)
    h = length / 2
    deck = (-h, h - cab - 0.15)
    parts = _cab(h, cab, w, height, slope, paint)
    parts.append(box((-h + 0.1, h - 0.3), (-0.45, 0.45), (0.6, 0.85), paint.tinted(RUBBER)))
    parts += load(rng, deck, w)
    parts += _wheels([h - 0.9, -h + 1.2, *([-h + 2.3] if length > 7.6 else [])], w + 0.03, 0.48, 0.32, paint)
    parts += _lamps(h + 0.05, -h - 0.02, w * 0.9, 0.85, 0.2, paint)
    return join(parts)


def _cargo_box(rng: Rng, deck: tuple[float, float], w: float) -> list[Mesh]:
    paint, height = coat(rng)[0], rng.uniform(2.9, 3.6)
    stripe = coat(rng)[0]
    return [
        box(deck, (-w - 0.04, w + 0.04), (0.9, height), paint),
        box((deck[0] + 0.4, deck[1] - 0.4), (-w - 0.055, w + 0.055), (1.6, 1.6 + rng.uniform(0.3, 0.9)), stripe),
        box((deck[0] - 0.03, deck[0] + 0.05), (-0.03, 0.03), (1.0, height - 0.1), paint.tinted(STEEL)),
    ]


def _flat_load(rng: Rng, deck: tuple[float, float], w: float) -> list[Mesh]:
    parts = [
        box(deck, (-w, w), (0.9, 1.1), coat(rng)[0]),
        box((deck[1] - 0.12, deck[1]), (-w, w), (1.1, 2.0), coat(rng)[0]),
    ]
    x = deck[0] + 0.2
    while x < deck[1] - 1.0:
        long = min(float(rng.uniform(0.9, 1.8)), deck[1] - 0.3 - x)
        parts.append(box((x, x + long), (-w * 0.85, w * 0.85), (1.1, rng.uniform(1.5, 2.4)), coat(rng)[0]))
        x += long + 0.1
    return parts


def _tipper_bed(rng: Rng, deck: tuple[float, float], w: float) -> list[Mesh]:
    paint = coat(rng)[0]
    top = rng.uniform(2.0, 2.6)
    wide = (-w - 0.05, w + 0.05)
    parts = [frustum((deck[0] + 0.5, deck[1]), (-w * 0.8, w * 0.8), 1.0, (deck[0], deck[1] + 0.1), wide, top, paint)]
    parts += [
        box((x - 0.06, x + 0.06), (-w - 0.1, w + 0.1), (1.2, top), paint.darker(0.7))
        for x in np.linspace(deck[0] + 0.6, deck[1] - 0.3, 5)
    ]
    parts.append(
        ball(
            (sum(deck) / 2, 0, top),
            ((deck[1] - deck[0]) * 0.42, w * 0.85, 0.4),
            paint.tinted(jitter(rng, (0.42, 0.33, 0.22))),
        )
    )
    return parts


def _tank(rng: Rng, deck: tuple[float, float], w: float) -> list[Mesh]:
    paint = coat(rng)[0]
    r = rng.uniform(0.95, 1.15)
    parts = [tube((deck[0], 0, 0.95 + r), (deck[1], 0, 0.95 + r), r, paint, sides=16)]
    parts += [
        tube((x - 0.05, 0, 0.95 + r), (x + 0.05, 0, 0.95 + r), r + 0.03, paint.tinted(STEEL), sides=16)
        for x in np.linspace(deck[0] + 0.3, deck[1] - 0.3, 4)
    ]
    parts.append(box(deck, (-w * 0.8, w * 0.8), (0.85, 1.1), paint.tinted(RUBBER)))
    return parts


# a cab and a high closed box
box_truck = varied(_truck, load=_cargo_box, slope=Uniform(0.15, 0.4))
# a cab and an open deck with crates
flatbed_truck = varied(_truck, load=_flat_load, slope=Uniform(0.15, 0.4))
# a cab and a dump body full of earth
tipper_truck = varied(_truck, load=_tipper_bed, slope=Uniform(0.4, 0.65))
# a cab and a round tank
tank_truck = varied(_truck, load=_tank, slope=Uniform(0.3, 0.6))


def curtain_truck(rng: Rng, paint: Paint) -> Mesh:
    """A cab and a box with straps down its sides."""

    def load(rng: Rng, deck: tuple[float, float], w: float) -> list[Mesh]:
        body, strap = coat(rng)[0], coat(rng)[0]
        top = rng.uniform(2.8, 3.4)
        parts = [frustum(deck, (-w, w), 0.95, deck, (-w, w), top, body)]
        parts += [
            box((x - 0.05, x + 0.05), (-w - 0.03, w + 0.03), (0.95, top + 0.02), strap)
            for x in np.arange(deck[0] + 0.4, deck[1], 0.7)
        ]
        return parts

    return _truck(rng, paint, load, rng.uniform(0.3, 0.55))


def _trailer(
    rng: Rng, paint: Paint, load: Callable[[Rng, tuple[float, float], float], list[Mesh]], length: float, axles: int
) -> Mesh:
    """A load on axles at the rear, legs and a drawbar at the front, no cab."""
    h, w = length / 2, rng.uniform(1.05, 1.2)
    deck, bar = (-h, h - 1.5), paint.tinted(STEEL)
    parts = load(rng, deck, w)
    parts.append(box((deck[0] + 0.05, deck[1]), (-0.45, 0.45), (0.65, 0.95), paint))
    for side in (-1, 1):
        parts.append(tube((deck[1] - 0.1, side * 0.5, 0.75), (h, 0, 0.62), 0.07, bar))
        parts.append(tube((deck[1] - 0.5, side * 0.6, 0.9), (deck[1] - 0.5, side * 0.6, 0.05), 0.07, bar))
        parts.append(box((deck[1] - 0.65, deck[1] - 0.35), (side * 0.6 - 0.15, side * 0.6 + 0.15), (0.0, 0.06), bar))
    parts.append(tube((h - 0.15, 0, 0.0), (h - 0.15, 0, 0.75), 0.05, bar))
    parts += _wheels([deck[0] + 0.75 + 1.05 * i for i in range(axles)], w + 0.04, 0.45, 0.3, paint)
    parts += _lamps(deck[1], -h - 0.02, w * 0.9, 0.85, 0.2, paint)
    return join(parts)


def _ribbed_box(rng: Rng, deck: tuple[float, float], w: float) -> list[Mesh]:
    paint, top = coat(rng)[0], rng.uniform(2.5, 3.5)
    ribs = [
        box((x - 0.04, x + 0.04), (-w - 0.07, w + 0.07), (1.0, top), paint.darker(0.75))
        for x in np.arange(deck[0] + 0.5, deck[1], 0.6)
    ]
    return [box(deck, (-w - 0.03, w + 0.03), (0.95, top), paint), *ribs]


def _slatted(rng: Rng, deck: tuple[float, float], w: float) -> list[Mesh]:
    paint, top = coat(rng)[0], rng.uniform(2.2, 3.0)
    inner = paint.darker(0.4)
    slats = [box(deck, (-w - 0.05, w + 0.05), (z, z + 0.22), paint) for z in np.arange(0.95, top, 0.36)]
    return [box((deck[0] + 0.1, deck[1] - 0.1), (-w + 0.1, w - 0.1), (0.95, top), inner), *slats]


def box_trailer(rng: Rng, paint: Paint) -> Mesh:
    """A long closed trailer with ribs."""
    length = rng.uniform(7.5, 11.0)
    return _trailer(rng, paint, _ribbed_box, length, 3 if length > 9 else 2)


# an open trailer with crates
flat_trailer = varied(_trailer, load=_flat_load, length=Uniform(6.0, 9.0), axles=2)
# a livestock trailer with horizontal slats
slatted_trailer = varied(_trailer, load=_slatted, length=Uniform(5.5, 9.5), axles=2)
# a round tank on axles
tank_trailer = varied(_trailer, load=_tank, length=Uniform(6.5, 9.5), axles=3)
# an open-topped trailer with flared walls and a pile of earth
bin_trailer = varied(_trailer, load=_tipper_bed, length=Uniform(5.5, 8.5), axles=2)


def _tracks(length: float, half_width: float, width: float, height: float, paint: Paint) -> list[Mesh]:
    """Two crawler tracks with rollers."""
    parts = []
    r, h = height / 2, length / 2
    angle = np.linspace(-np.pi / 2, np.pi / 2, 6)
    front = [(h - r + r * np.cos(a), r + r * np.sin(a)) for a in angle]
    outline = front + [(-x, 2 * r - z) for x, z in front]
    for side in (-1, 1):
        y0, y1 = side * half_width - width / 2, side * half_width + width / 2
        parts.append(loft([[(x, y, z) for x, z in outline] for y in (y0, y1)], paint.tinted(RUBBER, 0.8)))
        parts += [
            tube((x, y0 - 0.03, r), (x, y1 + 0.03, r), r * 0.55, paint.tinted(STEEL), sides=8)
            for x in np.linspace(-h + r, h - r, 4)
        ]
    return parts


def _glass_cab(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], paint: Paint) -> list[Mesh]:
    glass = paint.tinted(GLASS, 0.5)
    posts = [tube((px, py, z[0]), (px, py, z[1]), 0.06, paint, sides=4) for px in x for py in y]
    roof = box((x[0] - 0.1, x[1] + 0.1), (y[0] - 0.08, y[1] + 0.08), (z[1] - 0.02, z[1] + 0.12), paint)
    return [
        box(x, y, (z[0], z[0] + 0.45), paint),
        box((x[0] + 0.03, x[1] - 0.03), (y[0] + 0.03, y[1] - 0.03), z, glass),
        roof,
        *posts,
    ]


def _excavator(rng: Rng, paint: Paint, scale: float, raise_to: tuple[float, float]) -> Mesh:
    s = scale
    lift, reach = rng.uniform(*raise_to) * s, rng.uniform(2.3, 3.0) * s
    parts = _tracks(3.4 * s, 1.0 * s, 0.5 * s, 0.85 * s, paint)
    parts.append(tube((0, 0, 0.7 * s), (0, 0, 1.05 * s), 0.7 * s, paint.tinted(STEEL), sides=10))
    parts.append(
        frustum(
            (-1.9 * s, 1.0 * s),
            (-1.15 * s, 1.15 * s),
            1.0 * s,
            (-1.75 * s, 0.9 * s),
            (-1.05 * s, 1.05 * s),
            1.75 * s,
            paint,
        )
    )
    parts += _glass_cab((-0.3 * s, 1.0 * s), (0.15 * s, 1.1 * s), (1.6 * s, 2.9 * s), paint)
    elbow, wrist = (reach, -0.3 * s, lift + 1.6 * s), (reach + 1.3 * s, -0.3 * s, 1.0 * s)
    parts += [
        tube((0.7 * s, -0.3 * s, 1.6 * s), elbow, 0.26 * s, paint, end_radius=0.2 * s, sides=4),
        tube(elbow, wrist, 0.2 * s, paint, end_radius=0.13 * s, sides=4),
        tube(
            (0.8 * s, -0.3 * s, 1.2 * s), (reach * 0.6, -0.3 * s, lift * 0.7 + 1.2 * s), 0.07 * s, paint.tinted(STEEL)
        ),
        frustum(
            (wrist[0] - 0.5 * s, wrist[0] + 0.2 * s),
            (-0.85 * s, 0.25 * s),
            0.25 * s,
            (wrist[0] - 0.3 * s, wrist[0] + 0.35 * s),
            (-0.8 * s, 0.2 * s),
            1.1 * s,
            paint.darker(0.6),
        ),
    ]
    return join(parts)


# tracks, a turned house, boom, stick and bucket
excavator = varied(_excavator, scale=Uniform(0.95, 1.2), raise_to=(1.2, 2.2))
# a smaller one with its boom held higher or lower
mini_excavator = varied(_excavator, scale=Uniform(0.65, 0.85), raise_to=(0.6, 2.8))


def wheel_loader(rng: Rng, paint: Paint) -> Mesh:
    """Four big wheels, a glass cab, a raised or lowered shovel."""
    s, lift = rng.uniform(0.9, 1.15), rng.uniform(0.0, 1.6)
    parts = [
        box((-2.4 * s, -0.3 * s), (-0.8 * s, 0.8 * s), (0.8 * s, 1.75 * s), paint),
        box((-0.3 * s, 1.6 * s), (-0.45 * s, 0.45 * s), (0.7 * s, 1.35 * s), paint),
        frustum(
            (2.5 * s, 3.3 * s),
            (-1.3 * s, 1.3 * s),
            0.2 + lift,
            (2.4 * s, 2.75 * s),
            (-1.3 * s, 1.3 * s),
            1.25 + lift,
            paint.darker(0.6),
        ),
    ]
    parts += _glass_cab((-0.9 * s, 0.5 * s), (-0.65 * s, 0.65 * s), (1.6 * s, 3.0 * s), paint)
    parts += [
        tube((0.6 * s, y * s, 1.6 * s), (2.55 * s, y * s, 0.6 + lift), 0.15 * s, paint, sides=4) for y in (-0.6, 0.6)
    ]
    parts += _wheels([-1.5 * s, 1.3 * s], 1.2 * s, 0.72 * s, 0.5 * s, paint)
    return join(parts)


def bulldozer(rng: Rng, paint: Paint) -> Mesh:
    """Tracks, an engine hood, a cab and a wide blade."""
    s = rng.uniform(0.85, 1.15)
    parts = _tracks(3.2 * s, 0.95 * s, 0.55 * s, 1.0 * s, paint)
    parts.append(box((0.1 * s, 1.7 * s), (-0.55 * s, 0.55 * s), (0.8 * s, 1.75 * s), paint))
    parts.append(box((-1.5 * s, 0.1 * s), (-0.7 * s, 0.7 * s), (0.8 * s, 1.5 * s), paint))
    parts += _glass_cab((-1.2 * s, 0.1 * s), (-0.65 * s, 0.65 * s), (1.4 * s, 2.8 * s), paint)
    parts.append(tube((1.2 * s, 0.3 * s, 1.7 * s), (1.2 * s, 0.3 * s, 2.6 * s), 0.07 * s, paint.tinted(STEEL)))
    profile = [(2.25, 0.05), (2.1, 0.65), (2.3, 1.3), (2.45, 1.3), (2.25, 0.65), (2.42, 0.05)]
    parts.append(loft([[(x * s, y * s, z * s) for x, z in profile] for y in (-1.55, 1.55)], paint.darker(0.7)))
    parts += [tube((0.4 * s, y * s, 0.55 * s), (2.2 * s, y * s, 0.5 * s), 0.1 * s, paint) for y in (-1.3, 1.3)]
    return join(parts)


def backhoe(rng: Rng, paint: Paint) -> Mesh:
    """A tractor with a shovel in front and a digging arm behind."""
    s = rng.uniform(0.9, 1.1)
    parts = [box((-1.2 * s, 1.7 * s), (-0.45 * s, 0.45 * s), (0.7 * s, 1.5 * s), paint)]
    parts += _glass_cab((-1.1 * s, 0.3 * s), (-0.7 * s, 0.7 * s), (1.3 * s, 2.8 * s), paint)
    parts.append(
        frustum(
            (2.3 * s, 3.0 * s),
            (-1.1 * s, 1.1 * s),
            0.15,
            (2.2 * s, 2.5 * s),
            (-1.1 * s, 1.1 * s),
            1.0 * s,
            paint.darker(0.6),
        )
    )
    parts += [
        tube((0.8 * s, y * s, 1.3 * s), (2.35 * s, y * s, 0.5 * s), 0.12 * s, paint, sides=4) for y in (-0.55, 0.55)
    ]
    arm = [
        (-1.2 * s, 0, 0.9 * s),
        (-1.9 * s, 0, rng.uniform(2.4, 3.2) * s),
        (-3.0 * s, 0, 1.6 * s),
        (-2.9 * s, 0, 0.7 * s),
    ]
    parts.append(path(arm, 0.15 * s, paint, sides=4))
    parts.append(
        frustum(
            (-3.1 * s, -2.6 * s),
            (-0.35 * s, 0.35 * s),
            0.15 * s,
            (-3.15 * s, -2.75 * s),
            (-0.3 * s, 0.3 * s),
            0.8 * s,
            paint.darker(0.6),
        )
    )
    parts += _wheels([-0.7 * s], 1.05 * s, 0.72 * s, 0.45 * s, paint) + _wheels(
        [1.35 * s], 0.95 * s, 0.45 * s, 0.35 * s, paint
    )
    return join(parts)
