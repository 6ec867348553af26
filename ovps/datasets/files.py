"""Reading one frame's files: every fault becomes a FrameError that names the file. Shared by the data sets."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ovps.errors import FrameError
from ovps.frame import Camera

AGAIN = "Download or copy the file again, or leave the frame out with --on-error skip"


def read_float32_rows(path: str, columns: int, token: str) -> NDArray[np.float32]:
    """A headless binary of float32 rows, (N, columns), N > 0, all finite.

    Raises:
        FrameError: missing, unreadable, cut off, empty, or with NaN or infinity.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable("point file", path, token, error) from error
    row_bytes = 4 * columns
    if not raw:
        raise FrameError("the point file is empty", path=path, frame=token, remedy=AGAIN)
    if len(raw) % row_bytes:
        raise FrameError(
            f"the point file is cut off: {len(raw)} bytes are not a multiple of {row_bytes}",
            path=path,
            frame=token,
            remedy=AGAIN,
        )
    rows = np.frombuffer(raw, "<f4").reshape(-1, columns)
    broken = ~np.isfinite(rows).all(axis=1)
    if broken.any():
        raise FrameError(
            f"{broken.sum()} of {len(rows)} points hold NaN or infinity, the first is point {broken.argmax()}",
            path=path,
            frame=token,
            remedy=AGAIN,
        )
    return rows


def read_npz_uint16(path: str, token: str) -> NDArray[np.uint16]:
    """The array `data` of an npz file, (N,) uint16; never unpickles.

    Raises:
        FrameError: missing, unreadable, damaged, without `data`, or of another shape or type.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            labels = archive["data"]
    except OSError as error:
        raise _unreadable("label file", path, token, error) from error
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise FrameError(f"the label file cannot be read: {error}", path=path, frame=token, remedy=AGAIN) from error
    if labels.dtype != np.uint16 or labels.ndim != 1:
        raise FrameError(
            f"labels are {labels.dtype} of shape {labels.shape}, expected uint16 (N,)",
            path=path,
            frame=token,
            remedy=AGAIN,
        )
    return labels


def read_rgb(camera: Camera) -> NDArray[np.uint8]:
    """The image of a camera as RGB (height, width, 3) uint8.

    Raises:
        FrameError: missing, unreadable, cut off, or of another size than the calibration is for.
    """
    path = camera.image_path
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameError(f"the image of {camera.channel} cannot be read: {error}", path=path, remedy=AGAIN) from error
    except OSError as error:  # also what PIL raises for a truncated image
        raise _unreadable(f"image of {camera.channel}", path, None, error) from error
    if pixels.shape[:2] != (camera.height, camera.width):
        raise FrameError(
            f"the image of {camera.channel} is {pixels.shape[1]}x{pixels.shape[0]} pixels, its calibration is for"
            f" {camera.width}x{camera.height}",
            path=path,
            remedy="Use the image as the data set ships it, not a resized copy",
        )
    return pixels


def _unreadable(what: str, path: str, token: str | None, error: OSError) -> FrameError:
    message = (
        f"the {what} does not exist" if isinstance(error, FileNotFoundError) else f"the {what} is damaged: {error}"
    )
    return FrameError(message, path=path, frame=token, remedy=AGAIN)
