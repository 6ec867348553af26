"""Predictions in SemanticKITTI's submission format, and checks of it.

    FOLDER/sequences/NN/predictions/NNNNNN.label   uint32 a point: raw class in the lower 16 bits, instance above

The raw class is that of `Taxonomy.id_to_raw`, the benchmark's learning_map_inv. Things count their instances from 1,
per class and scan; stuff has instance 0, one segment a class. A point without a prediction is 0. The benchmark takes a
zip of the folder `sequences`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.errors import ConfigError, unread
from ovps.file_names import file_of
from ovps.files import write_whole
from ovps.inference.arrays import files_apart
from ovps.inference.segments import numbered
from ovps.shortage import faults
from ovps.taxonomy import Taxonomy

INSTANCES = 2**16 - 1


def encode(
    semantic: NDArray[np.integer], instance: NDArray[np.integer], taxonomy: Taxonomy, *, frame: str | None = None
) -> NDArray[np.uint32]:
    """Encode class ids (N,) and instances (N,), any numbers, as labels (N,) uint32.

    Raises:
        ConfigError: more than 65,535 instances of one class in a frame.
    """
    classes, number, row = numbered(semantic, instance, taxonomy)
    if (number > INSTANCES).any():
        raise ConfigError(
            f"the SemanticKITTI format holds {INSTANCES:,} instances per class, not {int(number.max()):,}",
            frame=frame,
            remedy="Predict with a vocabulary of your own, which writes plain arrays",
        )
    raw = np.array([taxonomy.id_to_raw.get(int(class_id), 0) for class_id in classes], np.int64)
    return (number << 16 | raw).astype(np.uint32)[row]


def label_path(folder: Path, token: str) -> Path:
    """Path of the labels of a scan; its token is sequence and number, as in `08_000123`.

    Raises:
        StorageError: they are no names of files.
    """
    sequence, _, number = token.rpartition("_")
    return file_of(file_of(folder / "sequences", sequence, frame=token) / "predictions", number, ".label", frame=token)


class SemanticKittiFormat:
    """`ovps.inference.formats.SubmissionFormat`."""

    instances = INSTANCES

    def write(
        self,
        folder: Path,
        subset: str,
        token: str,
        semantic: NDArray[np.integer],
        instance: NDArray[np.integer],
        taxonomy: Taxonomy,
    ) -> int:
        labels = encode(semantic, instance, taxonomy, frame=token)
        write_whole(label_path(folder, token), labels.astype("<u4").tobytes())
        return int((labels == 0).sum())

    def finish(self, folder: Path, subset: str, *, use_camera: bool, use_external: bool) -> None:
        """Write nothing: there are no files besides those of the frames."""

    def check(self, folder: Path, subset: str, points: Mapping[str, int], taxonomy: Taxonomy) -> list[str]:
        files = [file for sequence in _inside(folder / "sequences") for file in _inside(sequence / "predictions")]
        there = {f"{path.parent.parent.name}_{path.stem}" if path.suffix == ".label" else str(path) for path in files}
        problems = files_apart(there, points.keys(), subset)
        for token in sorted(there & points.keys()):
            found = _faults(label_path(folder, token), points[token], taxonomy)
            problems += [f"{token}: {fault}" for fault in found]
        return problems


FORMAT = SemanticKittiFormat()


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder, if it is one; raises PermissionError where that may not be read, unlike `Path.glob`."""
    return list(folder.iterdir()) if folder.is_dir() else []


def _faults(path: Path, points: int, taxonomy: Taxonomy) -> Iterator[str]:
    try:
        content = path.read_bytes()
    except faults(OSError) as error:
        yield unread(error, path, "write it again")
        return
    if len(content) != 4 * points:
        yield f"{len(content)} bytes, expected {4 * points}: a uint32 for each of {points} points"
        return
    labels = np.frombuffer(content, "<u4")
    raw, number = taxonomy.raw_class(labels), labels >> 16
    learned = np.isin(raw, list(taxonomy.raw_to_id))
    ids = taxonomy.decode(np.where(learned, labels, 0))[0]
    is_thing, is_stuff = np.isin(ids, taxonomy.thing_ids), np.isin(ids, taxonomy.stuff_ids)
    checks = {
        "points of no class of the benchmark (are they 0 to 19? learning_map_inv is missing)": ~learned,
        "points of things without an instance": is_thing & (number == 0),
        "points of stuff with an instance: each is a segment of its own": is_stuff & (number != 0),
    }
    yield from (f"{int(wrong.sum())} {what}" for what, wrong in checks.items() if wrong.any())
