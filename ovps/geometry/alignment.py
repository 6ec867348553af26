"""Do the edges of the points lie on those of the images? The one thing that tells a camera which looks the wrong way.

Ground lies below and houses stand around whichever way a camera looks, so that points which are turned by 90 degrees,
or mirrored, still seem to fill its image. But where something near ends to the left or right, the image has an edge,
too [Levinson and Thrun 2013, Automatic Online Calibration of Cameras and Lasers]. The score of a camera is by how much
the horizontal gradient of its images is stronger at such points than at the others, as a rank among the pixels of the
same height: 0 is chance. The score of the given calibration is compared with those of the seven others that differ by
quarter turns about z and a mirror; one that is clearly better is named. A turn by two degrees brings the score down to
chance: other mistakes are not seen here, and nothing is said of them.

docs/own_recording.md says how often it was right on six rigs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ovps.frame import Camera
from ovps.geometry.projection import project

_NEAR_M, _FAR_M = 3.0, 60.0
_STEP_DEG = 0.5  # across: cells in which ranges are compared
_RISE_DEG = 0.6
_NEIGHBOURS = (-2, -1, 1, 2)
_NEARER = 0.15  # of its range: by how much a point stands before what is beside it
_WIDTH = 640  # pixels of the images that are looked at: 0.1 to 0.2 degrees each
_BANDS = 16  # of an image, in which gradients are ranked
_LEAST, _LEAST_BLIND = 0.08, 0.12  # scores that an explanation has; where nothing is seen as given
_BETTER = 0.04
_SIGMAS = 3.5
_DEVIATION = 0.58  # of one point's rank: 0.29, and twice that because points along one edge say the same
_FEW = 50  # points at edges

# by what x and y would have to be in terms of those that are given, the first as they are
TURNS = {
    "x, y": np.diag([1.0, 1, 1, 1]),
    "-y, x": np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "-x, -y": np.diag([-1.0, -1, 1, 1]),
    "y, -x": np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "x, -y": np.diag([1.0, -1, 1, 1]),
    "-x, y": np.diag([-1.0, 1, 1, 1]),
    "y, x": np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "-y, -x": np.array([[0.0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
}
_GIVEN, *_OTHERS = TURNS
_MEANS = {
    "-y, x": "they are turned by 90 degrees about z",
    "-x, -y": "they are turned by 180 degrees about z",
    "y, -x": "they are turned by 90 degrees about z",
}


class Alignment:
    """Scores of cameras over some frames, for the given calibration and for those that it may be mistaken for."""

    def __init__(self) -> None:
        # by camera: a row for each of TURNS, of rank sum and number at edges, rank sum and number elsewhere
        self._sums: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros((len(TURNS), 4)))

    def add(self, xyz: NDArray[np.floating], camera: Camera, image: NDArray[np.uint8]) -> None:
        """Count an image (height, width, 3) and the points (N, 3), metres, that its camera may see; z is up."""
        reach = np.linalg.norm(xyz, axis=1)
        edge, near = left_or_right_edges(xyz), (reach > _NEAR_M) & (reach < _FAR_M)
        ranks = gradient_ranks(image)
        scale = np.array(ranks.shape[::-1]) / (camera.width, camera.height)
        for row, turn in enumerate(TURNS.values()):
            seen = project(xyz, replace(camera, camera_from_lidar=camera.camera_from_lidar @ turn))
            for place, points in ((0, seen.inside & near & edge), (2, seen.inside & near & ~edge)):
                column, line = ((seen.uv[points] + 0.5) * scale).astype(int).T
                self._sums[camera.channel][row, place : place + 2] += ranks[line, column].sum(), points.sum()

    def scores(self, cameras: Sequence[str] | None = None) -> dict[str, float]:
        """Scores by the names of TURNS, of some cameras together, or of all."""
        return {name: score for name, (score, _) in self._scores(cameras).items()}

    def mistakes(self) -> list[str]:
        """Say what all cameras together speak for, else what single ones do; nothing if what is given fits as well."""
        together = self._mistake(None)
        if together:
            name, better = together
            return [f"the points do not fit the images. {_said(name, better)}"]
        alone = {camera: self._mistake([camera]) for camera in self._sums}
        return [
            f"{camera}: the points do not fit its images. {_said(*found)}" for camera, found in alone.items() if found
        ]

    def _mistake(self, cameras: Sequence[str] | None) -> tuple[str, str] | None:
        scores = self._scores(cameras)
        given, seen = scores[_GIVEN]
        name = max(_OTHERS, key=lambda name: scores[name][0])
        other, number = scores[name]
        noise = _DEVIATION * np.sqrt(1 / max(number, 1) + (1 / seen if seen else 0))
        least = _LEAST if seen else _LEAST_BLIND
        if other < least or other - given < max(_BETTER, _SIGMAS * noise):
            return None
        return name, f"{other:.2f} against {given:.2f}"

    def _scores(self, cameras: Sequence[str] | None) -> dict[str, tuple[float, float]]:
        """Score and number of points at edges; no score where those are few."""
        of = self._sums.keys() if cameras is None else cameras
        sums = np.sum([self._sums[camera] for camera in of], axis=0) if of else np.zeros((len(TURNS), 4))
        return {
            name: (at / edges - elsewhere / others, edges) if edges >= _FEW and others else (0.0, 0.0)
            for name, (at, edges, elsewhere, others) in zip(TURNS, sums, strict=True)
        }


def left_or_right_edges(xyz: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Points (N, 3) beside which, at the same height as the origin sees it, there is only what is clearly farther."""
    reach = np.linalg.norm(xyz, axis=1)
    around = round(360 / _STEP_DEG)
    column = np.floor(np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) * around).astype(int) % around
    rise = np.arcsin(np.clip(xyz[:, 2] / np.maximum(reach, 1e-6), -1, 1))
    row = np.floor((rise + np.pi / 2) / np.deg2rad(_RISE_DEG)).astype(int)
    nearest = np.full((row.max(initial=0) + 1, around), np.inf)
    np.minimum.at(nearest, (row, column), reach)
    beside = np.stack([nearest[row, (column + step) % around] for step in _NEIGHBOURS])
    farther = np.where(np.isfinite(beside), beside, 0).max(axis=0) > (1 + _NEARER) * reach
    return farther & (nearest[row, column] > 0.97 * reach)


def gradient_ranks(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Strength of the edges to left and right (height, width) as a rank from 0 to 1 in a band of rows, 640 px wide."""
    size = (_WIDTH, max(1, round(image.shape[0] * _WIDTH / image.shape[1])))
    grey = np.asarray(Image.fromarray(image).convert("L").resize(size, Image.Resampling.BOX), np.float64)
    strength = np.abs(ndimage.gaussian_filter(grey, (1.5, 1.0), order=(0, 1)))
    strength = ndimage.maximum_filter1d(strength, 5, axis=1)
    bands = np.array_split(strength, min(_BANDS, len(strength)))
    return np.concatenate([(band.ravel().argsort().argsort() / band.size).reshape(band.shape) for band in bands])


def _said(name: str, better: str) -> str:
    return (
        f"Likely {_MEANS.get(name, 'they are mirrored')}, against the axes that the camera's pose is written in: they"
        f" would fit with {name} in place of x, y (how well edges lie on edges: {better}, where 0 is chance)"
    )
