"""Images that a recording lacks: a camera drops some, and the last ones may not have been copied yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ovps.datasets.folder.calibration import load_calibration
from ovps.datasets.folder.layout import IMAGES, READINGS, Scene
from ovps.datasets.near_names import beside
from ovps.errors import counted, listed


def missing_images(scenes: Sequence[Scene]) -> list[str]:
    """Warn of sweeps without an image, of any camera or of one, and of cameras without any, a sentence for each."""
    bare = [sweep.points.file for scene in scenes for sweep in scene.sweeps if not sweep.images]
    found = (
        [f"{counted(len(bare), 'sweep')} without an image, used as no frame: the first is {bare[0]}"] if bare else []
    )
    lacking: dict[str, list[str]] = {}
    for scene in scenes:
        for camera, image in _dropped(scene):
            lacking.setdefault(camera, []).append(image)
    found += [
        f"{counted(len(images), 'sweep')} without an image of {camera}, used without it: the first is {images[0]}"
        for camera, images in lacking.items()
    ]
    unused: dict[str, list[str]] = {}
    for scene in scenes:
        used = {camera for sweep in scene.sweeps for camera in sweep.images}
        for camera in sorted(load_calibration(scene.calibration).cameras.keys() - used) if used else ():
            unused.setdefault(camera, []).append(scene.name)
    return found + [
        f"no sweep of {listed(names)} has an image of {camera}, which the calibration file describes"
        for camera, names in unused.items()
    ]


def _dropped(scene: Scene) -> Iterator[tuple[str, str]]:
    """Cameras and the images that they lack. A table says itself which cameras a sweep has."""
    if (scene.folder / READINGS).is_file():
        return
    for camera in sorted({camera for sweep in scene.sweeps for camera in sweep.images}):
        for sweep in scene.sweeps:
            if sweep.images and camera not in sweep.images:
                image = scene.folder / IMAGES / camera / sweep.name
                near = beside(image.with_name(f"{sweep.name}.png"))
                yield camera, f"{image}{f', where {near} lies' if near else ''}"
