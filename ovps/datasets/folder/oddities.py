"""Oddities of a recording that may be meant: splits nobody asks for, lenses, other `occlusion`, columns."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from ovps.datasets.folder.calibration import load_calibration
from ovps.datasets.folder.layout import Scene, calibration_above
from ovps.datasets.folder.point_files import misread
from ovps.datasets.folder.undistort import LENS_REMEDY, odd_lens
from ovps.errors import listed
from ovps.frame import Frame
from ovps.geometry.calibration import odd_numbers

_USUAL = ("train", "val", "test")


def unasked(split_of: Mapping[str, str], named: Container[str]) -> list[str]:
    """Warn of splits that were not asked for, and whose name is none of those that are asked for at times."""
    scenes: dict[str, list[str]] = {}
    for scene, split in split_of.items():
        if scene not in named and split not in _USUAL:
            scenes.setdefault(split, []).append(scene)
    return [
        f"split {split} was not asked for, which has {listed(names)}: `ovps precompute --split {split}` takes it"
        for split, names in scenes.items()
    ]


def odd_lenses(scenes: Sequence[Scene]) -> list[str]:
    """Warn of lenses whose distortion takes much of their images, or whose intrinsics are odd as written."""
    used = {(scene.calibration, name) for scene in scenes for sweep in scene.sweeps for name in sweep.images}
    found = []
    for path, name in sorted(used):
        camera = load_calibration(path).cameras[name]
        if text := odd_lens(camera):
            found.append(f"camera {name}: {text} (file {path}). {LENS_REMEDY}")
        if camera.distorted:
            found += [text for _, text in odd_numbers(name, camera.matrix(), camera.width, camera.height)]
    return found


def other_occlusion(first: Scene, scenes: Sequence[Scene]) -> list[str]:
    """Warn of scenes whose own calibration file says otherwise when a point is hidden: nobody asks them."""
    used = load_calibration(first.calibration).occlusion
    others = [scene.name for scene in scenes if load_calibration(scene.calibration).occlusion != used]
    if not others:
        return []
    return [
        f"`occlusion` is taken for all scenes as it is in the calibration file of {first.name}, and another in that of"
        f" {listed(others)}: rigs of other beams are recordings of their own"
    ]


def odd_point_files(frames: Sequence[Frame]) -> list[str]:
    """Say where point files clearly have other numbers or columns than are named, by the first sweep of each scene.

    Of many scenes the first stands for all.
    """
    for _, sweeps in groupby(frames, lambda frame: frame.scene):
        frame = next(sweeps)
        how = load_calibration(calibration_above(Path(frame.points_path))).points
        if error := misread(frame.points_path, frame.token, how):
            return [str(error)]
    return []
