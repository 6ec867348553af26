"""Points over the image of a camera, coloured by what is said of them."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH = 960  # pixels of a picture
_NEAR_M, _FAR_M = 2.0, 80.0
_HIDDEN = (90, 90, 90)
_GROUND = (20, 23, 27)


def depth_colours(depth: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colour points (N,) by their depth in metres, (N, 3): near ones red, far ones blue, on a logarithmic scale."""
    place = np.log(np.clip(depth, _NEAR_M, _FAR_M) / _NEAR_M) / np.log(_FAR_M / _NEAR_M)
    return (255 * np.asarray(matplotlib.colormaps["turbo_r"](place))[:, :3]).astype(np.uint8)


def paint(
    image: NDArray[np.uint8],
    uv: NDArray[np.float64],
    colours: NDArray[np.uint8],
    width: int = WIDTH,
    dim: bool = True,
    dot: int | None = None,
) -> NDArray[np.uint8]:
    """Paint points over an image of at most `width` columns, darkened; later points lie over earlier ones.

    Args:
        image: (H, W, 3) uint8.
        uv: (M, 2) pixels of the whole image.
        colours: (M, 3) uint8.
        dot: side of a point, pixels of the picture; None: as its width asks for.
    """
    scale = min(1.0, width / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture: NDArray[np.uint8] = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    if dim:
        picture = (picture // 5 * 3).astype(np.uint8)
    place = np.floor((uv + 0.5) * scale).astype(np.int64)
    side = dot or _dot(size[0])
    offsets = range(-(side // 2), (side + 1) // 2)
    for down in offsets:
        for across in offsets:
            column = np.clip(place[:, 0] + across, 0, size[0] - 1)
            row = np.clip(place[:, 1] + down, 0, size[1] - 1)
            picture[row, column] = colours
    return picture


def _dot(width: int) -> int:
    """Side of a point on a picture of some width: it is seen where a page shows the picture at a third of its size."""
    return max(2, round(width / 320))


def depth_overlay(
    image: NDArray[np.uint8], uv: NDArray[np.float64], depth: NDArray[np.float64], visible: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Paint points (M,) inside an image by depth, near ones last; those that something nearer hides are grey."""
    order = np.lexsort((-depth, visible))
    colours = np.where(visible[:, None], depth_colours(depth), np.array(_HIDDEN, np.uint8))
    return paint(image, uv[order], colours[order])


def from_above(
    xyz: NDArray[np.floating], colours: NDArray[np.uint8], half_m: float, width: int = WIDTH
) -> NDArray[np.uint8]:
    """Draw points (N, 3), metres, from above, x right and y up, over `half_m` to every side; high ones on top."""
    inside = (np.abs(xyz[:, :2]) < half_m).all(axis=1)
    order = np.argsort(xyz[inside, 2], kind="stable")
    across, up = (xyz[inside][order, :2] / half_m * (width / 2)).T
    ground = np.full((width, width, 3), _GROUND, np.uint8)
    return paint(ground, np.stack([width / 2 + across, width / 2 - up], axis=1), colours[inside][order], dim=False)


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture (H, W, 3) uint8."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()
