"""Files of a recording that belong to no sweep and are not read, and may be left over on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovps.datasets.folder.labels import TAXONOMY
from ovps.datasets.folder.layout import IMAGES, LABELS, POINTS, READINGS, Scene, files_of, listed
from ovps.datasets.folder.point_files import READERS

_OF_A_SCENE = (READINGS, IMAGES, LABELS)
DEEP = 3  # folders below a recording, in which scenes may have been put by mistake


def unread(root: Path, scenes: Sequence[Scene]) -> list[str]:
    """Warn of folders that are no scenes, sweeps that no table names and images without a sweep, a sentence for each.

    Args:
        root: of the recording.
        scenes: that are read, all of them or some.
    """
    told = [path for scene in scenes for path in _untold(scene)]
    own = [path for scene in scenes if scene.folder != root and (path := scene.folder / TAXONOMY).exists()]
    homeless = [path for scene in scenes for path in _homeless(scene)]
    return [
        f"{len(paths)} {what}, the first is {paths[0]}"
        for what, paths in (
            (f"folders hold {IMAGES}, {LABELS} or {READINGS} and no {POINTS}, and are no scenes", _no_scenes(root)),
            ("files or folders lie above the scenes and are not read: each scene holds its own", _above(root)),
            (f"{TAXONOMY} of scenes are not read: one beside the calibration file of the recording is", own),
            (f"folders hold {POINTS} where no scene is looked for, and are not read", _elsewhere(root)),
            (f"point files are named in no line of {READINGS} and are not read", told),
            ("images have no point file of their name and are not read", homeless),
        )
        if paths
    ]


def _no_scenes(root: Path) -> list[Path]:
    if (root / POINTS).is_dir():
        return []
    other = [folder for folder in listed(root) if folder.is_dir() and not (folder / POINTS).is_dir()]
    return [folder for folder in other if any((folder / name).exists() for name in _OF_A_SCENE)]


def _above(root: Path) -> list[Path]:
    """What one scene consists of, at the root of a recording of several."""
    found = [] if (root / POINTS).is_dir() else [root / name for name in _OF_A_SCENE]
    return [path for path in found if path.exists() and not (path / POINTS).is_dir()]


def _elsewhere(root: Path) -> list[Path]:
    """Folders with points below a recording that is one scene itself, and below the folders where scenes are."""
    found, level = [], [root]
    for depth in range(1, DEEP + 1):
        level = [folder for above in level for folder in _folders(above)]
        if depth > 1 or (root / POINTS).is_dir():
            found += [folder for folder in level if (folder / POINTS).is_dir()]
    return found


def _folders(above: Path) -> list[Path]:
    """Those that a scene does not consist of, nor a store: it may lie in a recording, and its arrays are points too."""
    own = [path for path in listed(above) if path.name not in (POINTS, IMAGES, LABELS) and path.suffix != ".zarr"]
    return [path for path in own if path.is_dir()]


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
