"""Variants of one construction: its settings, some of them drawn anew for each object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from driveworld.mesh import Mesh
from driveworld.paint import Paint

Rng = np.random.Generator
Builder = Callable[[Rng, Paint], Mesh]


@dataclass(frozen=True)
class Uniform:
    """A number of a range, each as likely as any other."""

    low: float
    high: float


@dataclass(frozen=True)
class OneOf:
    """A whole number of a range, its ends included."""

    low: int
    high: int


@dataclass(frozen=True)
class Chance:
    """True for this share of the objects."""

    share: float


def varied(build: Callable[..., Mesh], **settings: Any) -> Builder:
    """Make the builder of one variant: `build(rng, paint, **settings)`, its settings drawn in the order given."""

    def one(rng: Rng, paint: Paint) -> Mesh:
        return build(rng, paint, **{name: _drawn(rng, value) for name, value in settings.items()})

    return one


def _drawn(rng: Rng, setting: Any) -> Any:
    if isinstance(setting, Uniform):
        return rng.uniform(setting.low, setting.high)
    if isinstance(setting, OneOf):
        return int(rng.integers(setting.low, setting.high + 1))
    return rng.random() < setting.share if isinstance(setting, Chance) else setting
