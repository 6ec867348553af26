"""Predictions in nuScenes' panoptic submission format, and checks of it.

    FOLDER/panoptic/SUBSET/TOKEN_panoptic.npz   `data` (N,) uint16 = 1000 * challenge class + instance
    FOLDER/SUBSET/submission.json               what the predictions were made from

Things count their instances from 1 to 999, per class and frame; stuff has instance 0. A point without a prediction is
0: the devkit's format shows such points and its panoptic evaluator takes them as missed (only the *lidarseg* challenge
refuses class 0), so the devkit's scores of the files are those of the evaluation. The devkit has no validation of
panoptic submissions; `check_submission` is ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.errors import ConfigError, unread
from ovps.file_names import file_of
from ovps.files import write_whole
from ovps.inference.arrays import array_or_fault, files_apart, save_arrays
from ovps.inference.segments import numbered, segments
from ovps.shortage import faults
from ovps.taxonomy import UNLABELLED, Taxonomy

DIVISOR = 1000
META_FLAGS = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")


def leave_out(
    semantic: NDArray[np.integer], instance: NDArray[np.integer], taxonomy: Taxonomy, room: int | None = None
) -> tuple[NDArray[np.int64], int]:
    """Make instances unlabelled that the format has no room for; return class ids (N,) and how many were left out.

    Of each class of things the `room` instances with most points stay; of equally large ones, those of lower number.

    Args:
        room: instances of a class; None: the 999 of nuScenes.
    """
    room = DIVISOR - 1 if room is None else room
    semantic = np.asarray(semantic, np.int64)
    is_thing = np.isin(semantic, taxonomy.thing_ids)
    keys, row, points = segments(semantic, np.where(is_thing, instance, 0).astype(np.int64))
    order = np.lexsort((-points, keys[:, 0]))  # by class, then from large to small; stable
    rank = np.empty(len(keys), np.int64)
    rank[order] = np.arange(len(keys)) - np.searchsorted(keys[:, 0], keys[:, 0])
    out = (rank >= room) & np.isin(keys[:, 0], taxonomy.thing_ids)
    return np.where(out[row], UNLABELLED, semantic), int(out.sum())


def encode(
    semantic: NDArray[np.integer], instance: NDArray[np.integer], taxonomy: Taxonomy, *, frame: str | None = None
) -> NDArray[np.uint16]:
    """Encode class ids (N,) and instances (N,), any numbers, as submission labels (N,) uint16.

    Raises:
        ConfigError: a class the format has no room for, or more than 999 instances of one class in a frame, of which
            `leave_out` takes the smallest away.
    """
    classes, number, row = numbered(semantic, instance, taxonomy)
    label = classes * DIVISOR + number
    if (number >= DIVISOR).any() or (label > np.iinfo(np.uint16).max).any():
        raise ConfigError(
            f"the nuScenes format holds 999 instances per class and classes up to 64, not {int(number.max())} and"
            f" {int(classes.max())}",
            frame=frame,
            remedy="Predict with a vocabulary of your own, which writes plain arrays",
        )
    return label.astype(np.uint16)[row]


def label_path(folder: Path, subset: str, token: str) -> Path:
    """Path of the labels of a frame in a submission.

    Raises:
        StorageError: token or subset are no names of files.
    """
    return file_of(file_of(folder / "panoptic", subset, frame=token), token, "_panoptic.npz")


def write_labels(folder: Path, subset: str, token: str, labels: NDArray[np.uint16]) -> Path:
    """Write the labels of one frame; the file appears whole or not at all."""
    return save_arrays(label_path(folder, subset, token), data=labels)


def write_meta(folder: Path, subset: str, *, use_camera: bool, use_external: bool) -> Path:
    """Write submission.json.

    Args:
        use_camera: the predictions depend on images of the frames they are of.
        use_external: on data beyond the data set: whatever learned from CLIP, or is named by it, does.
    """
    meta = {
        "task": "segmentation",
        "use_camera": use_camera,
        "use_lidar": True,
        "use_radar": False,
        "use_map": False,
        "use_external": use_external,
    }
    content = json.dumps({"meta": meta}, indent=2).encode()
    return write_whole(folder / subset / "submission.json", content)


def check_submission(
    folder: Path, subset: str, points: Mapping[str, int], taxonomy: Taxonomy, *, allow_unlabelled: bool = True
) -> list[str]:
    """Read every file of a submission back and list its faults, each with what to do about it; none: it is valid.

    Args:
        points: number of points by frame token; exactly these frames must be there.
        allow_unlabelled: whether a point may be 0; if not, every class is 1..16.
    """
    problems = _check_meta(folder / subset / "submission.json")
    labels = folder / "panoptic" / subset
    if not labels.is_dir():
        return [*problems, f"panoptic/{subset}: no such folder: put the {len(points)} files TOKEN_panoptic.npz there"]
    strays = sorted(p.name for p in labels.iterdir() if not p.name.endswith("_panoptic.npz"))
    there = {p.name.removesuffix("_panoptic.npz") for p in labels.glob("*_panoptic.npz")}
    problems += [f"{name}: not called TOKEN_panoptic.npz: rename or delete it" for name in strays]
    problems += files_apart(there, points.keys(), subset)
    for token in sorted(there & points.keys()):
        found = _check_labels(label_path(folder, subset, token), points[token], taxonomy, allow_unlabelled)
        problems += [f"{token}: {p}" for p in found]
    return problems


class NuScenesFormat:
    """`ovps.inference.formats.SubmissionFormat`."""

    instances = DIVISOR - 1

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
        write_labels(folder, subset, token, labels)
        return int((labels == UNLABELLED).sum())

    def finish(self, folder: Path, subset: str, *, use_camera: bool, use_external: bool) -> None:
        write_meta(folder, subset, use_camera=use_camera, use_external=use_external)

    def check(self, folder: Path, subset: str, points: Mapping[str, int], taxonomy: Taxonomy) -> list[str]:
        return check_submission(folder, subset, points, taxonomy)


FORMAT = NuScenesFormat()


def _check_meta(path: Path) -> list[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except faults(OSError, ValueError, RecursionError) as error:
        return [f"submission.json: {unread(error, path, 'write it as `ovps predict` does')}"]
    meta = content.get("meta") if isinstance(content, dict) else None
    if not isinstance(meta, dict):
        return ["submission.json: holds no object `meta`: write it as `ovps predict` does"]
    wrong = [flag for flag in META_FLAGS if not isinstance(meta.get(flag), bool)]
    problems = [f"submission.json: {flag} is not a truth value: write true or false" for flag in wrong]
    if meta.get("task") != "segmentation":
        problems.append(f"submission.json: task is {meta.get('task')!r}: write 'segmentation'")
    return problems


def _check_labels(path: Path, points: int, taxonomy: Taxonomy, allow_unlabelled: bool) -> list[str]:
    labels = array_or_fault(path, "data", np.uint16, points)
    if isinstance(labels, str):
        return [labels]
    semantic, instance = labels // DIVISOR, labels % DIVISOR
    unlabelled = labels == UNLABELLED
    known = np.isin(semantic, [c.id for c in taxonomy.classes]) | (unlabelled & allow_unlabelled)
    is_thing, is_stuff = np.isin(semantic, taxonomy.thing_ids), np.isin(semantic, taxonomy.stuff_ids)
    checks = {
        "points of no class of the challenge (are they general classes? `raw_to_id` of the taxonomy maps them)": ~known,
        "points of things without an instance: count from 1 to 999": is_thing & (instance == 0),
        "points of stuff with an instance: it is 1000 * class": is_stuff & (instance != 0),
    }
    return [f"{int(wrong.sum())} {what}" for what, wrong in checks.items() if wrong.any()]
