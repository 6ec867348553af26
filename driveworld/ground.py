"""Level things: road, markings, kerbs, sidewalks, islands, yards, open terrain. Scene frame, metres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from driveworld.mesh import Mesh, box, join, painted
from driveworld.paint import GROUND, MINERAL, Color, Paint, Texture, coat

Style = Literal["world", "demo_clip"]
Rng = np.random.Generator
Span = tuple[float, float]

KERB = 0.13
"""Height of sidewalks, yards and islands above the road."""

_TEXTURES: Mapping[Style, Mapping[str, tuple[Texture, ...]]] = {
    "world": {
        "driveable_surface": (Texture.ASPHALT,),
        "sidewalk": (Texture.SLABS,),
        "other_flat": (Texture.COBBLES, Texture.HATCH),
        "terrain": (Texture.GRASS,),
    },
    "demo_clip": {
        "driveable_surface": (Texture.ROUGH_ASPHALT,),
        "sidewalk": (Texture.BIG_SLABS, Texture.PAVERS),
        "other_flat": (Texture.SETTS, Texture.CROSS_HATCH),
        "terrain": (Texture.TUFTS,),
    },
}


def ground_paint(rng: Rng, class_name: str, style: Style) -> tuple[Paint, str]:
    """A paint for one piece of a flat class, and the name of its colour."""
    palette: dict[str, Color] = GROUND if class_name == "terrain" else MINERAL
    textures = _TEXTURES[style][class_name]
    return coat(rng, palette, textures[int(rng.integers(len(textures)))])


def level(x: Span, y: Span, z: float, paint: Paint) -> Mesh:
    """A level rectangle."""
    corners = [(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)]
    return painted(corners, [(0, 1, 2), (0, 2, 3)], paint)


def raised(x: Span, y: Span, paint: Paint) -> Mesh:
    """A slab as high as the kerb, with its kerbstones."""
    return box(x, y, (0.0, KERB), paint)


def bumpy(rng: Rng, x: Span, y: Span, height: float, paint: Paint) -> Mesh:
    """Uneven ground: random heights of up to `height` about kerb level on a 1.5 m grid, level along its rim."""
    nx, ny = max(2, int((x[1] - x[0]) / 1.5)), max(2, int((y[1] - y[0]) / 1.5))
    gx, gy = np.meshgrid(np.linspace(*x, nx + 1), np.linspace(*y, ny + 1), indexing="ij")
    z = rng.uniform(-height, height, gx.shape)
    z[[0, -1]] = z[:, [0, -1]] = 0.0
    vertices = np.stack([gx, gy, z + KERB], -1).reshape(-1, 3)
    i = (np.arange(nx)[:, None] * (ny + 1) + np.arange(ny)).ravel()
    a, b, c, d = i, i + ny + 1, i + ny + 2, i + 1
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])
    mesh = painted(vertices, faces, paint)
    tone = rng.uniform(0.88, 1.12, (len(faces) // 2, 1)).astype(np.float32)
    mesh.color[:] = np.clip(mesh.color * np.concatenate([tone, tone]), 0, 1)
    return mesh


def markings(rng: Rng, x: Span, half_width: float, lane: float, paint: Paint) -> Mesh:
    """Painted lines 8 mm above the road: dashes at |y| = lane, edge lines, zebra crossings."""
    white = paint.tinted((0.82, 0.81, 0.76))
    z = 0.008
    parts = []
    for side in (-1, 1):
        for start in np.arange(x[0], x[1], 6.0):
            parts.append(level((start, start + 2.5), (side * lane - 0.07, side * lane + 0.07), z, white))
        parts.append(level(x, (side * (half_width - 0.35) - 0.06, side * (half_width - 0.35) + 0.06), z, white))
    for start in np.arange(x[0] + rng.uniform(5, 20), x[1], rng.uniform(35, 60)):
        parts += [
            level((start, start + 3.0), (y, y + 0.5), z, white)
            for y in np.arange(-half_width + 0.5, half_width - 0.5, 1.0)
        ]
    return join(parts)
