"""Reading one frame's files: every fault becomes a FrameError that names the file. Shared by the data sets.

`again` is what a data set says of files that are missing or damaged: where a whole one comes from.
"""

from __future__ import annotations

import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ovps.datasets.near_names import said_beside
from ovps.errors import FrameError, right_to_read
from ovps.frame import Camera
from ovps.picture_files import colour_fault, count_pictures, ends_in_zeros
from ovps.shortage import faults

MOST_PIXELS = 2**27  # of an image, as a limit of our own: importing the nuScenes devkit puts Pillow's out of force
_AS_SHIPPED = "Use the image as the data set ships it, neither resized nor edited"
_EIGHT_BITS = "Save the images with 8 bits a channel, as grey or RGB"
_LABELS_BYTES = 2**26  # of the labels of a sweep, unpacked: fifty times the largest
_ZEROS = 4096  # bytes at the end of a file: a block that was never filled

# zipfile: RuntimeError for what it cannot unpack, encrypted or of another method
_NO_LABELS = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)

# what else lies where a file should be, by its first bytes
_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS, fetch it with `git lfs pull`",
    b"\x00\x05\x16\x07": "a `._` file of macOS",
    b"# .PCD": "a PCD file with a header, not plain float32",
    b"\x93NUMPY": "an .npy file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


def read_float32_rows(path: str, columns: int, token: str, again: str) -> NDArray[np.float32]:
    """A headless binary of float32 rows, (N, columns), N > 0, all finite: no NaN is tolerated or dropped.

    Raises:
        FrameError: missing, unreadable, something else, cut off, empty, unfinished, or with NaN or infinity.
    """
    raw = read_bytes("point file", path, token, again)
    row_bytes = 4 * columns

    def refused(message: str, remedy: str = again) -> FrameError:
        return FrameError(f"the point file {message}", path=path, frame=token, remedy=remedy)

    found = recognised(raw)
    if found:
        raise refused(f"is {found}")
    if len(raw) % row_bytes:
        if len(raw) % 16 == 0 and is_kitti_scan(np.frombuffer(raw, "<f4")):
            raise refused(f"looks like 4 columns of float32, a KITTI scan; expected {columns}", _other_set(columns))
        if len(raw) % 20 == 0 and is_nuscenes_sweep(np.frombuffer(raw, "<f4")):
            raise refused(f"looks like 5 columns of float32, a nuScenes sweep; expected {columns}", _other_set(columns))
        raise refused(f"is cut off: {len(raw)} bytes are not a multiple of {row_bytes}")
    rows = np.frombuffer(raw, "<f4").reshape(-1, columns)
    with np.errstate(invalid="ignore"):  # of a NaN that signals, which is told below
        unfinished = len(raw) >= _ZEROS and not rows[-_ZEROS // row_bytes :].any()
    if unfinished:
        raise refused("ends in zeros: it was not copied to its end")
    broken = ~np.isfinite(rows).all(axis=1)
    if broken.any():
        raise refused(
            f"has {broken.sum()} of {len(rows)} points with NaN or infinity, the first is point {broken.argmax()}",
            again + "; in recordings of your own, leave such points and their labels out",
        )
    return rows


def is_kitti_scan(values: NDArray[np.float32]) -> bool:
    """Do these float32, read in fours, look like x, y, z in metres and a reflectance of 0..1?"""
    if values.size % 4:
        return False
    rows = values.reshape(-1, 4)
    sensible = (np.abs(rows[:, :3]) < 1000).all() and ((rows[:, 3] >= 0) & (rows[:, 3] <= 1)).all()
    return bool(sensible) and bool(rows[:, 3].any())


def is_nuscenes_sweep(values: NDArray[np.float32]) -> bool:
    """Do these float32, read in fives, look like x, y, z in metres, an intensity of 0..255 and a ring?"""
    if values.size % 5:
        return False
    rows = values.reshape(-1, 5)
    sensible = (np.abs(rows[:, :3]) < 1000).all() and ((rows[:, 3] >= 0) & (rows[:, 3] <= 255)).all()
    return bool(sensible) and bool(((rows[:, 4] % 1 == 0) & (rows[:, 4] >= 0) & (rows[:, 4] < 256)).all())


def _other_set(columns: int) -> str:
    return f"Bring the scans into {columns} columns of float32, as this data set has them"


def read_uint32(path: str, token: str, again: str) -> NDArray[np.uint32]:
    """A headless binary of one uint32 a point, (N,), N > 0.

    Raises:
        FrameError: missing, unreadable, something else, empty, or cut off.
    """
    raw = read_bytes("label file", path, token, again)
    found = recognised(raw)
    if found or len(raw) % 4:
        reason = f"is {found}" if found else f"is cut off: {len(raw)} bytes are not a multiple of 4"
        raise FrameError(f"the label file {reason}", path=path, frame=token, remedy=again)
    return np.frombuffer(raw, "<u4")


def read_npz_uint16(path: str, token: str, again: str) -> NDArray[np.uint16]:
    """The array `data` of an npz file, (N,) uint16; never unpickles.

    Raises:
        FrameError: missing, unreadable, damaged, without `data`, too large, or of another shape or type.
    """
    raw = read_bytes("label file", path, token, again)
    try:
        with np.load(BytesIO(raw), allow_pickle=False) as archive:
            size = archive.zip.getinfo("data.npy").file_size
            if size > _LABELS_BYTES:
                raise ValueError(f"it unpacks to {size:,} bytes, no sweep has so many labels")
            labels = archive["data"]
    except faults(*_NO_LABELS, most=_LABELS_BYTES) as error:
        found = recognised(raw)
        reason = f"it is {found}" if found and not found.startswith("a zip") else str(error).strip("'\"")
        raise FrameError(f"the label file cannot be read: {reason}", path=path, frame=token, remedy=again) from error
    if labels.dtype != np.uint16 or labels.ndim != 1:
        raise FrameError(
            f"labels are {labels.dtype} of shape {labels.shape}, expected uint16 (N,)",
            path=path,
            frame=token,
            remedy=again,
        )
    return labels


def read_rgb(camera: Camera, again: str) -> NDArray[np.uint8]:
    """The image of a camera as RGB (height, width, 3) uint8.

    Grey, palettes and opaque alpha become RGB. Whatever has no one right reading is refused rather than guessed.

    Raises:
        FrameError: missing, unreadable, cut off, of another size than the calibration is for, of more than 8 bits, with
            colours that are neither grey nor RGB, transparent, turned by its EXIF, or of several pictures.
    """
    path, what = camera.image_path, f"image of {camera.channel}"
    raw = read_bytes(what, path, None, again)
    try:
        with Image.open(BytesIO(raw)) as image:
            _check_picture(image, camera)  # before anything is decoded
            pixels = np.asarray(_opaque(image, camera).convert("RGB"))
            unfinished = image.format == "JPEG" and ends_in_zeros(raw)
    except Image.DecompressionBombError as error:
        raise FrameError(f"the {what} is too large: {error}", path=path, remedy=_AS_SHIPPED) from error
    except faults(UnidentifiedImageError, OSError, SyntaxError, TypeError, ValueError) as error:  # all mean damaged
        found = recognised(raw)
        nothing = "Pillow finds no picture in it" if isinstance(error, UnidentifiedImageError) else str(error)
        reason = f"it is {found}" if found else nothing
        raise FrameError(f"the {what} is damaged: {reason}", path=path, remedy=again) from error
    if unfinished:  # the decoder fills the rest with grey
        raise FrameError(f"the {what} ends in zeros: it was not copied to its end", path=path, remedy=again)
    return pixels


def _check_picture(image: Image.Image, camera: Camera) -> None:
    """Refuse what would become wrong pixels, by the header alone."""

    def refused(message: str, remedy: str) -> FrameError:
        return FrameError(f"the image of {camera.channel} {message}", path=camera.image_path, remedy=remedy)

    if image.width * image.height > MOST_PIXELS:
        raise refused(f"is too large: {image.width}x{image.height} pixels", _AS_SHIPPED)
    if fault := colour_fault(image):
        raise refused(fault, _EIGHT_BITS)
    wrong_size = (
        f"is {image.width}x{image.height} pixels, its calibration is for {camera.width}x{camera.height}",
        _AS_SHIPPED,
    )
    if sorted(image.size) != sorted((camera.width, camera.height)):  # first: what follows may decode all of it
        raise refused(*wrong_size)
    if (count := count_pictures(image)) > 1:
        raise refused(f"holds {count} pictures", "Save one picture a file")
    turned = image.getexif().get(ExifTags.Base.Orientation, 1)
    if turned != 1:
        raise refused(
            f"is to be turned by its EXIF (orientation {turned}), and whether the calibration is for the turned one"
            " nobody knows",
            "Turn the pixels so that they fit the calibration, and remove the tag",
        )
    if image.size != (camera.width, camera.height):
        raise refused(*wrong_size)


def _opaque(image: Image.Image, camera: Camera) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise FrameError(
                f"the image of {camera.channel} is transparent in places, its colours there mean nothing",
                path=camera.image_path,
                remedy="Save it without alpha",
            )
    return image


def read_bytes(what: str, path: str, token: str | None, again: str) -> bytes:
    """Read a whole file; `what` names it in errors.

    Raises:
        FrameError: missing, a folder, unreadable or empty.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError as error:
        there, remedy = said_beside(Path(path), again)
        raise FrameError(f"the {what} does not exist{there}", path=path, frame=token, remedy=remedy) from error
    except IsADirectoryError as error:
        remedy = f"Move the folder away. {again}"
        raise FrameError(f"a folder lies where the {what} should be", path=path, frame=token, remedy=remedy) from error
    except PermissionError as error:
        remedy = right_to_read(path)
        raise FrameError(f"the {what} may not be read", path=path, frame=token, remedy=remedy) from error
    except faults(OSError) as error:
        reason = error.strerror or str(error)
        raise FrameError(f"the {what} cannot be read: {reason}", path=path, frame=token, remedy=again) from error
    if not raw:
        raise FrameError(f"the {what} is empty", path=path, frame=token, remedy=again)
    return raw


def recognised(raw: bytes) -> str | None:
    """Tell by its first bytes what a file is, where it is none of ours; None if they say nothing."""
    return next((name for start, name in _STARTS.items() if raw.startswith(start)), None)
