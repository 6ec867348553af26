"""Colours of a cloud: pure functions from arrays to (N, 3) uint8, for a dark ground and for colour-blind eyes."""

from __future__ import annotations

import matplotlib
import numpy as np
from numpy.typing import NDArray

from ovps.report.colours import DIM
from ovps.viewer.labelling import Labelling, hue

RIGHT, WRONG = (86, 180, 233), (230, 120, 20)  # sky blue and vermilion of Okabe and Ito, also told apart by luminance
BASE, NOVEL = (86, 180, 233), (240, 228, 66)
VIEWS = (DIM, (0, 158, 115), (240, 228, 66), (204, 121, 167))  # of none, one, two, three cameras or more

Colours = NDArray[np.uint8]


def by_class(labels: Labelling) -> Colours:
    """Colour points by what they are called."""
    return labels.palette.colours[labels.entry]


def by_instance(labels: Labelling, reference: Labelling | None = None) -> Colours:
    """Give every thing a hue of its own, and dim the rest.

    Args:
        labels: of N points.
        reference: of the same points: a thing takes the hue of the one it covers there (IoU above 0.5, any class), so
            that truth and prediction can be compared by eye.
    """
    number = _thing_rows(labels)
    count = int(number.max(initial=0)) + 1
    shown = np.arange(count)
    if reference is not None:
        other = _thing_rows(reference)
        width = int(other.max(initial=0)) + 1
        both = np.bincount(number * width + other, minlength=count * width).reshape(count, width)
        union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
        iou = (both / np.maximum(union, 1))[:, 1:]
        shown = width + np.arange(count)
        if iou.size:
            shown = np.where(iou.max(1) > 0.5, iou.argmax(1) + 1, shown)
    table = np.array([DIM, *(hue(int(i)) for i in shown[1:])], np.uint8)
    return table[number]


def by_class_and_instance(labels: Labelling) -> Colours:
    """Colour points by what they are called; things of one class differ in lightness."""
    colours = by_class(labels).astype(np.float32)
    shade = np.array([0.0, 0.45, -0.3, 0.25, -0.45])[_thing_rows(labels) % 5][:, None]
    lighter, darker = colours + shade * (255 - colours), colours * (1 + shade)
    return np.where(shade >= 0, lighter, darker).round().astype(np.uint8)


def right_or_wrong(true: NDArray[np.integer], predicted: Labelling) -> Colours:
    """Compare class ids (N,): right, wrong (also where nothing was predicted); dim where nothing can be compared.

    That is where there is no label, and where points are called by a word that is no class of the data set.
    """
    colours = np.where((true == predicted.class_id)[:, None], np.array(RIGHT), np.array(WRONG))
    no_class = (predicted.entry >= 0) & (predicted.class_id == 0)
    return np.where(((true > 0) & ~no_class)[:, None], colours, np.array(DIM)).astype(np.uint8)


def base_or_novel(class_id: NDArray[np.integer], novel: frozenset[int]) -> Colours:
    """Colour class ids (N,) by whether they were labelled in training; dim where there is none."""
    is_novel = np.isin(class_id, list(novel))
    colours = np.where(is_novel[:, None], np.array(NOVEL), np.array(BASE))
    return np.where((class_id > 0)[:, None], colours, np.array(DIM)).astype(np.uint8)


def by_score(score: NDArray[np.floating]) -> Colours:
    """Colour scores (N,) in 0..1 from violet to yellow; dim where there is none (NaN)."""
    colours = _ramp("viridis", 0.2 + 0.8 * np.nan_to_num(score))
    return np.where(np.isnan(score)[:, None], np.array(DIM, np.uint8), colours)


def by_views(views: NDArray[np.integer]) -> Colours:
    """Colour points (N,) by how many cameras see them: none, one, two, more."""
    return np.array(VIEWS, np.uint8)[np.minimum(views, len(VIEWS) - 1)]


def by_relevance(relevance: NDArray[np.floating], threshold: float) -> Colours:
    """Light up the points whose relevance (N,) reaches the threshold, the yellower the higher; dim the others."""
    lit = relevance >= threshold
    share = (relevance - threshold) / max(1 - threshold, 1e-6)
    return np.where(lit[:, None], _ramp("plasma", 0.5 + 0.45 * share), np.array(DIM, np.uint8))


def _ramp(name: str, share: NDArray[np.floating]) -> Colours:
    return (matplotlib.colormaps[name](np.clip(share, 0, 1))[:, :3] * 255).round().astype(np.uint8)


def _thing_rows(labels: Labelling) -> NDArray[np.int64]:
    """Number things (N,) from 1; 0 for the rest."""
    _, row = np.unique(np.where(labels.instance > 0, labels.segment, -1), return_inverse=True)
    return row.reshape(-1) if (labels.instance == 0).any() else row.reshape(-1) + 1
