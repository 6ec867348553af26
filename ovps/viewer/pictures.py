"""Camera images with points over them, crops of segments, and where cameras stand: pure functions on arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from ovps.frame import Camera
from ovps.geometry.projection import project
from ovps.geometry.visibility import Occlusion, unoccluded
from ovps.report.colours import DIM

CROP_PX = 220  # longer side of a crop
_LEAST_PX = 24  # of a crop's side in the image, around the smallest of segments
_MARGIN = 0.35  # of the segment's size, around it on every side


@dataclass(frozen=True, eq=False)
class Seen:
    """The points that one camera sees.

    Attributes:
        camera: whose intrinsics are those of `image`.
        image: (H, W, 3) uint8.
        rows: (M,) int64, points of the frame, farthest first.
        uv: (M, 2) float64, pixels.
    """

    camera: Camera
    image: NDArray[np.uint8]
    rows: NDArray[np.int64]
    uv: NDArray[np.float64]


def look(xyz: NDArray[np.float32], camera: Camera, image: NDArray[np.uint8], occlusion: Occlusion | None) -> Seen:
    """Find the points (N, 3) that a camera sees; without settings of the visibility test, all on its image."""
    projection = project(xyz, camera)
    visible = projection.inside if occlusion is None else unoccluded(projection, camera, occlusion)
    rows = projection.far_to_near(visible)
    return Seen(camera, image, rows, projection.uv[rows])


def with_points(seen: Seen, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, darkened, with its points over it, nearer ones on top; colours (N, 3) of all points of the frame.

    Points that are dim are left out: they would hide the image.
    """
    picture = (seen.image * 0.65).astype(np.uint8)
    height, width = picture.shape[:2]
    radius = max(0, round(width / 450))
    lit = (colours[seen.rows] != np.array(DIM)).any(axis=1)
    rows, (column, row) = seen.rows[lit], np.round(seen.uv[lit]).astype(int).T
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            y, x = np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)
            picture[y, x] = colours[rows]
    return picture


def crop(seen: Seen, inside: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    """Cut out of an image the box around some points of the frame (N,), with the box drawn; None: it sees none."""
    uv = seen.uv[inside[seen.rows]]
    if not len(uv):
        return None
    low, high = uv.min(axis=0), uv.max(axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2 * (1 + 2 * _MARGIN), _LEAST_PX / 2)
    height, width = seen.image.shape[:2]
    left, top = np.floor(np.maximum(middle - half, 0)).astype(int)
    right, bottom = np.ceil(np.minimum(middle + half, (width, height))).astype(int)
    picture = Image.fromarray(seen.image[top:bottom, left:right])
    scale = CROP_PX / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    box = (np.concatenate([low - 1.5, high + 1.5]) - (left, top, left, top)) * scale
    ImageDraw.Draw(picture).rectangle(box.tolist(), outline=(255, 255, 255), width=1)
    return np.asarray(picture)


def most_seen(pictures: list[Seen], inside: NDArray[np.bool_], count: int = 3) -> list[tuple[str, NDArray[np.uint8]]]:
    """Crops of a segment's points (N,) bool, by channel, from the cameras that see most of it."""
    ranked = sorted(pictures, key=lambda seen: -int(inside[seen.rows].sum()))
    crops = ((seen.camera.channel, crop(seen, inside)) for seen in ranked[:count])
    return [(channel, picture) for channel, picture in crops if picture is not None]


def jpeg(image: NDArray[np.uint8], quality: int = 82) -> bytes:
    """An image (H, W, 3) uint8 as JPEG."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return content.getvalue()


def png(image: NDArray[np.uint8]) -> bytes:
    """An image (H, W, 3) uint8 as PNG."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG", optimize=True)
    return content.getvalue()


@dataclass(frozen=True)
class Frustum:
    """Place and view of a camera in the LiDAR frame; x right, y down, z forward as in `ovps.frame`.

    Attributes:
        wxyz: rotation from the camera to the LiDAR frame, a unit quaternion.
        position: metres.
        fov: vertical, radians.
        aspect: width over height.
    """

    wxyz: tuple[float, float, float, float]
    position: tuple[float, float, float]
    fov: float
    aspect: float


def frustum(camera: Camera) -> Frustum:
    """The frustum of a camera."""
    lidar_from_camera = np.linalg.inv(camera.camera_from_lidar)
    x, y, z, w = Rotation.from_matrix(lidar_from_camera[:3, :3]).as_quat().tolist()
    half = camera.height / 2 / camera.intrinsics[1, 1]
    return Frustum(
        (w, x, y, z),
        tuple(lidar_from_camera[:3, 3].tolist()),
        float(2 * np.arctan(half)),
        float(camera.width / 2 / camera.intrinsics[0, 0] / half),
    )


def heading(cameras: Sequence[Camera]) -> float:
    """Azimuth in the LiDAR frame, radians, that the first camera looks to; along y where there is none."""
    if not cameras:
        return np.pi / 2
    x, y, _ = cameras[0].camera_from_lidar[2, :3]  # its axis z
    return float(np.arctan2(y, x))


def plan(
    xyz: NDArray[np.float32], colours: NDArray[np.uint8], centre: NDArray[np.floating], half: float, pixels: int = 220
) -> NDArray[np.uint8]:
    """Draw points (N, 3) from above, x right and y up, within `half` metres of a centre (2,): (pixels, pixels, 3)."""
    picture = np.full((pixels, pixels, 3), (20, 23, 27), np.uint8)
    place = ((xyz[:, :2] - centre) * (1, -1) / half + 1) / 2 * pixels
    order = np.argsort(xyz[:, 2], kind="stable")
    column, row = np.floor(place[order]).astype(int).T
    inside = (column >= 0) & (column < pixels - 1) & (row >= 0) & (row < pixels - 1)
    for dy in (0, 1):
        for dx in (0, 1):
            picture[row[inside] + dy, column[inside] + dx] = colours[order][inside]
    return picture


def pick(
    xyz: NDArray[np.float32], origin: NDArray[np.floating], direction: NDArray[np.floating], radius: float = 0.012
) -> int | None:
    """The point (N, 3) under a ray: of those within `radius` radians of it, the nearest to the eye by angle and depth.

    Args:
        origin, direction: of the ray, metres and any length, in the frame of the points.
    """
    offset = xyz.astype(np.float64) - origin
    unit = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    depth = offset @ unit
    aside = np.linalg.norm(offset - depth[:, None] * unit, axis=1)
    angle = np.arctan2(aside, np.maximum(depth, 1e-9))
    near = np.flatnonzero((depth > 0.1) & (angle < radius))
    if not len(near):
        return None
    # what is in front hides what is behind, unless it is much farther from the ray
    return int(near[np.argmin(np.log(depth[near]) + 2 * angle[near] / radius)])
