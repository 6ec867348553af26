"""Predictions as plain arrays, which hold the entries of any vocabulary, and checks of them.

FOLDER/labels/SUBSET/TOKEN.npz   `entry` (N,) int32, row of the vocabulary's entries, -1 unlabelled
                                 `instance` (N,) int32, from 1 for things, 0 for stuff and unlabelled
                                 `unknown` (N,) float16 in 0..1, if it was asked for
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ovps.entries import NO_ENTRY, Entry
from ovps.file_names import file_of
from ovps.inference.arrays import array_or_fault, files_apart, holds, save_arrays
from ovps.inference.prediction import PointLabels

_TYPES: dict[str, DTypeLike] = {"entry": np.int32, "instance": np.int32}
_UNKNOWN: dict[str, DTypeLike] = {"unknown": np.float16}


def folder_of(folder: Path, subset: str) -> Path:
    """Folder of the arrays of a subset.

    Raises:
        StorageError: no folder can be called so.
    """
    return file_of(folder / "labels", subset)


def labels_path(folder: Path, subset: str, token: str) -> Path:
    """Path of the arrays of a frame.

    Raises:
        StorageError: token or subset are no names of files.
    """
    return file_of(folder_of(folder, subset), token, ".npz")


def write_labels(
    folder: Path, subset: str, token: str, labels: PointLabels, unknown: NDArray[np.floating] | None = None
) -> int:
    """Write the labels of one frame; the file appears whole or not at all.

    Args:
        unknown: (N,) in 0..1, how likely each point is none of the vocabulary.

    Returns:
        Points without a label.

    Raises:
        StorageError: the disk refuses.
    """
    scores = {} if unknown is None else {"unknown": unknown.astype(np.float16)}
    arrays = {"entry": labels.entry.astype(np.int32), "instance": labels.instance.astype(np.int32)}
    save_arrays(labels_path(folder, subset, token), **arrays, **scores)
    return int((labels.entry == NO_ENTRY).sum())


def check_labels(
    folder: Path, subset: str, points: Mapping[str, int], entries: Sequence[Entry], *, unknown: bool = False
) -> list[str]:
    """Read every file back and list the faults, each with what to do about it; an empty list means that there are none.

    Args:
        points: number of points by frame token; exactly these frames must be there.
        entries: of the vocabulary that they were predicted with.
        unknown: whether every frame must hold the scores of the unknown, not only all or none.
    """
    place = folder_of(folder, subset)
    if not place.is_dir():
        return [f"labels/{subset}: no such folder: put the {len(points)} files TOKEN.npz there"]
    strays = sorted(path.name for path in place.iterdir() if path.suffix != ".npz")
    there = {path.name.removesuffix(".npz") for path in place.glob("*.npz")}
    present = sorted(there & points.keys())
    scored = unknown or any(holds(labels_path(folder, subset, token), "unknown") for token in present)
    problems = [f"{name}: not called TOKEN.npz: rename or delete it" for name in strays]
    problems += files_apart(there, points.keys(), subset)
    for token in present:
        found = _faults(labels_path(folder, subset, token), points[token], entries, scored)
        problems += [f"{token}: {fault}" for fault in found]
    return problems


def _faults(path: Path, points: int, entries: Sequence[Entry], scored: bool) -> Iterator[str]:
    arrays: dict[str, NDArray] = {}
    for name, dtype in (_TYPES | (_UNKNOWN if scored else {})).items():
        found = array_or_fault(path, name, dtype, points)
        if isinstance(found, str):
            yield found
            return
        arrays[name] = found
    entry, instance = arrays["entry"], arrays["instance"]
    known = (entry >= NO_ENTRY) & (entry < len(entries))
    kinds = np.array([*(e.kind == "thing" for e in entries), False])  # the last is that of -1
    is_thing = kinds[np.where(known, entry, NO_ENTRY)]
    unknown = arrays.get("unknown", np.zeros(points, np.float16))
    checks = {
        f"points of no entry: -1 to {len(entries) - 1} are rows of the entries in about.json": ~known,
        "points of things without an instance: count from 1": known & is_thing & (instance < 1),
        "points of stuff, or of no entry, with an instance: it is 0": known & ~is_thing & (instance != 0),
        "points whose `unknown` is not in 0 to 1": ~((unknown >= 0) & (unknown <= 1)),
    }
    yield from (f"{int(wrong.sum())} {what}" for what, wrong in checks.items() if wrong.any())
