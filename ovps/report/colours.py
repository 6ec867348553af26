"""Colours of points: by class, by instance, and with everything but the novel classes dimmed."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ovps.evaluation.panoptic_quality import CLASSES
from ovps.inference.segments import segments
from ovps.taxonomy import Taxonomy, name_key

RGB = tuple[int, int, int]

DIM = (70, 76, 84)  # points that a panel is not about
UNLABELLED_COLOUR = (48, 52, 58)
LEAST_LUMINANCE = 95  # of 255; pure blue has 18
# Okabe and Ito's, which colour-blind eyes tell apart, without black
OKABE_ITO = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178))
_STEPS = 9  # of red, green and blue, of which further colours are chosen
_GOLDEN = 0.618034  # steps of the golden ratio keep neighbouring hues apart, however many there are


def class_colours(semantic: NDArray[np.integer], taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Colour points by class id (N,), (N, 3): the taxonomy's colours, dark ones lifted to show on a dark ground."""
    table = np.full((CLASSES, 3), UNLABELLED_COLOUR, np.uint8)
    for c in taxonomy.classes:
        table[c.id] = visible(c.color)
    return table[semantic]


def entry_colours(names: Sequence[str], taxonomy: Taxonomy | None) -> NDArray[np.uint8]:
    """Give colours (E + 1, 3) to entries of a vocabulary, the last of them to what has none.

    Args:
        taxonomy: an entry that is named after a class of it has the class's colour. None: all are told well apart.
    """
    colours = separated_colours(len(names))
    for row, name in enumerate(names):
        found = taxonomy.by_key.get(name_key(name)) if taxonomy else None
        if found is not None:
            colours[row] = visible(found.color)
    return np.concatenate([colours, np.array([UNLABELLED_COLOUR], np.uint8)])


def separated_colours(count: int) -> NDArray[np.uint8]:
    """Give colours (count, 3) that are told apart on a dark ground: Okabe and Ito's, then what is farthest from all.

    Distances are Euclidean in CIELAB, as Glasbey et al. [2007] build palettes; the ground and the colour of what is
    unlabelled are kept away from, too.
    """
    return np.array(_separated(count), np.uint8).reshape(-1, 3)


@lru_cache(maxsize=8)
def _separated(count: int) -> tuple[RGB, ...]:
    chosen = [visible(colour) for colour in OKABE_ITO[:count]]
    levels = np.linspace(0, 255, _STEPS).round().astype(int)
    free = [visible((red, green, blue)) for red in levels for green in levels for blue in levels]
    lab = _lab(np.array(free))
    taken = _lab(np.array([*chosen, UNLABELLED_COLOUR, DIM]))
    nearest = np.linalg.norm(lab[:, None] - taken, axis=2).min(axis=1)
    while len(chosen) < count:
        best = int(nearest.argmax())
        chosen.append(free[best])
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[best], axis=1))
    return tuple(chosen)


def _lab(rgb: NDArray[np.integer]) -> NDArray[np.float64]:
    """CIELAB (N, 3) of sRGB colours (N, 3), white point D65."""
    share = rgb / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(linear @ to_xyz.T / to_xyz.sum(axis=1), 0.008856)).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def rgb(colour: NDArray[np.integer]) -> RGB:
    """Take a colour (3,) out of its array."""
    red, green, blue = colour.tolist()
    return red, green, blue


def visible(colour: RGB) -> RGB:
    """The same hue with white mixed in, as far as it takes to be seen on the pictures' dark ground."""
    given = np.array(colour, float)
    luminance = float(given @ (0.2126, 0.7152, 0.0722))
    if luminance >= LEAST_LUMINANCE:  # nothing to mix in; that of white is 255 by some kernels, and nearly so by others
        return colour
    white = (LEAST_LUMINANCE - luminance) / (255 - luminance)
    return rgb(np.round(given + white * (255 - given)).astype(int))


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
