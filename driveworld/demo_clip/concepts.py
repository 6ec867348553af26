"""Concepts that can be in a picture, and their words: the 16 classes, and others, lest text space be 16 words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ovps.taxonomy import load_taxonomy

# Concept 0 of a picture is the sky; 1..16 are the class ids of the taxonomy; then objects, then flat shapes.
SKY: tuple[str, ...] = ("sky", "clouds", "blue sky", "air")
OBJECTS: Mapping[str, tuple[str, ...]] = {
    "dog": ("dog", "animal", "puppy"),
    "chair": ("chair", "seat", "stool"),
    "table": ("table", "desk"),
    "ball": ("ball", "football", "beach ball"),
    "umbrella": ("umbrella", "parasol"),
    "bin": ("litter bin", "dustbin", "barrel"),
    "box": ("cardboard box", "crate", "parcel"),
    "arch": ("arch", "gate", "goal"),
}
SHAPES: Mapping[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "dot"),
    "triangle": ("triangle",),
    "square": ("square", "rectangle"),
    "star": ("star",),
    "stripes": ("stripes", "zebra pattern"),
    "checkerboard": ("checkerboard", "chess board"),
    "noise": ("noise", "static"),
    "gradient": ("gradient", "colour wheel"),
}


@dataclass(frozen=True)
class Concept:
    """Something with a name.

    Attributes:
        id: as in pictures. words: synonyms. kind: `sky`, `class`, `object` (rendered, no class) or `shape` (drawn).
    """

    id: int
    name: str
    words: tuple[str, ...]
    kind: str


@cache
def concepts() -> tuple[Concept, ...]:
    """All concepts, `concepts()[i].id == i`."""
    classes = sorted(load_taxonomy("nuscenes").classes, key=lambda c: c.id)
    named = [("sky", SKY, "sky")]
    named += [(c.name, c.synonyms, "class") for c in classes]
    named += [(name, words, "object") for name, words in OBJECTS.items()]
    named += [(name, words, "shape") for name, words in SHAPES.items()]
    return tuple(Concept(i, name, words, kind) for i, (name, words, kind) in enumerate(named))


@cache
def concept_id(name: str) -> int:
    """Id of a concept by name."""
    return next(c.id for c in concepts() if c.name == name)
