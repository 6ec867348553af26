"""Splits of a recording: which scenes its calibration files put in which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovps.datasets.folder.calibration import Calibration, load_calibration
from ovps.datasets.folder.layout import Scene, own_calibration
from ovps.datasets.splits import check_apart
from ovps.errors import DatasetError, listed

SUBSET = "val"  # of scenes that no split names


def split_of_scenes(root: Path, scenes: Sequence[Scene]) -> dict[str, str]:
    """Find the split of each scene that one names, whichever calibration file of the recording it stands in.

    Raises:
        DatasetError: a scene in two splits, a split of scenes that are not there, or a file that cannot be read.
    """
    found: dict[str, tuple[str, Path]] = {}
    for path in _calibrations(root, scenes):
        splits = _loaded(path, scenes).splits
        check_apart(splits, path)
        unknown = sorted({name for members in splits.values() for name in members} - {scene.name for scene in scenes})
        if unknown:
            raise DatasetError(
                f"`splits` name {', '.join(unknown)}, which are no scenes",
                path=path,
                remedy=f"There are: {', '.join(scene.name for scene in scenes)}",
            )
        for split, members in splits.items():
            for name in members:
                before, common = found.setdefault(name, (split, path))
                if before != split:
                    raise DatasetError(
                        f"`splits` put {name} in {split}, those of {common} in {before}",
                        path=path,
                        remedy="Keep one of the two",
                    )
    return {name: split for name, (split, _) in found.items()}


def split_names(root: Path, scenes: Sequence[Scene]) -> tuple[str, ...]:
    """List the splits of a recording's scenes, in order.

    Raises:
        DatasetError: a calibration file that cannot be read.
    """
    files = _calibrations(root, scenes)
    return tuple(dict.fromkeys([*(name for path in files for name in _loaded(path, scenes).splits), SUBSET]))


def _calibrations(root: Path, scenes: Sequence[Scene]) -> list[Path]:
    """The calibration files of a recording, that of all its scenes first, which may be nobody's if each has its own."""
    common = own_calibration(root)
    return list(dict.fromkeys([*([common] if common else []), *(scene.calibration for scene in scenes)]))


def _loaded(path: Path, scenes: Sequence[Scene]) -> Calibration:
    """Read a calibration file of a recording; of one that is not that of all scenes, an error says whose it is."""
    try:
        return load_calibration(path)
    except DatasetError as error:
        names = [scene.name for scene in scenes if scene.calibration == path]
        if len(names) in (0, len(scenes)):
            raise
        raise DatasetError(
            f"of scene {listed(names)}: {error.message}",
            path=error.path,
            remedy=f"{error.remedy}; or move the folder of the scene out of the recording, and go on without it",
        ) from error
