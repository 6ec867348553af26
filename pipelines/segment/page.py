"""Page of a labelled recording: counts of its labels, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import CachedFrame, FrameRef
from ovps.cache.reader import Store
from ovps.errors import counted
from ovps.file_names import file_of
from ovps.files import write_whole
from ovps.geometry.grid import Grid
from ovps.geometry.visibility import Occlusion
from ovps.inference.plain_labels import labels_path
from ovps.report.colours import entry_colours, rgb
from ovps.report.page import render, write_page
from ovps.report.segment_page import Line, SegmentPage, ShownFrame, draw_frame
from ovps.viewer.export import to_ply
from ovps.vocabulary import Vocabulary, load_vocabulary
from pipelines.segment.summary import SegmentSummary

PLY = "ply"


class Counts:
    """Sums over the frames of a recording.

    Attributes:
        by_entry: (E + 1,) points by row of the vocabulary, the last of them without a label; instances: (E + 1,).
        points, seen, beyond: in all, those that some camera sees, those beyond the range of the grid.
    """

    def __init__(self, entries: int, grid: Grid) -> None:
        self._grid = grid
        self.by_entry, self.instances = np.zeros(entries + 1), np.zeros(entries + 1, np.int64)
        self.points = self.seen = self.beyond = 0

    def add(self, frame: CachedFrame, entry: NDArray[np.integer], instance: NDArray[np.integer]) -> None:
        """Count a frame; `entry` and `instance` (N,) as `ovps predict` writes them."""
        rows = len(self.by_entry)
        self.by_entry += np.bincount(np.where(entry < 0, rows - 1, entry), minlength=rows)
        of = np.unique(np.stack([entry[instance > 0], instance[instance > 0]]), axis=1)[0]
        self.instances += np.bincount(of, minlength=rows)
        self.points += len(entry)
        self.seen += int((frame.views > 0).sum())
        self.beyond += int(self._grid.beyond(frame.xyz).sum())

    def share(self, count: float) -> float:
        """Share of all points."""
        return float(count / max(self.points, 1))


@dataclass(frozen=True)
class Look:
    """Labels as they were seen: sums over all frames, and pictures of some."""

    entries: Vocabulary
    colours: NDArray[np.uint8]
    counts: Counts
    frames: list[ShownFrame]


def look_through(
    out: Path,
    store: Store,
    refs: Sequence[FrameRef],
    labels: Mapping[str, Path],
    *,
    grid: Grid,
    vocabulary: Path | None,
    pictures: int,
    ply: bool,
) -> Look:
    """Count the labels of all frames, draw some of them, evenly spaced, and write point clouds if they are asked for.

    Args:
        out: folder for pictures and clouds.
        labels: folder of predictions by subset.
        grid: by whose voxels the points were labelled.
        vocabulary: that was predicted with; None: the store's own.
        pictures: how many frames are drawn.
        ply: write OUT/ply/TOKEN.ply of every frame.

    Raises:
        StorageError: the disk refuses.
    """
    entries, known = load_vocabulary(vocabulary) if vocabulary else store.vocabulary, store.provenance
    colours = entry_colours(entries.names, None if vocabulary else store.taxonomy)
    occlusion = Occlusion.model_validate(known.occlusion) if known.occlusion else None
    count = min(pictures, len(refs))
    pictured = {refs[round(place)].token for place in np.linspace(0, len(refs) - 1, count)}
    counts, drawn = Counts(len(entries.names), grid), []
    for ref in refs:
        frame = store.read(ref)
        with np.load(labels_path(labels[ref.subset], ref.subset, ref.token)) as written:
            entry, instance = written["entry"], written["instance"]
        counts.add(frame, entry, instance)
        if ref.token in pictured:
            drawn.append(draw_frame(out, frame, colours[entry], store.pictures(ref), occlusion))
        if ply:
            write_whole(file_of(out / PLY, ref.token, ".ply"), to_ply(_columns(frame, entry, instance, colours[entry])))
    return Look(entries, colours, counts, drawn)


def write_segments(title: str, summary: SegmentSummary, look: Look, labels: str) -> None:
    """Write the page.

    Args:
        title: of the page.
        labels: format of the labels.

    Raises:
        StorageError: the disk refuses.
    """
    page = SegmentPage(
        title=title,
        lead=f"{counted(summary.frames, 'frame')}, {summary.points:,} points: {summary.seen_share:.0%} are seen by a"
        f" camera, {summary.unlabelled_share:.0%} have no label",
        warnings=summary.warnings,
        lines=_lines(look.entries, look.counts, look.colours),
        frames=look.frames,
        facts=_facts(summary, look.entries, labels),
    )
    write_page(summary.page, render("segment_page.html", page))


def _lines(entries: Vocabulary, counts: Counts, colours: NDArray[np.uint8]) -> list[Line]:
    named = [(entry.name, entry.kind) for entry in entries.entries]
    return [
        Line(name, kind, rgb(colours[row]), counts.share(counts.by_entry[row]), int(counts.instances[row]))
        for row, (name, kind) in enumerate([*named, ("unlabelled", "")])
    ]


def _columns(
    frame: CachedFrame, entry: NDArray[np.integer], instance: NDArray[np.integer], colours: NDArray[np.uint8]
) -> dict[str, NDArray]:
    """What is written of each point, as `ovps export` names it."""
    return {
        **dict(zip("xyz", frame.xyz.T.astype(np.float64), strict=True)),
        "intensity": frame.intensity,
        **dict(zip(("red", "green", "blue"), colours.T, strict=True)),
        "entry": entry.astype(np.int16),
        "instance": instance.astype(np.int32),
        "cameras": frame.views,
    }


def _facts(summary: SegmentSummary, entries: Vocabulary, labels: str) -> dict[str, dict[str, str]]:
    return {
        "CLIP": {
            "encoder": summary.encoder,
            "weights": "random: features mean nothing" if summary.weights_random else entries.weights_sha256[:16] + "…",
        },
        "Points": {
            "grid": summary.grid,
            "beyond its range": f"{summary.beyond_range_share:.1%}",
            "seen by a camera": f"{summary.seen_share:.1%}",
        },
        "Files": {
            "labels": ", ".join(str(folder) for folder in summary.predictions),
            "format": labels,
            "frames shown": f"{summary.frames_drawn} of {summary.frames}, evenly spaced",
        },
    }
