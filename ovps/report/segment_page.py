"""The page of a recording that was labelled: its classes, and some of its frames from above and in every camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import CachedFrame
from ovps.frame import Camera
from ovps.geometry.projection import project
from ovps.geometry.visibility import Occlusion, unoccluded
from ovps.report.colours import RGB
from ovps.report.linked import ShownFrame, write_picture
from ovps.report.overlay import from_above, paint

_LEAST_M, _MOST_M = 15.0, 60.0  # that the view from above shows to every side


@dataclass(frozen=True)
class Line:
    """A class on the page: its share of the points, and its instances in all frames."""

    name: str
    kind: str
    colour: RGB
    points: float
    instances: int


@dataclass(frozen=True)
class SegmentPage:
    """The content of the page."""

    title: str
    lead: str
    warnings: Sequence[str]
    lines: list[Line]
    frames: list[ShownFrame]
    facts: dict[str, dict[str, str]]


def draw_frame(
    folder: Path,
    frame: CachedFrame,
    colours: NDArray[np.uint8],
    cameras: Sequence[tuple[Camera, NDArray[np.uint8]]],
    occlusion: Occlusion | None,
) -> ShownFrame:
    """Write the pictures of a frame, for a page in the folder.

    Args:
        colours: (N, 3), of its points.
        cameras: with their images.
        occlusion: when a camera does not see a point; None: it sees all that lie in its image.

    Raises:
        StorageError: the disk refuses.
    """
    half = float(np.clip(np.quantile(np.abs(frame.xyz[:, :2]), 0.97), _LEAST_M, _MOST_M))
    above = from_above(frame.xyz, colours, half)
    pictures = []
    for camera, image in cameras:
        projection = project(frame.xyz, camera)
        seen = unoccluded(projection, camera, occlusion) if occlusion else projection.inside
        rows = projection.far_to_near(seen)
        drawn = paint(image, projection.uv[rows], colours[rows])
        pictures.append(write_picture(folder, f"{frame.token}-{camera.channel}", drawn, camera.channel))
    title = f"from above, {half:.0f} m to every side"
    return ShownFrame(frame.token, pictures, write_picture(folder, f"{frame.token}-above", above, title))
