"""Images of a camera with distortion, as a pinhole camera would have taken them: OpenCV's undistortion.

The pinhole camera sees what lies within the distorted image everywhere (OpenCV's alpha and balance of 0), so that no
pixel is made up; what only the rims of the distorted image show is lost.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.folder.calibration import CameraModel
from ovps.extras import extra

Maps = tuple[NDArray[np.float32], NDArray[np.float32]]


@lru_cache(maxsize=32)
def pinhole(camera: CameraModel) -> tuple[float, float, float, float]:
    """Find the pinhole camera that images are brought to: fx, fy, cx, cy in pixels; the size stays.

    Raises:
        ValueError: no pinhole camera sees as much as this one.
    """
    if not camera.distorted:
        return camera.fx, camera.fy, camera.cx, camera.cy
    with extra("folder"):
        import cv2
    matrix, size = camera.matrix(), (camera.width, camera.height)
    coefficients = np.array(camera.distortion, np.float64)
    if camera.model == "fisheye":
        new = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(matrix, coefficients, size, np.eye(3), balance=0.0)
    else:
        new, _ = cv2.getOptimalNewCameraMatrix(matrix, coefficients, size, 0, size)
    fx, fy, cx, cy = (float(new[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not np.isfinite((fx, fy, cx, cy)).all() or min(fx, fy) <= 0:
        raise ValueError("no pinhole camera fits its distortion: the coefficients are of another model or order")
    return fx, fy, cx, cy


def undistort(image: NDArray[np.uint8], camera: CameraModel) -> NDArray[np.uint8]:
    """Bring an image (height, width, 3) uint8, as it is stored, to that of `pinhole(camera)`, of the same size."""
    if not camera.distorted:
        return image
    with extra("folder"):
        import cv2
    across, down = _maps(camera)
    return np.asarray(cv2.remap(image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


@lru_cache(maxsize=16)
def _maps(camera: CameraModel) -> Maps:
    with extra("folder"):
        import cv2
    fx, fy, cx, cy = pinhole(camera)
    new = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    coefficients, size = np.array(camera.distortion, np.float64), (camera.width, camera.height)
    make = cv2.fisheye.initUndistortRectifyMap if camera.model == "fisheye" else cv2.initUndistortRectifyMap
    across, down = make(camera.matrix(), coefficients, np.eye(3), new, size, cv2.CV_32FC1)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)
