"""Colours of points: by class, by instance, and with everything but the novel classes dimmed."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovps.evaluation.panoptic_quality import CLASSES
from ovps.inference.segments import segments
from ovps.taxonomy import Taxonomy, name_key

DIM = (70, 76, 84)  # points that a panel is not about
UNLABELLED_COLOUR = (48, 52, 58)
LEAST_LUMINANCE = 95  # of 255; pure blue has 18
_GOLDEN = 0.618034  # steps of the golden ratio keep neighbouring hues apart, however many there are


def class_colours(semantic: NDArray[np.integer], taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Colour points by class id (N,), (N, 3): the taxonomy's colours, dark ones lifted to show on a dark ground."""
    table = np.full((CLASSES, 3), UNLABELLED_COLOUR, np.uint8)
    for c in taxonomy.classes:
        table[c.id] = visible(c.color)
    return table[semantic]


def entry_colours(names: Sequence[str], taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Give colours (E + 1, 3) to entries of a vocabulary, the last of them to what has none.

    An entry that is named after a class has the class's colour, any other a hue of its own.
    """
    colours = _hues(len(names))
    for row, name in enumerate(names):
        found = taxonomy.by_key.get(name_key(name))
        if found is not None:
            colours[row] = visible(found.color)
    return np.concatenate([colours, np.array([UNLABELLED_COLOUR], np.uint8)])


def visible(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """The same hue with white mixed in, as far as it takes to be seen on the pictures' dark ground."""
    rgb = np.array(colour, float)
    luminance = float(rgb @ (0.2126, 0.7152, 0.0722))
    white = max(0.0, (LEAST_LUMINANCE - luminance) / (255 - luminance))
    red, green, blue = np.round(rgb + white * (255 - rgb)).astype(int).tolist()
    return red, green, blue


def novel_colours(
    semantic: NDArray[np.integer], taxonomy: Taxonomy, novel: frozenset[int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Colour novel classes and dim everything else, (N, 3); also say which points are novel (N,)."""
    is_novel = np.isin(semantic, list(novel))
    return np.where(is_novel[:, None], class_colours(semantic, taxonomy), np.array(DIM, np.uint8)), is_novel


def instance_colours(
    true: tuple[NDArray[np.integer], NDArray[np.integer]],
    predicted: tuple[NDArray[np.integer], NDArray[np.integer]],
    taxonomy: Taxonomy,
) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Colours (N, 3) and which points are things (N,), for the truth and for the prediction.

    Every thing has a hue of its own; a predicted one takes that of the true one it covers (IoU above 0.5, any class).

    Args:
        true, predicted: class ids (N,) and instances (N,).
    """
    true_row, true_count, true_thing = _things(*true, taxonomy)
    row, count, thing = _things(*predicted, taxonomy)
    both = np.bincount(row * true_count + true_row, minlength=count * true_count).reshape(count, true_count)
    union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    iou = (both / np.maximum(union, 1))[:, 1:]  # row and column 0 are what is no thing
    number = true_count + np.arange(count)
    if iou.size:
        number = np.where(iou.max(1) > 0.5, iou.argmax(1) + 1, number)
    hues = _hues(true_count + count)
    pairs = ((hues[true_row], true_thing), (hues[number[row]], thing))
    return [(np.where(is_thing[:, None], colours, np.array(DIM, np.uint8)), is_thing) for colours, is_thing in pairs]


def _things(
    semantic: NDArray[np.integer], instance: NDArray[np.integer], taxonomy: Taxonomy
) -> tuple[NDArray[np.int64], int, NDArray[np.bool_]]:
    """Rows (N,) from 1 for things and 0 for the rest, their number with that 0, and which points are things (N,)."""
    thing = np.isin(semantic, taxonomy.thing_ids)
    row = np.zeros(len(semantic), np.int64)
    keys, rows, _ = segments(semantic[thing].astype(np.int64), instance[thing].astype(np.int64))
    row[thing] = rows + 1
    return row, len(keys) + 1, thing


def _hues(count: int) -> NDArray[np.uint8]:
    shades = [colorsys.hls_to_rgb(i * _GOLDEN % 1, 0.58 + 0.1 * (i % 3 - 1), 0.85) for i in range(count)]
    hues = [visible((round(255 * r), round(255 * g), round(255 * b))) for r, g, b in shades]
    return np.array(hues, np.uint8).reshape(-1, 3)
