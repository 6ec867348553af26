"""Colours, reflectances and textures. One palette for every thing: colour must not tell the class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

Color = tuple[float, float, float]


class Texture(IntEnum):
    """Procedural patterns the renderer draws over a face's colour, in world coordinates."""

    PLAIN = 0
    ASPHALT = 1
    SLABS = 2
    GRASS = 3
    COBBLES = 4
    BRICK = 5
    WINDOWS = 6
    BANDS = 7
    FOLIAGE = 8
    HATCH = 9
    PAVERS = 10
    TUFTS = 11
    BIG_SLABS = 12
    SETTS = 13
    CROSS_HATCH = 14
    ROUGH_ASPHALT = 15


@dataclass(frozen=True)
class Paint:
    """Colour in sRGB 0..1, LiDAR reflectance in 0..1, texture."""

    color: Color
    reflectance: float
    texture: int = Texture.PLAIN

    def tinted(self, color: Color, gain: float = 1.0) -> Paint:
        """Another plain colour; reflectance times `gain`."""
        return Paint(color, float(np.clip(self.reflectance * gain, 0.02, 1.0)))

    def darker(self, factor: float) -> Paint:
        """The same paint with its colour times `factor`."""
        r, g, b = (min(1.0, c * factor) for c in self.color)
        return replace(self, color=(r, g, b))


PALETTE: dict[str, Color] = {
    "white": (0.86, 0.86, 0.84),
    "black": (0.09, 0.09, 0.10),
    "grey": (0.45, 0.46, 0.48),
    "silver": (0.68, 0.70, 0.72),
    "red": (0.70, 0.10, 0.10),
    "blue": (0.12, 0.26, 0.62),
    "green": (0.14, 0.42, 0.20),
    "yellow": (0.85, 0.70, 0.12),
    "orange": (0.88, 0.42, 0.10),
    "brown": (0.38, 0.25, 0.16),
    "beige": (0.72, 0.64, 0.50),
    "purple": (0.42, 0.20, 0.50),
}
FOLIAGE: dict[str, Color] = {
    "green": (0.22, 0.40, 0.14),
    "dark green": (0.10, 0.24, 0.10),
    "olive": (0.40, 0.40, 0.18),
    "yellow": (0.66, 0.55, 0.16),
    "orange": (0.62, 0.34, 0.10),
    "red": (0.48, 0.14, 0.12),
    "brown": (0.36, 0.26, 0.16),
}
MINERAL: dict[str, Color] = {
    "white": (0.80, 0.79, 0.76),
    "grey": (0.46, 0.46, 0.46),
    "dark grey": (0.26, 0.26, 0.27),
    "beige": (0.66, 0.58, 0.45),
    "brown": (0.42, 0.31, 0.22),
    "red": (0.52, 0.26, 0.20),
    "yellow": (0.70, 0.60, 0.34),
    "blue": (0.36, 0.44, 0.54),
    "green": (0.38, 0.46, 0.36),
}
GROUND: dict[str, Color] = {
    "green": (0.27, 0.40, 0.15),
    "olive": (0.38, 0.38, 0.19),
    "dry yellow": (0.58, 0.50, 0.28),
    "brown": (0.38, 0.28, 0.19),
    "grey": (0.44, 0.42, 0.38),
    "red": (0.48, 0.29, 0.20),
}

GLASS: Color = (0.13, 0.17, 0.22)
RUBBER: Color = (0.06, 0.06, 0.065)
STEEL: Color = (0.40, 0.41, 0.43)
LAMP: Color = (0.92, 0.90, 0.78)
TAIL_LAMP: Color = (0.65, 0.05, 0.05)
SKINS: tuple[Color, ...] = ((0.85, 0.66, 0.54), (0.72, 0.52, 0.38), (0.48, 0.32, 0.22), (0.28, 0.18, 0.13))


def jitter(rng: np.random.Generator, color: Color, amount: float = 0.07) -> Color:
    """The colour with brightness and hue shifted a little."""
    c = np.asarray(color) * rng.uniform(1 - 2 * amount, 1 + 2 * amount) + rng.uniform(-amount, amount, 3)
    r, g, b = np.clip(c, 0.03, 0.95).tolist()
    return (r, g, b)


def coat(
    rng: np.random.Generator, palette: dict[str, Color] = PALETTE, texture: int = Texture.PLAIN
) -> tuple[Paint, str]:
    """A random paint and the name of its colour. Reflectance is uniform for every class."""
    name = str(rng.choice(list(palette)))
    return Paint(jitter(rng, palette[name]), float(rng.uniform(0.08, 0.95)), texture), name
