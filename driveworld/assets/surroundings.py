"""Vegetation and manmade structures. Each variant: (rng, paint) -> Mesh, long side along x, on z = 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from driveworld.assets.variants import Rng, varied
from driveworld.mesh import Mesh, ball, box, frustum, join, loft, lump, moved, rectangle, span, tube
from driveworld.paint import FOLIAGE, GLASS, LAMP, MINERAL, PALETTE, STEEL, Color, Paint, Texture, coat, jitter

BARK: Color = (0.30, 0.22, 0.15)


def _trunk(rng: Rng, height: float, radius: float, paint: Paint) -> list[Mesh]:
    bark = paint.tinted(jitter(rng, BARK))
    lean = rng.uniform(-0.15, 0.15, 2)
    top = (lean[0], lean[1], height)
    limbs = [
        tube(
            (lean[0] * 0.7, lean[1] * 0.7, height * 0.7),
            (np.cos(a) * 0.9, np.sin(a) * 0.9, height * 1.25),
            radius * 0.45,
            bark,
            sides=5,
        )
        for a in rng.uniform(0, 2 * np.pi, 3)
    ]
    return [tube((0, 0, 0), top, radius, bark, end_radius=radius * 0.65, sides=8), *limbs]


def broad_tree(rng: Rng, paint: Paint) -> Mesh:
    """A trunk and a crown of several lumps."""
    leaves = replace(paint, texture=Texture.FOLIAGE)
    height, spread = rng.uniform(2.0, 3.2), rng.uniform(1.1, 1.9)
    parts = _trunk(rng, height, rng.uniform(0.11, 0.24), paint)
    parts.append(
        lump(rng, (0, 0, height + spread * 0.7), (spread, spread, spread * 0.9), leaves, rough=0.22, subdivisions=3)
    )
    for a in np.linspace(0, 2 * np.pi, int(rng.integers(4, 7)), endpoint=False):
        r = spread * rng.uniform(0.5, 0.75)
        center = (spread * 0.8 * np.cos(a), spread * 0.8 * np.sin(a), height + spread * rng.uniform(0.2, 1.1))
        parts.append(lump(rng, center, (r, r, r * 0.85), leaves.darker(rng.uniform(0.8, 1.2)), rough=0.25))
    return join(parts)


def young_tree(rng: Rng, paint: Paint) -> Mesh:
    """A thin stem with a small egg-shaped crown."""
    leaves = replace(paint, texture=Texture.FOLIAGE)
    height = rng.uniform(1.6, 2.3)
    parts = _trunk(rng, height, rng.uniform(0.06, 0.1), paint)
    parts.append(lump(rng, (0, 0, height + 1.0), (0.85, 0.85, 1.3), leaves, rough=0.25, subdivisions=3))
    return join(parts)


def conifer(rng: Rng, paint: Paint) -> Mesh:
    """Ragged cones, one above the other."""
    leaves = replace(paint, texture=Texture.FOLIAGE)
    parts = [tube((0, 0, 0), (0, 0, 1.2), 0.15, paint.tinted(jitter(rng, BARK)), sides=8)]
    levels, radius, z = int(rng.integers(4, 7)), rng.uniform(1.2, 1.9), rng.uniform(0.6, 1.2)
    for i in range(levels):
        r = radius * (1 - i / (levels + 0.5))
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        wobble = rng.uniform(0.75, 1.15, 14)
        low = np.stack([r * wobble * np.cos(angle), r * wobble * np.sin(angle), z + rng.uniform(-0.12, 0.12, 14)], -1)
        high = np.stack([0.12 * r * np.cos(angle), 0.12 * r * np.sin(angle), np.full(14, z + 1.3)], -1)
        parts.append(loft([low, high], leaves.darker(rng.uniform(0.8, 1.2))))
        z += 0.8
    return join(parts)


def poplar(rng: Rng, paint: Paint) -> Mesh:
    """A tall narrow column of leaves."""
    leaves = replace(paint, texture=Texture.FOLIAGE)
    height = rng.uniform(4.5, 7.0)
    parts = _trunk(rng, 1.2, rng.uniform(0.1, 0.18), paint)
    for z in np.linspace(1.4, height, 5):
        r = 0.9 * (1 - 0.6 * abs(z - height * 0.45) / height) * rng.uniform(0.85, 1.1)
        parts.append(lump(rng, (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), z), (r, r, 1.0), leaves, rough=0.3))
    return join(parts)


def bush(rng: Rng, paint: Paint) -> Mesh:
    """A few low lumps."""
    leaves = replace(paint, texture=Texture.FOLIAGE)
    count = int(rng.integers(2, 5))
    return join(
        [
            lump(
                rng,
                (0.5 * i - 0.25 * count, rng.uniform(-0.25, 0.25), 0.4),
                (rng.uniform(0.5, 0.8), rng.uniform(0.45, 0.7), rng.uniform(0.5, 0.9)),
                leaves.darker(rng.uniform(0.8, 1.2)),
                rough=0.25,
            )
            for i in range(count)
        ]
    )


def fern_bush(rng: Rng, paint: Paint) -> Mesh:
    """Long leaves bending out of one root."""
    leaf = replace(paint, texture=Texture.FOLIAGE)
    parts = [lump(rng, (0, 0, 0.3), (0.35, 0.35, 0.4), leaf.darker(0.7), rough=0.3)]
    for a in rng.uniform(0, 2 * np.pi, 16):
        reach, top = rng.uniform(0.5, 1.0), rng.uniform(0.6, 1.2)
        out = np.array([np.cos(a), np.sin(a), 0.0])
        tip = out * reach + np.array([0, 0, top * 0.6])
        parts.append(tube(out * 0.1, out * reach * 0.5 + np.array([0, 0, top]), 0.03, leaf, end_radius=0.1, sides=4))
        parts.append(
            tube(
                out * reach * 0.5 + np.array([0, 0, top]),
                tip,
                0.1,
                leaf.darker(rng.uniform(0.8, 1.2)),
                end_radius=0.02,
                sides=4,
            )
        )
    return join(parts)


def hedge(rng: Rng, paint: Paint, *, rough: float = 0.09) -> Mesh:
    """A clipped wall of leaves with an uneven skin."""
    length, w, h = rng.uniform(4.0, 8.0), rng.uniform(0.35, 0.6), rng.uniform(0.9, 1.9)
    xs = np.arange(-length / 2, length / 2, 0.3)
    around = [
        (-w, 0.0),
        (-w, 0.33 * h),
        (-w, 0.66 * h),
        (-w * 0.95, h),
        (0.0, h * 1.04),
        (w * 0.95, h),
        (w, 0.66 * h),
        (w, 0.33 * h),
        (w, 0.0),
    ]
    rings = np.array([[(x, y, z) for y, z in around] for x in xs])
    rings += rng.normal(0, rough, rings.shape) * (rings[..., 2:] > 0.05)
    skin = loft(rings, replace(paint, texture=Texture.FOLIAGE))
    tone = rng.uniform(0.75, 1.25, (len(skin.faces), 1)).astype(np.float32)
    return replace(skin, color=np.clip(skin.color * tone, 0, 1))


# the same, grown out
ragged_hedge = varied(hedge, rough=0.17)


def _panes(x: tuple[float, float], half_depth: float, height: float, frame: Paint) -> list[Mesh]:
    """Framed windows on both long sides, one row per storey, 4 and 6 cm proud of the wall."""
    parts, glass = [], frame.tinted(GLASS)
    for z in np.arange(0.9, height - 1.4, 3.0):
        for at in np.arange(x[0] + 1.2, x[1] - 1.5, 2.6):
            wide, deep = (at, at + 1.2), half_depth + 0.04
            parts.append(box(wide, (-deep, deep), (z, z + 1.4), frame))
            parts += [
                box((a, a + 0.48), (-deep - 0.02, deep + 0.02), (z + 0.1, z + 1.3), glass)
                for a in (at + 0.08, at + 0.64)
            ]
    return parts


def _building(rng: Rng, paint: Paint, texture: Texture, *, gable: bool, floors: tuple[int, int], bays: bool) -> Mesh:
    length, depth = rng.uniform(8.0, 18.0), rng.uniform(6.0, 9.0)
    height = 3.0 * int(rng.integers(*floors)) + rng.uniform(0.3, 1.0)
    wall = replace(paint, texture=texture)
    x, y = (-length / 2, length / 2), (-depth / 2, depth / 2)
    roof = coat(rng, MINERAL)[0]
    parts = [
        box(x, y, (0, height), wall),
        box((x[0] - 0.06, x[1] + 0.06), (y[0] - 0.06, y[1] + 0.06), (0, 0.5), coat(rng, MINERAL)[0]),
    ]
    if gable:
        parts.append(
            loft(
                [
                    rectangle((x[0] - 0.3, x[1] + 0.3), (y[0] - 0.3, y[1] + 0.3), height),
                    rectangle((x[0] - 0.3, x[1] + 0.3), (-0.05, 0.05), height + depth * 0.35),
                ],
                roof,
            )
        )
    else:
        parts.append(box((x[0] - 0.2, x[1] + 0.2), (y[0] - 0.2, y[1] + 0.2), (height, height + 0.35), roof))
    if texture == Texture.BRICK:
        parts += _panes(x, depth / 2, height, coat(rng)[0])
    for side in (-1, 1):  # doors, awnings, bays on both long sides: either may face the street
        face = side * depth / 2
        door = rng.uniform(x[0] + 1.0, x[1] - 2.0)
        parts.append(box((door, door + 1.1), span(face, face + side * 0.08), (0, 2.2), coat(rng)[0]))
        parts.append(box((door - 0.3, door + 1.4), span(face, face + side * 0.7), (2.35, 2.5), coat(rng)[0]))
        if bays:
            for _ in range(int(rng.integers(1, 4))):
                a, z = rng.uniform(x[0] + 0.5, x[1] - 2.8), 3.0 * int(rng.integers(1, 3))
                parts.append(box((a, a + 2.2), span(face, face + side * 0.9), (z, z + 1.05), coat(rng, MINERAL)[0]))
    return join(parts)


# a brick house with a gable roof
brick_house = varied(_building, texture=Texture.BRICK, gable=True, floors=(1, 3), bays=False)
# a block with a grid of windows and balconies
flats = varied(_building, texture=Texture.WINDOWS, gable=False, floors=(3, 7), bays=True)
# a block with bands of glass
office = varied(_building, texture=Texture.BANDS, gable=False, floors=(2, 6), bays=False)
# a house with windows, balconies and a gable roof
town_house = varied(_building, texture=Texture.WINDOWS, gable=True, floors=(2, 4), bays=True)


def wall(rng: Rng, paint: Paint) -> Mesh:
    """A brick wall with a coping."""
    h, x = rng.uniform(1.0, 2.6), rng.uniform(2.0, 4.0)
    return join(
        [
            box((-x, x), (-0.12, 0.12), (0, h), replace(paint, texture=Texture.BRICK)),
            box((-x - 0.05, x + 0.05), (-0.18, 0.18), (h, h + 0.1), coat(rng, MINERAL)[0]),
        ]
    )


def slab_wall(rng: Rng, paint: Paint) -> Mesh:
    """Plain concrete panels between posts."""
    h, x = rng.uniform(1.2, 2.4), rng.uniform(2.0, 4.0)
    posts = [box((p - 0.12, p + 0.12), (-0.16, 0.16), (0, h + 0.15), paint.darker(0.8)) for p in np.linspace(-x, x, 4)]
    return join([box((-x, x), (-0.08, 0.08), (0, h), paint), *posts])


def fence(rng: Rng, paint: Paint) -> Mesh:
    """Upright pales on two rails."""
    h, x = rng.uniform(1.0, 1.8), rng.uniform(2.0, 3.5)
    pales = [box((p - 0.045, p + 0.045), (-0.02, 0.02), (0.08, h), paint) for p in np.arange(-x, x, 0.16)]
    rails = [box((-x, x), (-0.04, 0.04), (z, z + 0.09), paint.darker(0.8)) for z in (0.3 * h, 0.8 * h)]
    return join([*pales, *rails])


def rail_fence(rng: Rng, paint: Paint) -> Mesh:
    """Four level rails between posts."""
    h, x = rng.uniform(0.9, 1.4), rng.uniform(2.0, 3.5)
    posts = [box((p - 0.06, p + 0.06), (-0.06, 0.06), (0, h + 0.1), paint) for p in np.arange(-x, x + 0.1, 1.2)]
    return join([*posts, *[box((-x, x), (-0.04, 0.04), (z, z + 0.12), paint) for z in np.linspace(0.15, h, 4)]])


def street_lamp(rng: Rng, paint: Paint) -> Mesh:
    """A mast with an arm."""
    h, reach = rng.uniform(5.0, 7.5), rng.uniform(0.8, 1.6)
    return join(
        [
            tube((0, 0, 0), (0, 0, h), 0.1, paint, end_radius=0.06, sides=8),
            tube((0, 0, 0), (0, 0, 0.7), 0.16, paint, sides=8),
            tube((0, 0, h - 0.05), (0, reach, h + 0.2), 0.05, paint),
            box((-0.12, 0.12), (reach - 0.2, reach + 0.45), (h + 0.12, h + 0.24), paint.tinted(LAMP)),
        ]
    )


def globe_lamp(rng: Rng, paint: Paint) -> Mesh:
    """A short mast with a ball on top."""
    h = rng.uniform(3.0, 4.5)
    return join(
        [
            tube((0, 0, 0), (0, 0, h), 0.08, paint, sides=8),
            tube((0, 0, 0), (0, 0, 0.5), 0.18, paint, end_radius=0.1, sides=8),
            ball((0, 0, h + 0.2), 0.28, paint.tinted(LAMP), subdivisions=2),
        ]
    )


def road_sign(rng: Rng, paint: Paint) -> Mesh:
    """A pole with one or two plates, facing along x."""
    h = rng.uniform(2.2, 3.0)
    parts = [tube((0, 0, 0), (0, 0, h), 0.045, paint.tinted(STEEL), sides=6)]
    for i in range(int(rng.integers(1, 3))):
        plate, z = coat(rng)[0], h - 0.3 - 0.62 * i
        if rng.random() < 0.5:
            parts.append(tube((-0.05, 0, z), (-0.02, 0, z), 0.32, plate, sides=12))
            parts.append(tube((-0.06, 0, z), (-0.03, 0, z), 0.22, coat(rng)[0], sides=12))
        else:
            parts.append(box((-0.06, -0.03), (-0.3, 0.3), (z - 0.25, z + 0.25), plate))
            parts.append(box((-0.07, -0.03), (-0.2, 0.2), (z - 0.15, z + 0.15), coat(rng)[0]))
    return join(parts)


def shelter(rng: Rng, paint: Paint) -> Mesh:
    """A glass shelter with a bench, open to -y."""
    x, glass = rng.uniform(1.4, 2.2), paint.tinted(GLASS)
    posts = [tube((px, py, 0), (px, py, 2.4), 0.05, paint, sides=5) for px in (-x, x) for py in (-0.6, 0.6)]
    return join(
        [
            box((-x, x), (0.58, 0.62), (0.2, 2.2), glass),
            box((-x - 0.02, -x + 0.02), (-0.4, 0.6), (0.2, 2.2), glass),
            box((-x - 0.2, x + 0.2), (-0.9, 0.75), (2.4, 2.52), paint),
            box((-x * 0.8, x * 0.8), (0.1, 0.5), (0.42, 0.5), coat(rng)[0]),
            *posts,
        ]
    )


def direction_sign(rng: Rng, paint: Paint) -> Mesh:
    """A wide board on two legs, facing along x."""
    w, h = rng.uniform(0.6, 1.1), rng.uniform(1.8, 2.6)
    legs = [tube((0, y, 0), (0, y, h), 0.05, paint.tinted(STEEL), sides=6) for y in (-0.7 * w, 0.7 * w)]
    board, trim = coat(rng)[0], coat(rng)[0]
    return join(
        [
            *legs,
            box((-0.08, -0.05), (-w, w), (h - 0.9, h), board),
            box((-0.09, -0.05), (-0.8 * w, 0.8 * w), (h - 0.6, h - 0.3), trim),
        ]
    )


def post_row(rng: Rng, paint: Paint) -> Mesh:
    """Three bollards."""
    h, r = rng.uniform(0.8, 1.1), rng.uniform(0.08, 0.14)
    return join([tube((x, 0, 0), (x, 0, h), r, paint, end_radius=0.8 * r, sides=8) for x in (-0.9, 0.0, 0.9)])


def cabinet(rng: Rng, paint: Paint) -> Mesh:
    """A switch cabinet."""
    x, h = rng.uniform(0.3, 0.6), rng.uniform(0.9, 1.5)
    return join(
        [
            box((-x, x), (-0.22, 0.22), (0.1, h), paint),
            box((-x - 0.04, x + 0.04), (-0.26, 0.26), (h, h + 0.06), paint.darker(0.8)),
            box((-0.01, 0.01), (-0.235, 0.235), (0.2, h - 0.1), paint.darker(0.5)),
        ]
    )


def kiosk(rng: Rng, paint: Paint) -> Mesh:
    """A hut with a counter and an awning on both sides."""
    x, awning = rng.uniform(1.0, 1.6), coat(rng)[0]
    parts = [
        box((-x, x), (-0.9, 0.9), (0, 2.4), paint),
        box((-x - 0.1, x + 0.1), (-1.0, 1.0), (2.4, 2.6), coat(rng, MINERAL)[0]),
    ]
    for side in (-1, 1):
        parts.append(box((-x * 0.8, x * 0.8), span(side * 0.9, side * 0.93), (1.1, 1.9), paint.tinted(GLASS)))
        slope = frustum((-x, x), (0, 0.1), 2.0, (-x, x), (0, 0.1), 2.05, awning)
        parts.append(moved(slope, xyz=(0, side * 0.9 - (0.1 if side < 0 else 0), 0)))
        parts.append(box((-x * 0.85, x * 0.85), span(side * 0.9, side * 1.4), (2.05, 2.12), awning))
    return join(parts)


VEGETATION_PALETTE = FOLIAGE
MANMADE_PALETTE = MINERAL | {k: PALETTE[k] for k in ("black", "silver", "green", "orange")}
