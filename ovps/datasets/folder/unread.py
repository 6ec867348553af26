"""Files of a recording that belong to no sweep and are not read, and may be left over on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovps.datasets.folder.layout import IMAGES, LABELS, POINTS, READINGS, Scene, files_of, listed
from ovps.datasets.folder.point_files import READERS


def unread(root: Path, scenes: Sequence[Scene]) -> list[str]:
    """Warn of folders that are no scenes, sweeps that no table names and images without a sweep, a sentence for each.

    Args:
        root: of the recording.
        scenes: that are read, all of them or some.
    """
    told = [path for scene in scenes for path in _untold(scene)]
    homeless = [path for scene in scenes for path in _homeless(scene)]
    return [
        f"{len(paths)} {what}, the first is {paths[0]}"
        for what, paths in (
            (f"folders hold {IMAGES}, {LABELS} or {READINGS} and no {POINTS}, and are no scenes", _no_scenes(root)),
            (f"point files are named in no line of {READINGS} and are not read", told),
            ("images have no point file of their name and are not read", homeless),
        )
        if paths
    ]


def _no_scenes(root: Path) -> list[Path]:
    if (root / POINTS).is_dir():
        return []
    other = [folder for folder in listed(root) if folder.is_dir() and not (folder / POINTS).is_dir()]
    return [folder for folder in other if any((folder / name).exists() for name in (IMAGES, LABELS, READINGS))]


def _untold(scene: Scene) -> list[Path]:
    if not (scene.folder / READINGS).is_file():
        return []
    named = {sweep.points.file for sweep in scene.sweeps}
    return [p for p in listed(scene.folder / POINTS) if p.suffix.lower() in READERS and p not in named]


def _homeless(scene: Scene) -> list[Path]:
    images = scene.folder / IMAGES
    if (scene.folder / READINGS).is_file() or not images.is_dir():
        return []
    named = {sweep.name for sweep in scene.sweeps}
    cameras = [folder for folder in listed(images) if folder.is_dir()]
    return [path for folder in cameras for name, path in files_of(folder).items() if name not in named]
