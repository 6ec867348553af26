"""Sweeps of a recording that are to be labelled, and the grid that fits their points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache_schemas import SkippedRow
from ovps import datasets
from ovps.datasets.folder import Folder
from ovps.datasets.folder.layout import IMAGES, POINTS, find_scenes
from ovps.errors import DatasetError, FrameError, counted
from ovps.frame import Frame
from ovps.geometry.grid import Grid, fitting_grid
from ovps.places import named
from pipelines.precompute.compute_frame import check_cloud
from pipelines.precompute.plan import limited

_SAMPLED = 5  # frames that the grid is fitted to


@dataclass(frozen=True)
class Sweeps:
    """Sweeps of a recording that are to be labelled.

    Attributes:
        root: of the recording.
        subsets: that a data set may have; present: those that the recording has.
        scenes: of the recording, and frames: those that are meant.
        unseen: those that no camera has an image of; none are named where there is a limit.
    """

    root: Path
    data: Folder
    subsets: tuple[str, ...]
    present: tuple[str, ...]
    scenes: frozenset[str]
    frames: list[Frame]
    unseen: tuple[SkippedRow, ...]

    @property
    def tokens(self) -> frozenset[str]:
        """Tokens of the frames that are meant."""
        return frozenset(frame.token for frame in self.frames)


def sweeps_of(path: Path, limit: int | None) -> Sweeps:
    """List the sweeps of a recording, or the one that a point file holds.

    Raises:
        DatasetError: no recording, or no sweep of it that a camera sees.
    """
    path = named(path)
    root, one = _recording(path), path.is_file()
    data = datasets.at("folder", root)
    assert isinstance(data, Folder)
    subsets = data.subsets(root)
    frames = datasets.frames_of(data, root, data.default_version, subsets)
    chosen = [frame for frame in frames if Path(frame.points_path) == path] if one else frames
    unseen = {token: file for token, file in data.unseen(root).items() if not one or file == path}
    if not chosen and unseen:
        raise DatasetError(
            "no camera has an image of this sweep, and CLIP sees nothing without",
            path=path,
            remedy=f"Put one that is named after it into {IMAGES}/CAMERA, or name another sweep",
        )
    if not chosen:
        raise DatasetError(
            "no sweep of the recording", path=path, remedy=f"Name a file of its `{POINTS}`, or its folder {root}"
        )
    return Sweeps(
        root=root,
        data=data,
        subsets=subsets,
        present=tuple(subset for subset in subsets if any(frame.subset == subset for frame in frames)),
        scenes=frozenset(frame.scene for frame in frames),
        frames=limited(chosen, limit),
        unseen=tuple(
            SkippedRow(token=token, kind="image", reason=f"no camera has an image of it (file {file})")
            for token, file in unseen.items()
            if limit is None
        ),
    )


def sampled_grid(sweeps: Sweeps, *, skip: bool) -> str:
    """Fit a grid to the points of some of the sweeps.

    Raises:
        FrameError, DatasetError: points that cannot be used; with `skip`, if all are such.
    """
    grid: Grid = fitting_grid(np.concatenate(_clouds(sweeps.data, sweeps.frames, skip=skip)))
    return str(grid)


def _recording(path: Path) -> Path:
    """The recording that a path is of: itself, or the folder above a point file that holds a calibration."""
    if not path.is_file():
        return path
    scene = path.parent.parent
    for root in (scene, scene.parent):
        try:
            if any(found.folder == scene for found in find_scenes(root)):
                return root
        except DatasetError as error:
            if root == scene.parent:
                raise DatasetError(
                    f"the point file is of no recording: {error.message}",
                    path=path,
                    remedy=f"Point files lie in RECORDING/[SCENE/]{POINTS}, beside {IMAGES}",
                ) from error
    raise DatasetError("the point file is of no recording", path=path, remedy="Name the folder of the recording")


def _clouds(data: Folder, frames: Sequence[Frame], *, skip: bool) -> list[NDArray[np.float32]]:
    """The points (N, 3) of some frames, evenly spaced; others stand in for those that are skipped.

    Raises:
        FrameError: a frame that cannot be used, and is not to be skipped.
        DatasetError: no frame can be used.
    """
    count = min(_SAMPLED, len(frames))
    spread = [round(place) for place in np.linspace(0, len(frames) - 1, count)]
    found: list[NDArray[np.float32]] = []
    bad: list[str] = []
    for place in dict.fromkeys([*spread, *range(len(frames))]):
        try:
            cloud = data.points(frames[place])
            check_cloud(frames[place], cloud)
            found.append(cloud.xyz)
        except FrameError as error:
            if not skip:
                raise
            bad.append(str(error))
        if len(found) == count:
            break
    if not found:
        raise DatasetError(f"none of {counted(len(frames), 'frame')} can be used. The first: {bad[0]}")
    return found
