"""Visibility of LiDAR points in a camera: those in the image that nothing hides.

The LiDAR looks over cars and walls that stand in a camera's way, so some of the points inside an image are hidden
there, and would take the feature of what hides them. Our choice, after the screen-space operators of Pintus et al.
(2011) and Biasutti et al. (2019): judge a point by the nearer points around it in the image.

A sweep is sparse: neighbouring beams are 30 px apart in a nuScenes image, so a depth buffer fine enough to be right
has holes, and one coarse enough to be closed hides ground behind nearer ground. Here a point is hidden when clearly
nearer points lie *both above and below* it, within one gap between beams. Ground and every other surface that
recedes has its nearer points on one side only and stays visible. What this cannot see: a surface hit by a single beam
hides nothing, nor does the strip between a surface's outermost beam and its true edge. Against exact rays in synthetic
scenes it finds 74 to 94 % of the hidden points and hides 0.3 % of the visible ones. In the drive world it halves the
points that fall on a pixel of another class (5.4 to 2.7 %). On a real nuScenes frame it hides 4 % of the points inside
an image, most of them along poles, signs and the edges of vehicles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ovps.frame import Camera
from ovps.geometry.projection import Projection

_ROWS_PER_GAP = 4  # rows of the depth buffer per gap between beams
_FINEST = 4096  # rows and columns of it over an image: finer than the beams of a LiDAR, so that memory has an end
_GAPS_DEG = {  # of LiDARs, with room; in radians all but the widest are less
    "vertical_deg": (0.05, 10.0, "the gap between two beams"),
    "horizontal_deg": (0.02, 10.0, "the step between two pulses"),
}


class Occlusion(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Thresholds of what counts as hidden. The defaults suit the 32 beams of nuScenes; finer LiDARs may use less.

    Attributes:
        vertical_deg: how far above and below to look; at least the gap between two beams.
        horizontal_deg: how far to the sides; at least the step between two pulses.
        tolerance_m, tolerance_ratio: nearer by more than `tolerance_m + tolerance_ratio * depth` hides.
    """

    vertical_deg: float = Field(default=1.4, gt=0)
    horizontal_deg: float = Field(default=0.4, gt=0)
    tolerance_m: float = Field(default=0.5, ge=0)
    tolerance_ratio: float = Field(default=0.03, ge=0)


def senseless(occlusion: Occlusion) -> str | None:
    """Say what suits no LiDAR in the thresholds of a data set; None if nothing is wrong with them."""
    for name, (least, most, what) in _GAPS_DEG.items():
        angle = getattr(occlusion, name)
        if not least <= angle <= most:
            degrees = float(np.rad2deg(angle))
            radians = f"; are these radians? They would be {degrees:.3g} degrees" if least <= degrees <= most else ""
            return f"{name} is {angle:g}, expected {least:g} to {most:g} degrees: {what}{radians}"
    if occlusion.tolerance_ratio > 1:
        return f"tolerance_ratio is {occlusion.tolerance_ratio:g}, expected 0 to 1, a share of the distance"
    return None


def unoccluded(projection: Projection, camera: Camera, occlusion: Occlusion | None = None) -> NDArray[np.bool_]:
    """Points (N,) bool that are inside the image and not hidden by nearer points of the same sweep.

    Args:
        projection: of all points of the sweep into `camera`.
        occlusion: None takes the defaults.
    """
    settings = occlusion or Occlusion()
    visible = projection.inside.copy()
    seen = np.flatnonzero(visible)
    if len(seen) == 0:
        return visible
    depth = projection.depth[seen]
    row_px = camera.intrinsics[1, 1] * np.deg2rad(settings.vertical_deg) / _ROWS_PER_GAP
    column_px = camera.intrinsics[0, 0] * np.deg2rad(settings.horizontal_deg)
    row_px, column_px = max(row_px, camera.height / _FINEST), max(column_px, camera.width / _FINEST)
    # a border of empty cells, so that looking beyond the image needs no special case
    column = np.floor(projection.uv[seen, 0] / column_px).astype(np.int64) + 1
    row = np.floor(projection.uv[seen, 1] / row_px).astype(np.int64) + _ROWS_PER_GAP
    nearest = np.full((row.max() + _ROWS_PER_GAP + 1, column.max() + 2), np.inf)
    np.minimum.at(nearest, (row, column), depth)

    sideways = nearest.copy()
    sideways[:, 1:] = np.minimum(sideways[:, 1:], nearest[:, :-1])
    sideways[:, :-1] = np.minimum(sideways[:, :-1], nearest[:, 1:])
    steps = range(1, _ROWS_PER_GAP + 1)
    above = np.min([sideways[row - step, column] for step in steps], axis=0)
    below = np.min([sideways[row + step, column] for step in steps], axis=0)
    tolerance = settings.tolerance_m + settings.tolerance_ratio * depth
    visible[seen] = np.maximum(above, below) >= depth - tolerance
    return visible
