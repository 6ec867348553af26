"""Classes, instances and segments of the points of one frame, whoever gave them: labels, a run, or clusters."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovps.entries import NO_ENTRY
from ovps.inference.prediction import named_classes
from ovps.inference.segments import segments
from ovps.report.colours import DIM, visible
from ovps.taxonomy import Taxonomy
from ovps.vocabulary import Vocabulary

_GOLDEN = 0.618034  # steps of the golden ratio keep neighbouring hues apart, however many there are


@dataclass(frozen=True, eq=False)
class Palette:
    """E names that points are called by.

    Attributes:
        names: E of them.
        colours: (E + 1, 3) uint8; the last is that of points without a name, whose entry is -1.
        class_id: (E + 1,) int64, the class of the data set that each name means, 0 for none and at the end.
    """

    names: tuple[str, ...]
    colours: NDArray[np.uint8]
    class_id: NDArray[np.int64]

    def name(self, entry: int) -> str:
        """The name of an entry; `unlabelled` for -1."""
        return self.names[entry] if entry >= 0 else "unlabelled"


@dataclass(frozen=True, eq=False)
class Labelling:
    """N points and the S segments they make.

    Attributes:
        palette: of the names.
        entry: (N,) int64, row of `palette.names`, -1 where there is none.
        instance: (N,) int64, unique in the frame for things, 0 for stuff and where there is none.
        segment: (N,) int64, row of the segments, -1 for points in none.
        segment_entry: (S,) int64.
        score: (S,) float32, how sure the segment's class is, 0..1; NaN where nobody says.
    """

    palette: Palette
    entry: NDArray[np.int64]
    instance: NDArray[np.int64]
    segment: NDArray[np.int64]
    segment_entry: NDArray[np.int64]
    score: NDArray[np.float32]

    @property
    def class_id(self) -> NDArray[np.int64]:
        """Class ids of the data set (N,) int64, 0 for none."""
        return self.palette.class_id[self.entry]

    @property
    def size(self) -> NDArray[np.int64]:
        """Points of each segment (S,) int64."""
        return np.bincount(self.segment[self.segment >= 0], minlength=len(self.segment_entry))

    @property
    def point_score(self) -> NDArray[np.float32]:
        """Scores of the points' segments (N,) float32, NaN where there is none."""
        return np.append(self.score, np.float32(np.nan))[self.segment]


def taxonomy_palette(taxonomy: Taxonomy) -> Palette:
    """A palette of the classes of a data set, in the order of the taxonomy."""
    colours = [visible(c.color) for c in taxonomy.classes]
    return Palette(
        tuple(c.name for c in taxonomy.classes),
        np.array([*colours, DIM], np.uint8),
        np.array([*(c.id for c in taxonomy.classes), 0]),
    )


def vocabulary_palette(vocabulary: Vocabulary, taxonomy: Taxonomy) -> Palette:
    """A palette of the entries of a vocabulary: one named after a class has its colour, others a hue of their own."""
    classes = named_classes(vocabulary, taxonomy)
    colours = [visible(c.color) if c else hue(i) for i, c in enumerate(classes)]
    return Palette(
        vocabulary.names,
        np.array([*colours, DIM], np.uint8),
        np.array([*(c.id if c else 0 for c in classes), 0]),
    )


def hue(number: int) -> tuple[int, int, int]:
    """A colour for the number of something; different ones for neighbouring numbers."""
    rgb = colorsys.hls_to_rgb(number * _GOLDEN % 1, 0.58 + 0.1 * (number % 3 - 1), 0.85)
    red, green, blue = (round(255 * part) for part in rgb)
    return visible((red, green, blue))


def labelling(
    palette: Palette,
    entry: NDArray[np.integer],
    instance: NDArray[np.integer],
    score: NDArray[np.float32] | None = None,
) -> Labelling:
    """Make segments of the points with one entry and one instance; points without an entry are in none.

    Args:
        palette: of the names.
        entry: (N,) row of its names, -1 for none.
        instance: (N,).
        score: (S,) of the segments in order of entry, then instance; None: nobody says.
    """
    entries, instances = entry.astype(np.int64), instance.astype(np.int64)
    known = entries != NO_ENTRY
    keys, row, _ = segments(entries[known], instances[known])
    segment = np.full(len(entries), -1)
    segment[known] = row
    nobody = np.full(len(keys), np.nan, np.float32)
    return Labelling(palette, entries, instances, segment, keys[:, 0], nobody if score is None else score)


def true_labelling(label: NDArray[np.uint32], taxonomy: Taxonomy) -> Labelling:
    """The labels of a data set (N,) as segments, in the order of a store's objects: by class id, then instance."""
    palette = taxonomy_palette(taxonomy)
    semantic, instance = taxonomy.decode(label)
    entry_of = np.full(256, NO_ENTRY)
    entry_of[palette.class_id[:-1]] = np.arange(len(palette.names))
    keys, row, _ = segments(semantic.astype(np.int64), instance.astype(np.int64))
    labelled = keys[:, 0] > 0
    number = np.where(labelled, np.cumsum(labelled) - 1, -1)
    entries = entry_of[keys[:, 0]]
    return Labelling(
        palette,
        entries[row],
        instance.astype(np.int64),
        number[row],
        entries[labelled],
        np.full(int(labelled.sum()), np.nan, np.float32),
    )


def cluster_labelling(cluster: NDArray[np.integer]) -> Labelling:
    """Clusters of points (N,), -1 for none, as segments without a name."""
    palette = Palette((), np.array([DIM], np.uint8), np.zeros(1, np.int64))
    count = int(cluster.max(initial=-1)) + 1
    return Labelling(
        palette,
        np.full(len(cluster), NO_ENTRY),
        cluster.astype(np.int64) + 1,
        cluster.astype(np.int64),
        np.full(count, NO_ENTRY),
        np.full(count, np.nan, np.float32),
    )
