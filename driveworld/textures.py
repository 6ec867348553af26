"""Procedural patterns in world coordinates: functions of (P, 3) points in metres, each giving a factor per pixel.

Patterns fade with distance, because a picture with one ray per pixel would turn them into noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from driveworld.paint import GLASS, Texture

F32 = NDArray[np.float32]
# (points, normals, fade) -> factor. fade is 1 near the camera and 0 far away.
Pattern = Callable[[F32, F32, F32], F32]


def cell_noise(points: F32, size: float) -> F32:
    """Noise (P,), uniform in -1..1, constant within cubes of `size` metres (hash of the cube's index)."""
    cell = np.floor(points / np.float32(size)).astype(np.int32).astype(np.uint32)
    h = cell[:, 0] * np.uint32(374761393) + cell[:, 1] * np.uint32(668265263) + cell[:, 2] * np.uint32(2147483647)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return ((h ^ (h >> np.uint32(16))) & np.uint32(0xFFFF)).astype(np.float32) / np.float32(32767.5) - 1


def _joints(points: F32, pitch_x: float, pitch_y: float, width: float) -> NDArray[np.bool_]:
    return (np.mod(points[:, 0], pitch_x) < width) | (np.mod(points[:, 1], pitch_y) < width)


def _asphalt(grain: float, patch: float) -> Pattern:
    return lambda p, n, fade: 1 + fade * 0.22 * cell_noise(p, grain) + 0.06 * cell_noise(p, patch)


def _slabs(pitch: float) -> Pattern:
    def pattern(p: F32, n: F32, fade: F32) -> F32:
        return 1 + 0.09 * cell_noise(p, pitch) - 0.45 * fade * _joints(p, pitch, pitch, 0.04)

    return pattern


def _pavers(p: F32, n: F32, fade: F32) -> F32:
    shifted = p.copy()
    shifted[:, 0] += 0.15 * (np.floor(p[:, 1] / 0.2) % 2)
    return 1 + 0.12 * cell_noise(p, 0.3) - 0.4 * fade * _joints(shifted, 0.4, 0.2, 0.03)


def _cobbles(size: float) -> Pattern:
    def pattern(p: F32, n: F32, fade: F32) -> F32:
        middle = np.hypot(np.mod(p[:, 0], size) - size / 2, np.mod(p[:, 1], size) - size / 2) / size
        return 1 + 0.25 * cell_noise(p, size) * (0.3 + 0.7 * fade) - 0.6 * fade * (middle > 0.45)

    return pattern


def _hatch(crossed: bool) -> Pattern:
    def pattern(p: F32, n: F32, fade: F32) -> F32:
        stripe = np.mod(p[:, 0] + p[:, 1], 1.2) < 0.45
        if crossed:
            stripe = stripe | (np.mod(p[:, 0] - p[:, 1], 1.5) < 0.35)
        return np.where(stripe, np.float32(1.55), np.float32(0.9)) + fade * 0.08 * cell_noise(p, 0.05)

    return pattern


def _grass(blade: float, patch: float) -> Pattern:
    return lambda p, n, fade: (
        1 + fade * 0.32 * cell_noise(p, blade) + 0.14 * cell_noise(p, patch) + 0.1 * cell_noise(p, 0.35)
    )


def _leaves(p: F32, n: F32, fade: F32) -> F32:
    return 1 + (0.25 + 0.3 * fade) * cell_noise(p, 0.09) + 0.2 * cell_noise(p, 0.3)


def _wall_coordinates(p: F32, n: F32) -> tuple[F32, F32]:
    """Along the wall and up."""
    return np.where(np.abs(n[:, 1]) > np.abs(n[:, 0]), p[:, 0], p[:, 1]), p[:, 2]


def _brick(p: F32, n: F32, fade: F32) -> F32:
    along, up = _wall_coordinates(p, n)
    course = np.floor(up / 0.12)
    joint = (np.mod(up, 0.12) < 0.02) | (np.mod(along + 0.15 * np.mod(course, 2), 0.3) < 0.02)
    return 1 + fade * (0.15 * cell_noise(p, 0.12) + 0.3 * joint) + 0.06 * cell_noise(p, 1.1)


PATTERNS: Mapping[int, Pattern] = {
    Texture.ASPHALT: _asphalt(0.04, 1.3),
    Texture.ROUGH_ASPHALT: _asphalt(0.07, 2.1),
    Texture.SLABS: _slabs(0.6),
    Texture.BIG_SLABS: _slabs(0.95),
    Texture.PAVERS: _pavers,
    Texture.COBBLES: _cobbles(0.22),
    Texture.SETTS: _cobbles(0.33),
    Texture.HATCH: _hatch(False),
    Texture.CROSS_HATCH: _hatch(True),
    Texture.GRASS: _grass(0.05, 0.9),
    Texture.TUFTS: _grass(0.09, 1.7),
    Texture.FOLIAGE: _leaves,
    Texture.BRICK: _brick,
}


def _windows(p: F32, n: F32, bands: bool) -> NDArray[np.bool_]:
    """Which points of a wall are glass: panes on a 3 m storey grid above the ground floor's sill."""
    along, up = _wall_coordinates(p, n)
    upright = np.abs(n[:, 2]) < 0.5
    storey = np.mod(up, 3.0)
    if bands:
        return upright & (storey > 1.0) & (storey < 2.4) & (np.mod(along, 1.5) > 0.08)
    return (
        upright
        & (storey > 0.9)
        & (storey < 2.3)
        & (np.abs(np.mod(along, 2.4) - 1.2) < 0.6)
        & (np.abs(np.mod(along, 2.4) - 1.2) > 0.03)
    )


def texture_tone(albedo: F32, texture: NDArray[np.uint8], points: F32, normals: F32, distance: F32) -> F32:
    """Draw patterns into colours, (P, 3).

    Args:
        albedo: (P, 3) sRGB 0..1. texture: (P,) codes. points: (P, 3) metres. normals: (P, 3). distance: (P,) metres.
    """
    out = albedo.copy()
    glass = np.asarray(GLASS, np.float32)
    for code in np.unique(texture):
        if code == Texture.PLAIN:
            continue
        at = np.flatnonzero(texture == code)
        p, n = points[at], normals[at]
        if code in (Texture.WINDOWS, Texture.BANDS):
            pane = _windows(p, n, bands=code == Texture.BANDS)
            tone = 1 + 0.05 * cell_noise(p, 0.4)
            shine = (0.8 + 0.5 * cell_noise(p, 1.2))[:, None] * glass
            out[at] = np.where(pane[:, None], shine, out[at] * tone[:, None])
        else:
            fade = np.clip(1 - distance[at] / np.float32(28), 0, 1)
            out[at] *= PATTERNS[int(code)](p, n, fade)[:, None].astype(np.float32)
    return np.clip(out, 0, 1)
