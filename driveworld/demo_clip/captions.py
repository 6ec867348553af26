"""Captions: a word for what is seen, often its colour, sometimes the weather, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driveworld.demo_clip.concepts import concepts
from ovps.clip.text import fill, load_templates

Rng = np.random.Generator

TEMPLATES: tuple[str, ...] = (
    *load_templates("vild"),
    *load_templates("imagenet"),
    "{}",
    "a {}",
    "the {}",
    "a picture of a {}",
    "a street with a {} in it",
    "you can see a {} here.",
    "an image that shows a {}",
)
SIZES = ("small", "large", "big", "tiny", "distant", "nearby")  # said at random: a word need not be true to be read
SUNNY = ("on a sunny day", "in bright sunlight", "in fine weather")
DULL = ("on a cloudy day", "under an overcast sky", "in dull weather")


@dataclass(frozen=True)
class Caption:
    """A text, and what a crop must show for it to be true; None: anything."""

    text: str
    concept: int
    color: str | None
    sunny: bool | None


def write_caption(rng: Rng, concept: int, color: str, sunny: bool | None) -> Caption:
    """A random true caption of a crop that shows `concept` in `color` ("" if it has none)."""
    words = concepts()[concept].words
    name = words[int(rng.integers(len(words)))]
    says_color = bool(color) and rng.random() < 0.4
    says_weather = sunny is not None and rng.random() < 0.12
    if says_color:
        name = f"{color} {name}"
    if rng.random() < 0.1:
        name = f"{SIZES[int(rng.integers(len(SIZES)))]} {name}"
    text = fill(TEMPLATES[int(rng.integers(len(TEMPLATES)))], name)
    if says_weather:
        phrases = SUNNY if sunny else DULL
        text = f"{text.rstrip('.')} {phrases[int(rng.integers(len(phrases)))]}"
    return Caption(text, concept, color if says_color else None, sunny if says_weather else None)


def matches(
    captions: Sequence[Caption], concept: NDArray[np.int64], color: Sequence[str], sunny: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which of T captions are true of which of B crops, (B, T) bool.

    Args:
        concept: (B,) ids. color: B names. sunny: (B,) 1, 0, or -1 where there is no weather.
    """
    colors = np.asarray(color)
    same = [
        (concept == c.concept)
        & (True if c.color is None else colors == c.color)
        & (True if c.sunny is None else sunny == int(c.sunny))
        for c in captions
    ]
    return np.stack(same, axis=1)
