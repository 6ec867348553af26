"""Triangle meshes with paint per face, and the few primitives every asset is made of.

Coordinates: metres, z up; assets look along +x and stand on z = 0 around the origin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray

from driveworld.paint import Paint

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle soup with shared vertices.

    Attributes:
        vertices: (V, 3) float32, metres.
        faces: (F, 3) int32 rows of `vertices`.
        color: (F, 3) float32 sRGB in 0..1.
        reflectance: (F,) float32 in 0..1, what the LiDAR sees.
        texture: (F,) uint8, see `driveworld.paint.Texture`.
    """

    vertices: Array
    faces: NDArray[np.int32]
    color: Array
    reflectance: Array
    texture: NDArray[np.uint8]

    @property
    def bounds(self) -> Array:
        """Lowest and highest corner, (2, 3) float32, metres."""
        return np.stack([self.vertices.min(0), self.vertices.max(0)])

    @property
    def corners(self) -> Array:
        """Corners of every face, (F, 3, 3) float32, metres."""
        return self.vertices[self.faces]


def painted(vertices: ArrayLike, faces: ArrayLike, paint: Paint) -> Mesh:
    """One mesh in one paint from (V, 3) vertices and (F, 3) faces."""
    f = np.asarray(faces, np.int32)
    return Mesh(
        np.asarray(vertices, np.float32),
        f,
        np.tile(np.asarray(paint.color, np.float32), (len(f), 1)),
        np.full(len(f), paint.reflectance, np.float32),
        np.full(len(f), paint.texture, np.uint8),
    )


def join(parts: Sequence[Mesh]) -> Mesh:
    """All parts as one mesh, faces in the order given."""
    offsets = np.cumsum([0] + [len(p.vertices) for p in parts[:-1]])
    return Mesh(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.faces + np.int32(o) for p, o in zip(parts, offsets, strict=True)]),
        np.concatenate([p.color for p in parts]),
        np.concatenate([p.reflectance for p in parts]),
        np.concatenate([p.texture for p in parts]),
    )


def moved(
    mesh: Mesh, *, xyz: ArrayLike = (0, 0, 0), yaw: float = 0.0, roll: float = 0.0, scale: ArrayLike = 1.0
) -> Mesh:
    """Scaled, then rolled about x, then turned about z, then shifted. Angles in radians, counter-clockwise."""
    v = mesh.vertices * np.asarray(scale, np.float32)
    c, s = np.cos(roll), np.sin(roll)
    v = v @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32).T
    c, s = np.cos(yaw), np.sin(yaw)
    v = v @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32).T + np.asarray(xyz, np.float32)
    return Mesh(v.astype(np.float32), mesh.faces, mesh.color, mesh.reflectance, mesh.texture)


def loft(rings: ArrayLike, paint: Paint, *, caps: bool = True, closed: bool = False) -> Mesh:
    """The skin over (R, K, 3) rings of K corners each, joined in order.

    Args:
        caps: close the first and the last ring with a fan.
        closed: join the last ring to the first (a tyre), without caps.
    """
    r = np.asarray(rings, np.float32)
    n, k = r.shape[:2]
    vertices = r.reshape(-1, 3)
    fans = caps and not closed
    if fans:
        vertices = np.concatenate([vertices, r[[0, -1]].mean(1)])
    return painted(vertices, _loft_faces(n, k, closed, fans), paint)


@cache
def _loft_faces(n: int, k: int, closed: bool, fans: bool) -> NDArray[np.int32]:
    """Faces of `loft`; the centres of the two fans are vertices n * k and n * k + 1."""
    i = np.arange(n if closed else n - 1)[:, None] * k
    a, b = np.arange(k), (np.arange(k) + 1) % k
    quads = np.stack([i + a, i + b, (i + k + b) % (n * k), (i + k + a) % (n * k)], -1).reshape(-1, 4)
    faces = [quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]
    if fans:
        faces.append(np.stack([b, a, np.full(k, n * k)], -1))
        faces.append(np.stack([(n - 1) * k + a, (n - 1) * k + b, np.full(k, n * k + 1)], -1))
    return np.concatenate(faces).astype(np.int32)


def rectangle(x: tuple[float, float], y: tuple[float, float], z: float) -> list[tuple[float, float, float]]:
    """A level ring of four corners."""
    return [(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)]


def span(a: float, b: float) -> tuple[float, float]:
    """The range between two numbers, whichever is the lower one."""
    return min(a, b), max(a, b)


def box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], paint: Paint) -> Mesh:
    """An axis-aligned box from ranges in metres."""
    return loft([rectangle(x, y, z[0]), rectangle(x, y, z[1])], paint)


def block(size: ArrayLike, center: ArrayLike, paint: Paint) -> Mesh:
    """An axis-aligned box from its (3,) size and (3,) centre in metres."""
    s, c = np.asarray(size, float) / 2, np.asarray(center, float)
    return box((c[0] - s[0], c[0] + s[0]), (c[1] - s[1], c[1] + s[1]), (c[2] - s[2], c[2] + s[2]), paint)


def frustum(
    x0: tuple[float, float],
    y0: tuple[float, float],
    z0: float,
    x1: tuple[float, float],
    y1: tuple[float, float],
    z1: float,
    paint: Paint,
) -> Mesh:
    """A box whose lid (x1, y1 at z1) may be smaller than, or shifted against, its floor (x0, y0 at z0)."""
    return loft([rectangle(x0, y0, z0), rectangle(x1, y1, z1)], paint)


def _cross(a: Sequence[float] | NDArray[np.float64], b: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Of two single vectors; numpy's own is made for many and takes ten times as long."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


@cache
def _circle(sides: int) -> NDArray[np.float64]:
    angle = np.arange(sides) * 2 * np.pi / sides
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def tube(
    start: ArrayLike, end: ArrayLike, radius: float, paint: Paint, *, end_radius: float | None = None, sides: int = 6
) -> Mesh:
    """A round bar (or cone) between two (3,) points, radii in metres."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    axis = (b - a) / math.dist(a, b)
    side = _cross(axis, (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0))
    side /= math.hypot(*side)
    circle = _circle(sides)
    ring = circle[:, :1] * side + circle[:, 1:] * _cross(axis, side)
    return loft([a + radius * ring, b + (radius if end_radius is None else end_radius) * ring], paint)


def path(points: ArrayLike, radius: float, paint: Paint, *, sides: int = 6) -> Mesh:
    """Round bars through (P, 3) points."""
    p = np.asarray(points, float)
    return join([tube(a, b, radius, paint, sides=sides) for a, b in pairwise(p)])


def wheel(center: ArrayLike, radius: float, width: float, tyre: Paint, hub: Paint, *, sides: int = 14) -> Mesh:
    """A solid wheel about the y axis: tyre, and on both sides a hub that stands out 1 cm."""
    c = np.asarray(center, float)
    half, hub_half = np.array([0, width / 2, 0]), np.array([0, width / 2 + 0.01, 0])
    return join(
        [
            tube(c - half, c + half, radius, tyre, sides=sides),
            tube(c - hub_half, c + hub_half, radius * 0.58, hub, sides=8),
        ]
    )


def hoop(center: ArrayLike, radius: float, thickness: float, paint: Paint, *, sides: int = 16) -> Mesh:
    """A thin open wheel (tyre of a bicycle) about the y axis; `thickness` is that of its rim."""
    angle = np.arange(sides) * 2 * np.pi / sides
    out = np.stack([np.cos(angle), np.zeros(sides), np.sin(angle)], -1)[:, None]
    t = thickness / 2
    profile = np.array([(t, -t), (t, t), (-t, t), (-t, -t)])
    rings = (radius + profile[:, :1]) * out + profile[:, 1:] * np.array([0.0, 1.0, 0.0]) + np.asarray(center, float)
    return loft(rings, paint, closed=True)


@cache
def _sphere(subdivisions: int) -> tuple[Array, NDArray[np.int32]]:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    return np.asarray(sphere.vertices, np.float32), np.asarray(sphere.faces, np.int32)


def ball(center: ArrayLike, radii: ArrayLike, paint: Paint, *, subdivisions: Literal[1, 2, 3] = 1) -> Mesh:
    """An ellipsoid with (3,) or scalar radii."""
    v, f = _sphere(subdivisions)
    return painted(v * np.asarray(radii, np.float32) + np.asarray(center, np.float32), f, paint)


def lump(
    rng: np.random.Generator,
    center: ArrayLike,
    radii: ArrayLike,
    paint: Paint,
    *,
    rough: float = 0.15,
    shades: float = 0.25,
    subdivisions: Literal[1, 2, 3] = 2,
) -> Mesh:
    """An irregular ellipsoid: radius jittered by `rough`, colour per face by `shades` (both relative)."""
    v, f = _sphere(subdivisions)
    waves = rng.normal(size=(6, 3)).astype(np.float32) * 3
    low = np.sin(v @ waves.T + rng.uniform(0, 6.28, 6).astype(np.float32)).mean(1, keepdims=True)
    jitter = rng.normal(size=(len(v), 1)).astype(np.float32)
    shape = v * (1 + rough * (1.2 * low + 0.5 * jitter))
    mesh = painted(shape * np.asarray(radii, np.float32) + np.asarray(center, np.float32), f, paint)
    tone = 1 + shades * rng.uniform(-1, 1, (len(f), 1)).astype(np.float32)
    return Mesh(mesh.vertices, mesh.faces, np.clip(mesh.color * tone, 0, 1), mesh.reflectance, mesh.texture)
