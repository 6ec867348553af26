"""The cameras of a frame: as rows of a manifest, as objects, and their images as thumbnails."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cache_schemas import CameraRow
from ovps.frame import Camera
from ovps.geometry.cells import CellGrid

_QUALITY = 80  # of the JPEG: pictures for people


def row_of_camera(camera: Camera, seen: int, cells: CellGrid, dataroot: Path, thumbnail_bytes: int = 0) -> CameraRow:
    """The row of a camera that sees `seen` points, its image named relative to the data root."""
    return CameraRow(
        channel=camera.channel,
        image_path=Path(os.path.relpath(camera.image_path, dataroot)).as_posix(),
        width=camera.width,
        height=camera.height,
        timestamp_us=camera.timestamp_us,
        intrinsics=tuple(camera.intrinsics.astype(np.float64).ravel().tolist()),
        camera_from_lidar=tuple(camera.camera_from_lidar.astype(np.float64).ravel().tolist()),
        seen=seen,
        cell_rows=cells.rows,
        cell_cols=cells.cols,
        cell_stride=cells.stride,
        thumbnail_bytes=thumbnail_bytes,
    )


def camera_of(row: CameraRow, dataroot: Path | None = None) -> Camera:
    """The camera of a row; its image path is relative unless a data root is given."""
    return Camera(
        channel=row.channel,
        image_path=str(dataroot / row.image_path) if dataroot else row.image_path,
        width=row.width,
        height=row.height,
        intrinsics=np.array(row.intrinsics).reshape(3, 3),
        camera_from_lidar=np.array(row.camera_from_lidar).reshape(4, 4),
        timestamp_us=row.timestamp_us,
    )


def cells_of(row: CameraRow) -> CellGrid:
    """The feature map that was laid over the image of a camera."""
    return CellGrid(row.cell_rows, row.cell_cols, row.cell_stride)


def resized(camera: Camera, width: int, height: int) -> Camera:
    """The same camera with an image of another size. Pixel (u, v) is the centre of column u, row v, in both."""
    scale = np.array([width / camera.width, height / camera.height])
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2] *= scale[:, None]
    intrinsics[:2, 2] += (scale - 1) / 2
    return replace(camera, width=width, height=height, intrinsics=intrinsics)


def encode_thumbnail(image: NDArray[np.uint8], width: int) -> bytes:
    """An image (H, W, 3) uint8 as JPEG of at most this many columns."""
    picture = Image.fromarray(image)
    if width < picture.width:
        picture = picture.resize((width, max(1, round(picture.height * width / picture.width))), Image.Resampling.BOX)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()


def decode_thumbnail(content: bytes) -> NDArray[np.uint8]:
    """The image (H, W, 3) uint8 of a thumbnail."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))
