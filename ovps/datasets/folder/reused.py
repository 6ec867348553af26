"""Files that a table of readings names as if they had been recorded more than once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ovps.datasets.folder.layout import READINGS, Scene
from ovps.errors import listed


def reused(scenes: Sequence[Scene]) -> list[str]:
    """Warn of point files of several sweeps, images of several cameras, and images of several times, a sentence each.

    An image of several sweeps is right where a camera is slower than the LiDAR: it has but one time then, or none that
    is known.
    """
    sweeps = [sweep for scene in scenes for sweep in scene.sweeps]
    images = [(reading, camera) for sweep in sweeps for camera, reading in sweep.images.items()]
    return [
        *_told("point files", "sweeps", ((s.points.file, s.name) for s in sweeps), "Name the file of each"),
        *_told("images", "cameras", ((reading.file, camera) for reading, camera in images), "Name the file of each"),
        *_told(
            "images",
            "times",
            ((reading.file, f"{reading.time_us} us") for reading, _ in images if reading.timed),
            "Name the file of each; if the camera is slower than the LiDAR, write when the image was taken in all lines"
            " that name it",
        ),
    ]


def _told(what: str, several: str, named: Iterable[tuple[Path, str]], remedy: str) -> list[str]:
    """One sentence of the files with several names, or none."""
    names: dict[Path, dict[str, None]] = {}
    for file, name in named:
        names.setdefault(file, {})[name] = None
    found = {file: of for file, of in names.items() if len(of) > 1}
    if not found:
        return []
    file, of = next(iter(found.items()))
    return [
        f"{READINGS} names {what} for several {several}, {len(found)} in all, the first is {file} ({listed(of, 3)})."
        f" {remedy}"
    ]
