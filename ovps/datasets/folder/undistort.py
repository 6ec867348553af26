"""Images of a camera with distortion, as a pinhole camera would have taken them: OpenCV's undistortion.

The pinhole camera sees what lies within the distorted image everywhere (OpenCV's alpha and balance of 0), so that no
pixel is made up; what only the rims of the distorted image show is lost. Of a fisheye too wide for that it sees 140
degrees at most.

Coefficients are polynomials that were fitted to some part of the image, and turn back somewhere: beyond that the image
would be folded over itself. Those of real lenses may do so within the corners of the distorted image (with k1 = -0.3
alone at 0.70 focal lengths from the centre), which is lost anyway. So what is judged is the image that is made.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.folder.calibration import CameraModel
from ovps.extras import extra

Maps = tuple[NDArray[np.float32], NDArray[np.float32]]
LENS_REMEDY = (
    "Check `model`, and the order and decimal points of `distortion`; calibrate with the corners of the image, too"
)
_WIDEST, _ACROSS = np.radians(70), np.radians(88)  # half of the field of view of a pinhole camera; where none sees
_JUDGED = 96  # pixels of the longer side at which an undistorted image is judged


class Judged(NamedTuple):
    """Shares of the images of a camera that are lost with their distortion.

    Attributes:
        folded: share of such an image that is folded over itself: the map from it to the distorted one turns over.
        made_up: share of it, of the rest, that lies outside the distorted image.
        shown: share of the distorted image that it spans.
    """

    folded: float
    made_up: float
    shown: float


# With 5,243 made-up lenses of up to 144 degrees whose polynomial does not turn back within the image nothing was
# folded, up to 0.21 made up, and all but 11 showed more than 0.1.
_REFUSED = Judged(folded=0.1, made_up=0.4, shown=0.02)
_TOLD = Judged(folded=0.03, made_up=0.03, shown=0.25)


def pinhole(camera: CameraModel) -> tuple[float, float, float, float]:
    """Find the pinhole camera that images are brought to: fx, fy, cx, cy in pixels; the size stays.

    Raises:
        ValueError: no pinhole camera sees as much as this one, or what it would see is no picture.
    """
    found, loss = _pinhole(camera), _loss(camera, _REFUSED)
    if loss:
        raise ValueError(loss)
    return found


def odd_lens(camera: CameraModel) -> str | None:
    """Say what undistorted images of a camera that `pinhole` takes lose, if it is much; None if it is not."""
    return _loss(camera, _TOLD)


def _loss(camera: CameraModel, limits: Judged) -> str | None:
    what, why = judged(camera), f"by distortion {list(camera.distortion)} of model {camera.model}"
    if what.folded > limits.folded:
        return f"{why} {what.folded:.0%} of an undistorted image is folded over itself"
    if what.made_up > limits.made_up:
        return f"{why} {what.made_up:.0%} of an undistorted image lies outside the image and is made up"
    if what.shown < limits.shown:
        return f"{why} an undistorted image shows {what.shown:.1%} of the image"
    return None


@lru_cache(maxsize=32)
def judged(camera: CameraModel) -> Judged:
    """Judge undistorted images of a camera.

    Raises:
        ValueError: no pinhole camera sees as much as this one.
    """
    if not camera.distorted:
        return Judged(0.0, 0.0, 1.0)
    scale = _JUDGED / max(camera.width, camera.height)
    size = max(2, round(scale * camera.width)), max(2, round(scale * camera.height))
    with np.errstate(invalid="ignore", over="ignore"):  # of coefficients that lead to infinity
        across, down = (values.astype(np.float64) for values in _maps(camera, size))
        (across_y, across_x), (down_y, down_x) = np.gradient(across), np.gradient(down)
        upright = across_x * down_y - across_y * down_x > 0
    inside = (across >= -1) & (across <= camera.width) & (down >= -1) & (down <= camera.height)
    extent = np.ptp(across[inside]) * np.ptp(down[inside]) if inside.any() else 0.0
    return Judged(
        folded=float((~upright).mean()),
        made_up=float((upright & ~inside).mean()),
        shown=float(extent / (camera.width * camera.height)),
    )


@lru_cache(maxsize=32)
def _pinhole(camera: CameraModel) -> tuple[float, float, float, float]:
    if not camera.distorted:
        return camera.fx, camera.fy, camera.cx, camera.cy
    with extra("folder"):
        import cv2
    matrix, size = camera.matrix(), (camera.width, camera.height)
    coefficients = np.array(camera.distortion, np.float64)
    fisheye = camera.model == "fisheye"
    if fisheye and _reach(camera).max() >= _ACROSS:  # OpenCV looks for the edges in a plane in front of the camera
        fx, fy, cx, cy = _middle(camera)
    else:
        if fisheye:
            new = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
                matrix, coefficients, size, np.eye(3), balance=0.0
            )
        else:
            new, _ = cv2.getOptimalNewCameraMatrix(matrix, coefficients, size, 0, size)
        fx, fy, cx, cy = (float(new[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
        if fisheye and min(fx / camera.width, fy / camera.height) < 0.5 / np.tan(_WIDEST):
            fx, fy, cx, cy = _middle(camera)
    if not np.isfinite((fx, fy, cx, cy)).all() or min(fx, fy) <= 0:
        raise ValueError(f"no pinhole camera fits distortion {list(camera.distortion)} of model {camera.model}")
    return fx, fy, cx, cy


def _reach(camera: CameraModel) -> NDArray[np.float64]:
    """Angles in radians, from where a fisheye looks, of the middles of its left, right, upper and lower edge.

    OpenCV's model: a ray at the angle t falls t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8) focal lengths from the centre.
    """
    angle = np.linspace(0, np.pi, 1801)
    with np.errstate(invalid="ignore", over="ignore"):  # of coefficients that lead to infinity
        falls = angle * np.polyval([*camera.distortion[::-1], 1.0], angle**2)
        turns = np.flatnonzero(~(np.diff(falls) > 0))  # where the polynomial turns back
    known = slice(0, turns[0] + 1 if len(turns) else None)
    edges = (
        camera.cx / camera.fx,
        (camera.width - camera.cx) / camera.fx,
        camera.cy / camera.fy,
        (camera.height - camera.cy) / camera.fy,
    )
    return np.interp(edges, falls[known], angle[known])


def _middle(camera: CameraModel) -> tuple[float, float, float, float]:
    """The pinhole camera that sees the middle of a fisheye too wide for one: `_WIDEST` to a side at most."""
    left, right, up, down = np.tan(np.minimum(_reach(camera), _WIDEST))
    with np.errstate(divide="ignore"):  # where the centre lies outside of the image
        fy = max(camera.width / 2 / min(left, right) * camera.fy / camera.fx, camera.height / 2 / min(up, down))
    return float(fy * camera.fx / camera.fy), float(fy), camera.width / 2, camera.height / 2


def undistort(image: NDArray[np.uint8], camera: CameraModel) -> NDArray[np.uint8]:
    """Bring an image (height, width, 3) uint8, as it is stored, to that of `pinhole(camera)`, of the same size."""
    if not camera.distorted:
        return image
    with extra("folder"):
        import cv2
    across, down = _maps(camera, (camera.width, camera.height))
    return np.asarray(cv2.remap(image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


@lru_cache(maxsize=16)
def _maps(camera: CameraModel, size: tuple[int, int]) -> Maps:
    """Places (height, width) in the distorted image, pixels, of each pixel of the undistorted one scaled to `size`."""
    with extra("folder"):
        import cv2
    fx, fy, cx, cy = _pinhole(camera)
    across, down = size[0] / camera.width, size[1] / camera.height
    new = np.array([[fx * across, 0, cx * across], [0, fy * down, cy * down], [0, 0, 1]])
    make = cv2.fisheye.initUndistortRectifyMap if camera.model == "fisheye" else cv2.initUndistortRectifyMap
    maps = make(camera.matrix(), np.array(camera.distortion, np.float64), np.eye(3), new, size, cv2.CV_32FC1)
    return np.asarray(maps[0], np.float32), np.asarray(maps[1], np.float32)
