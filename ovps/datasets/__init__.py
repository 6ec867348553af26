"""Data sets: one object each, found by name and imported only when asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ovps.datasets.clocks import images_apart, odd_unit, standing_clocks
from ovps.datasets.frame_fields import frame_fault, names_fault
from ovps.datasets.motion import odd_motion
from ovps.datasets.protocol import Dataset
from ovps.errors import DatasetError, FrameError, SetupError
from ovps.frame import Frame
from ovps.geometry.calibration import odd_intrinsics
from ovps.geometry.visibility import senseless
from ovps.plugins import Registry, is_outside, misgiven
from ovps.protocols import described, unlike
from ovps.waiting import Waits

GROUP = "ovps.datasets"
BUILT_IN = {
    "nuscenes": "ovps.datasets.nuscenes:DATASET",
    "semantickitti": "ovps.datasets.semantickitti:DATASET",
    "folder": "ovps.datasets.folder:DATASET",
}
REGISTRY = Registry[Dataset](GROUP, Dataset, BUILT_IN)
get, names = REGISTRY.get, REGISTRY.names
_waits = Waits()


def at(name: str, root: Path) -> Dataset:
    """A data set by name as it is in a folder, where its classes may lie: by its method `at`, if it has one.

    Raises:
        ConfigError, SetupError: as `get`.
    """
    data: Any = get(name)
    there: Any = data.at(root) if hasattr(data, "at") else data
    if not is_outside(data):
        return there
    if there is not data and (found := unlike(there, Dataset)):
        raise misgiven("data set", data, "at", f"{described(there)}, which {found[0]}", SetupError)
    if fault := senseless(there.occlusion):
        raise misgiven("data set", there, "occlusion", f"thresholds that suit no LiDAR: {fault}", SetupError)
    return there


def frames_of(dataset: Dataset, root: Path, version: str, subsets: Sequence[str], **asked: Any) -> list[Frame]:
    """List the frames of a data set, see `Dataset.frames`; any iterable of frames will do.

    Raises:
        DatasetError: no such folder, version or split, tables that cannot be used, or names that no file can have.
        SetupError: the data set gives something else, or frames that no store can hold.
    """
    try:
        with _waits.of(f"the frames of {dataset.name}", str(root)):
            found: Any = dataset.frames(root, version, subsets, **asked)
            frames = list(found) if isinstance(found, Iterable) else [found]
    except FrameError as error:  # of the list: no frame can be left out of it
        raise DatasetError(error.message, path=error.path, frame=error.frame, remedy=error.remedy) from error
    for frame in frames:
        fault = frame_fault(frame, subsets)
        if fault:
            token = getattr(frame, "token", None)
            raise misgiven("data set", dataset, "frames", fault, SetupError, token if isinstance(token, str) else None)
        fault = names_fault(frame)
        if fault and is_outside(dataset):
            raise misgiven("data set", dataset, "frames", f"a frame with {fault}", SetupError)
        if fault:
            raise DatasetError(f"a frame has {fault}", path=frame.points_path, remedy="Rename what is called so")
    return frames


def frames_there(
    dataset: Dataset, root: Path, version: str, subsets: Sequence[str]
) -> tuple[list[Frame], dict[str, DatasetError]]:
    """List the frames of those of some splits that a data set has; of the others, by name, what it says of them.

    Raises:
        DatasetError, SetupError: as `frames_of`, where no split is there.
    """
    try:
        return frames_of(dataset, root, version, subsets), {}
    except DatasetError:
        frames: list[Frame] = []
        lacking: dict[str, DatasetError] = {}
        for split in subsets:
            try:
                frames += frames_of(dataset, root, version, (split,))
            except DatasetError as error:
                lacking[split] = error
        if len(lacking) == len(subsets):
            raise
        return frames, lacking


def usual_subsets(dataset: Dataset, version: str) -> tuple[str, ...]:
    """The splits of a version that are meant where nobody names any."""
    own: dict[str, tuple[str, ...]] = getattr(dataset, "usual_subsets", {})
    return own.get(version, ("train", "val"))


def warnings_of(dataset: Dataset, root: Path, frames: Sequence[Frame]) -> tuple[str, ...]:
    """Warnings of what is odd in the folder of some of a data set's frames, in cameras and poses, a sentence a kind.

    Raises:
        DatasetError: files that cannot be read.
    """
    find: Any = getattr(dataset, "warnings", None)
    with _waits.of(f"the warnings of {dataset.name}", str(root)):
        found: Any = find(root, frames) if find else ()
    if isinstance(found, str) or not isinstance(found, Iterable) or not all(isinstance(w, str) for w in found):
        raise misgiven("data set", dataset, "warnings", f"{described(found)}, expected a list of sentences", SetupError)
    clocks = (*standing_clocks(frames), *odd_unit(frames)) if is_outside(dataset) else ()
    return (*found, *clocks, *odd_intrinsics(frames), *images_apart(frames), *odd_motion(frames))


def root_variable(name: str) -> str:
    """The environment variable that says where a data set lies.

    >>> root_variable("semantic-kitti")
    'OVPS_SEMANTIC_KITTI'
    """
    return f"OVPS_{re.sub('[^A-Z0-9]', '_', name.upper())}"


def default_root(name: str) -> Path:
    """The folder that OVPS_<NAME> names, else ./data/<name>."""
    return Path(os.environ.get(root_variable(name)) or Path("data") / name)
