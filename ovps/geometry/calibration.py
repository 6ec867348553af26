"""Can these numbers be the calibration of a pinhole rig? A wrong one projects points somewhere, and nobody notices.

Refused is what no rig has: place holders, matrices that are transposed or mirrored, numbers of another unit or another
resolution. The limits leave room for wide angles, telephoto lenses and cropped images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovps.errors import FrameError
from ovps.frame import Camera, Frame

_FOCAL = (0.1, 20.0)  # of the image's longer side: a field of view of 157 and of 3 degrees
_STRETCH = 3.0  # pixels that are not square
_OUTSIDE = 0.5  # of the image's side that the centre of a cropped image may lie outside
_OFF_CENTRE = 0.2  # of both sides, the same way, as no crop of a rig does: the numbers are of another resolution
_ALIKE = 0.25
_ODD_STRETCH = 1.2  # as of images that were scaled by two factors; cameras have square pixels
_ODD_CENTRE = 0.25  # of the image's side from its middle, as of a cropped image
_SAME = 1e-3  # what rounding to a few digits leaves of a rotation
_FAR_M = 100.0  # no vehicle is longer, or drives so far between the time stamps of its sensors

_PIXELS = "Intrinsics are [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels of the image as it is stored"
_RIGID = "Poses are right-handed rotations with a translation in metres"


def check_calibration(frame: Frame) -> None:
    """Refuse a frame whose calibration cannot be that of a rig of pinhole cameras.

    Raises:
        FrameError: names the camera and what its numbers look like.
    """
    fault = rigid_fault(frame.global_from_lidar)
    if fault:
        raise FrameError(f"the pose of the LiDAR {fault}", path=frame.points_path, frame=frame.token, remedy=_RIGID)
    for camera in frame.cameras:
        fault, remedy = _camera_fault(camera)
        if fault:
            raise FrameError(
                f"the {fault} (camera {camera.channel})",
                path=camera.image_path,
                frame=frame.token,
                remedy=remedy,
            )


def _camera_fault(camera: Camera) -> tuple[str | None, str]:
    """What is wrong with a camera, if anything, and what would be right."""
    if camera.width < 1 or camera.height < 1:
        return f"image size is given as {camera.width}x{camera.height}", "Give width and height in pixels"
    fault = intrinsics_fault(camera.intrinsics, camera.width, camera.height)
    if fault:
        return f"intrinsics {fault}", _PIXELS
    fault = rigid_fault(camera.camera_from_lidar)
    if fault:
        return f"pose {fault}", _RIGID
    distance = float(np.linalg.norm(camera.camera_from_lidar[:3, 3]))
    if distance > _FAR_M:
        far = f"pose puts the camera {distance:,.0f} m from the LiDAR"
        return far, "Poses of camera and LiDAR belong to one drive and one moment, in metres"
    return None, ""


def intrinsics_fault(intrinsics: NDArray[np.float64], width: int, height: int) -> str | None:
    """Say what is wrong with a camera matrix (3, 3) for images of `width` x `height` pixels; None if nothing is.

    >>> intrinsics_fault(np.eye(3), 1600, 900)
    'are the identity matrix, a place holder'
    """
    size = np.array([width, height])
    focal, centre = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
    if not np.isfinite(intrinsics).all():
        return "hold NaN or infinity"
    if np.array_equal(intrinsics, np.eye(3)):
        return "are the identity matrix, a place holder"
    if not _is_last_row(intrinsics[2]):
        if _is_last_row(intrinsics[:, 2]):
            return "are transposed: the centre stands in the last row instead of the last column"
        return f"have the last row {_numbers(intrinsics[2])}, expected 0, 0, 1"
    if (focal == 0).any():
        return "have a focal length of 0"
    if (focal < 0).any():
        return f"have a negative focal length: {_numbers(focal)}"
    if (focal < 50).all() and (np.abs(centre) <= 1).all():
        return "are normalised to an image of size 1: multiply the first row by the width, the second by the height"
    share = centre / size
    if _is_of_another_resolution(share):
        scale = 2 * share.mean()
        return (
            f"are of another resolution: their centre is ({_numbers(centre)}), that of an image about {scale:.2g} times"
            f" as large as {width}x{height}"
        )
    if ((share < -_OUTSIDE) | (share > 1 + _OUTSIDE)).any():
        return f"have their centre at ({_numbers(centre)}), far outside the image of {width}x{height}"
    if focal.min() < _FOCAL[0] * size.max() or focal.max() > _FOCAL[1] * size.max():
        angle = np.rad2deg(2 * np.arctan(size[0] / focal[0] / 2))
        return f"have the focal lengths {_numbers(focal)} px, a field of view of {angle:.3g} degrees"
    if focal.max() > _STRETCH * focal.min():
        return f"have focal lengths that do not go together: {_numbers(focal)} px"
    if abs(intrinsics[0, 1]) > 0.1 * focal[0] or abs(intrinsics[1, 0]) > _SAME:
        return f"have a skew of {_numbers(intrinsics[[0, 1], [1, 0]])}"
    return None


def odd_intrinsics(frames: Iterable[Frame]) -> list[str]:
    """Find cameras whose intrinsics may be right, of scaled or cropped images, and may have numbers exchanged.

    Those of undistorted images are nobody's numbers, and are passed over.

    Returns:
        A sentence for each camera and kind, of the first frame that has it.
    """
    found: dict[tuple[str, str], str] = {}
    known = set()
    for frame in frames:
        for camera in frame.cameras:
            key = camera.channel, camera.width, camera.height, camera.intrinsics.tobytes()
            if key not in known and not camera.undistorted:
                known.add(key)
                for kind, text in odd_numbers(camera.channel, camera.intrinsics, camera.width, camera.height):
                    found.setdefault((camera.channel, kind), text)
    return list(found.values())


def odd_numbers(
    name: str, intrinsics: NDArray[np.float64], width: int, height: int
) -> Iterator[tuple[Literal["stretch", "centre"], str]]:
    """Find what is odd in the intrinsics (3, 3) of one camera, pixels: kinds and sentences.

    Args:
        name: of the camera.
        width, height: of its images, pixels.
    """
    focal, centre = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
    size = np.array([width, height])
    else_two = "else two of fx, fy, cx and cy may be exchanged"
    if focal.max() > _ODD_STRETCH * focal.min():
        right = "right only if its images were scaled by different factors"
        yield "stretch", f"{name} has the focal lengths {_numbers(focal)} px: {right}; {else_two}"
    if (np.abs(centre - size / 2) > _ODD_CENTRE * size).any():
        where = f"({_numbers(centre)}) of {width}x{height} pixels"
        yield "centre", f"{name} has its centre at {where}: right only if its images were cropped; {else_two}"


def rigid_fault(matrix: NDArray[np.float64]) -> str | None:
    """Say what keeps a matrix (4, 4) from being a rotation and a translation; None if nothing does.

    >>> rigid_fault(np.diag([1.0, -1.0, 1.0, 1.0]))
    'is a mirror image: its axes are left-handed'
    """
    if not np.isfinite(matrix).all():
        return "holds NaN or infinity"
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        return f"has the last row {_numbers(matrix[3])}, expected 0, 0, 0, 1"
    axes = matrix[:3, :3]
    gram = axes.T @ axes
    scale = float(np.sqrt(np.trace(gram) / 3))
    if scale == 0 or not np.allclose(gram / scale**2, np.eye(3), rtol=0, atol=_SAME):
        return "is no rotation: its axes are not at right angles or not of one length"
    if abs(scale - 1) > _SAME:
        return f"is scaled by {scale:.4g}, a rotation is not"
    if np.linalg.det(axes) < 0:
        return "is a mirror image: its axes are left-handed"
    return None


def _is_last_row(values: NDArray[np.float64]) -> bool:
    return bool(np.allclose(values, (0, 0, 1), rtol=0, atol=1e-6))


def _is_of_another_resolution(share: NDArray[np.float64]) -> bool:
    """Both shares of the centre in the image's size are off the middle, by the same factor."""
    off = share - 0.5
    if not ((off > _OFF_CENTRE).all() or ((off < -_OFF_CENTRE).all() and (share > 0).all())):
        return False
    return abs(share[0] - share[1]) <= _ALIKE * share.max()


def _numbers(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
