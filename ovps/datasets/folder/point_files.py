"""Point files of a recording: .bin, .npy, .npz, .pcd and .ply to coordinates and intensities. Nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ovps.datasets.folder.calibration import PointFiles
from ovps.datasets.folder.row_length import LOOKED_AT, row_length
from ovps.datasets.reading import read_bytes, recognised
from ovps.errors import FrameError
from ovps.extras import extra
from ovps.frame import PointCloud
from ovps.geometry.sweep_fault import FARTHEST_M, NO_RETURN
from ovps.shortage import faults

AGAIN = "Copy or record the file again"
_BYTES = 2**30  # of a sweep, unpacked: a hundred times the largest
_HUGE, _WILD = 1e6, 0.05  # of a value, or of its inverse; of the values, at least
_COLUMNS = "Say how point files are read under `points` of the calibration file"
_ALL = (
    "Name all {} as `columns` under `points` of the calibration file, in their order; names other than x, y, z and that"
    " of the intensity are passed over"
)
_OBJECTS = "it holds Python objects, and nothing is unpickled"
_NUMBERS = 'Save the points as an array of numbers: numpy.save(FILE, numpy.array(rows, "float32"))'
_ZEROS = 4096  # bytes at the end of a file: a block that was never filled
_DROP = "Set `invalid: drop` under `points` of the calibration file, or leave such points and their labels out"

T = TypeVar("T")
Fields = Mapping[str, NDArray]
# whatever the readers raise for bytes that are not of their format
_DAMAGED = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, IndexError, MemoryError, RuntimeError, AttributeError),
    *(OverflowError, zipfile.BadZipFile, zlib.error, SyntaxError),
)


class _Refused(ValueError):
    """A file of the right format that is not as the calibration file says."""


def read_points(
    path: str, token: str, how: PointFiles, into_from_frame: NDArray[np.float64]
) -> tuple[PointCloud, NDArray[np.bool_]]:
    """Read a sweep and bring it into its frame.

    Args:
        how: the columns, and what is done with invalid points.
        into_from_frame: (4, 4) float64, metres, from the frame that the file is in to the one that points are used in.

    Returns:
        The points that are kept, and which of the file's rows (N,) bool these are.

    Raises:
        FrameError: missing, damaged, without the columns that are named, of another number of columns, with NaN,
            infinity, many (0, 0, 0) or an end of zeros that are not to be dropped, with intensities beyond their
            maximum, or of a format that is not read.
    """
    fields = _read(path, token, how)
    with np.errstate(invalid="ignore"):  # of a NaN that signals, which is told below
        xyz = np.stack([np.asarray(fields[name], np.float64) for name in "xyz"], axis=1)
        intensity = fields.get(how.intensity)
        light = np.zeros(len(xyz)) if intensity is None else np.asarray(intensity, np.float64)
        unfilled = _unfilled(fields, how)
    good = np.isfinite(xyz).all(axis=1) & np.isfinite(light)

    def refused(message: str, remedy: str) -> FrameError:
        other = misread(path, token, how)
        return other or FrameError(f"the point file {message}", path=path, frame=token, remedy=remedy)

    if how.invalid == "refuse" and unfilled:
        raise refused(
            f"ends in {unfilled} of {len(xyz)} points that are zeros, and has no others: it was not copied to its end",
            f"{AGAIN}; if it is filled up with them on purpose, set `invalid: drop` under `points` of the calibration"
            " file",
        )
    returned = xyz.any(axis=1)
    if how.invalid == "drop":
        good &= returned
    elif len(xyz) - returned.sum() > NO_RETURN * len(xyz):
        raise refused(
            f"has {(~returned).sum()} of {len(xyz)} points at (0, 0, 0), pulses without a return, the first is point"
            f" {returned.argmin()}",
            _DROP,
        )
    if len(light) and not np.isfinite(light).any() and np.isfinite(xyz).all():
        raise refused(
            f"has no valid {how.intensity}: it is NaN or infinity in all of {len(xyz)} points",
            "Give that column another name in `columns`, or name as `intensity` one that the file does not have: points"
            " have none then",
        )
    if how.invalid == "refuse" and not good.all():
        first = int((~good).argmax())
        raise refused(
            f"has {(~good).sum()} of {len(xyz)} points with NaN or infinity, the first is point {first}", _DROP
        )
    if not good.any():
        raise refused("has no valid point", "Record the sweep again")
    light = light[good] / how.intensity_max
    if light.min() < 0 or light.max() > 1:
        low, high = light.min() * how.intensity_max, light.max() * how.intensity_max
        raise refused(
            f"has intensities of {low:g} to {high:g}, expected 0 to {how.intensity_max:g}",
            "Set `intensity_max` under `points` of the calibration file to what a full intensity is written as (often"
            " 255), or name the right column",
        )
    if (np.abs(xyz[good]) > FARTHEST_M).any() and (other := misread(path, token, how)):
        raise other
    placed = xyz[good] @ into_from_frame[:3, :3].T + into_from_frame[:3, 3]
    return PointCloud(placed.astype(np.float32), light.astype(np.float32)), good


def unfilled_end(path: str, token: str, how: PointFiles) -> int:
    """Count the points of zeros at the end of a file, as one has that was not copied to its end, or is padded.

    0 where they fill no block, or there are others, as of pulses without a return.

    Raises:
        FrameError: the file cannot be read.
    """
    return _unfilled(_read(path, token, how), how)


def _unfilled(fields: Fields, how: PointFiles) -> int:
    columns = [np.asarray(fields[name]) for name in ("x", "y", "z", how.intensity) if name in fields]
    zeros = np.logical_and.reduce([column == 0 for column in columns])
    count = len(zeros) - int(np.flatnonzero(~zeros).max(initial=-1)) - 1
    size = count * sum(column.itemsize for column in columns)
    return count if size >= _ZEROS and zeros.sum() == count else 0


def misread(path: str, token: str, how: PointFiles) -> FrameError | None:
    """Say that a .bin file clearly has other numbers or columns than are named; None: it may be right, or is not read.

    Whoever has read something wrong in the file raises it instead; where nothing is wrong yet it is but likely.
    """
    dtype = np.dtype(how.dtype).newbyteorder("<")
    try:
        with open(path, "rb") as file:
            raw = file.read(LOOKED_AT * dtype.itemsize) if path.lower().endswith(".bin") else b""
    except faults(OSError):
        return None
    if recognised(raw):
        return None
    values = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype)
    other = "float64" if how.dtype == "float32" else "float32"
    if _are_wild(values) and _are_coordinates(raw, other, how):
        return FrameError(
            f"the point file seems to hold {other}, not {how.dtype}: all coordinates lie within {FARTHEST_M:g} m so",
            path=path,
            frame=token,
            remedy=f"Set `dtype: {other}` under `points` of the calibration file",
        )
    with np.errstate(all="ignore"):  # of a NaN that signals, and of what is no number at all
        length = row_length(values, how.columns)
    if length is None:
        return None
    middle = len(values) // length // 2 * length
    row = ", ".join(f"{value:.4g}" for value in values[middle : middle + length])
    return FrameError(
        f"the point file seems to have {length} columns, not {len(how.columns)} ({', '.join(how.columns)}): its values"
        f" repeat every {length}, and a row in its midst is then {row}",
        path=path,
        frame=token,
        remedy=_ALL.format(length),
    )


def _are_wild(values: NDArray[np.floating]) -> bool:
    """Tell whether many finite values are far too large or too small for a sweep, as numbers of another size are."""
    with np.errstate(all="ignore"):
        size = np.abs(values[np.isfinite(values)].astype(np.float64))
        return bool(((size > _HUGE) | ((size > 0) & (size < 1 / _HUGE))).sum() > _WILD * len(values))


def _are_coordinates(raw: bytes, dtype: str, how: PointFiles) -> bool:
    """Tell whether bytes, taken as rows of such numbers, are points that a LiDAR measures."""
    size = np.dtype(dtype).itemsize * len(how.columns)
    rows = np.frombuffer(raw[: len(raw) // size * size], np.dtype(dtype).newbyteorder("<")).reshape(
        -1, len(how.columns)
    )
    xyz = rows[:, [how.columns.index(name) for name in "xyz"]]
    return bool(len(xyz) and (np.abs(xyz) < FARTHEST_M).all())  # NaN is not near anything


def _read(path: str, token: str, how: PointFiles) -> Fields:
    suffix = Path(path).suffix.lower()
    raw = read_bytes("point file", path, token, AGAIN)
    remedy = AGAIN
    try:
        fields = _small_axes(READERS[suffix](path, raw, how))
        lacking = [name for name in "xyz" if name not in fields]
        if lacking:
            raise _Refused(f"it has no {', '.join(lacking)}, but {', '.join(fields) or 'nothing'}")
        shapes = {np.shape(fields[name]) for name in ("x", "y", "z", how.intensity) if name in fields}
        kinds = {np.asarray(fields[name]).dtype.kind for name in ("x", "y", "z", how.intensity) if name in fields}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1 or not kinds <= set("fiu"):
            raise _Refused(f"its columns have the shapes {sorted(shapes)} and kinds {sorted(kinds)}")
        return fields
    except _Refused as error:
        if other := misread(path, token, how):
            raise other from error
        remedy, reason = _COLUMNS, str(error)
    except faults(*_DAMAGED, most=_BYTES) as error:
        found = recognised(raw)
        expected = {".npy": "an .npy", ".npz": "a zip", ".pcd": "a PCD"}.get(suffix, "?")
        alien = found if found and not found.startswith(expected) else None
        reason = f"it is {alien}" if alien else " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:  # numpy has no class of its own for this
            remedy, reason = _NUMBERS, _OBJECTS
    raise FrameError(f"the point file cannot be read: {reason}", path=path, frame=token, remedy=remedy)


def _small_axes(columns: Mapping[str, T]) -> Mapping[str, T]:
    """Columns X, Y and Z as x, y and z, unless others are called so."""
    return {
        (name.lower() if name in ("X", "Y", "Z") and name.lower() not in columns else name): column
        for name, column in columns.items()
    }


def _bin(path: str, raw: bytes, how: PointFiles) -> Fields:
    found = recognised(raw)
    if found:
        raise ValueError(found)
    dtype = np.dtype(how.dtype).newbyteorder("<")
    row = dtype.itemsize * len(how.columns)
    if len(raw) % row:
        raise _Refused(
            f"{len(raw):,} bytes are no rows of {len(how.columns)} columns of {how.dtype} ({', '.join(how.columns)}):"
            " it is cut off, or its columns are others"
        )
    return _named(np.frombuffer(raw, dtype).reshape(-1, len(how.columns)), how)


def _npy(path: str, raw: bytes, how: PointFiles) -> Fields:
    return _named(np.load(BytesIO(raw), allow_pickle=False), how)


def _npz(path: str, raw: bytes, how: PointFiles) -> Fields:
    with np.load(BytesIO(raw), allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is an .npy file")
        check_size(archive.zip, _BYTES)
        columns = _small_axes({name: name for name in archive.files})
        if {"x", "y", "z"} <= columns.keys():
            return {name: archive[own] for name, own in columns.items() if name in ("x", "y", "z", how.intensity)}
        names = archive.files if how.array is None else [how.array]
        if len(names) != 1 or names[0] not in archive.files:
            raise _Refused(f"it holds the arrays {', '.join(archive.files)}: name one as `array`")
        return _named(archive[names[0]], how)


def check_size(archive: zipfile.ZipFile, limit: int) -> None:
    """Raise ValueError if a zip archive unpacks to more than `limit` bytes: a bomb is refused unread."""
    size = sum(member.file_size for member in archive.infolist())
    if size > limit:
        raise ValueError(f"it unpacks to {size:,} bytes, no sweep is so large")


def _pcd(path: str, raw: bytes, how: PointFiles) -> Fields:
    with extra("folder"):
        from pypcd4 import Encoding, MetaData, PointCloud
    end = raw.find(b"\n", raw.find(b"\nDATA ") + 1) + 1
    if not (raw.startswith((b"#", b"VERSION", b"FIELDS")) and b"\nDATA " in raw[:end]):
        raise ValueError("it has no header of a PCD file")
    header = raw[:end]
    try:
        about = MetaData.parse_header(header.decode("utf-8", "replace").splitlines())
        size = about.points * about.build_dtype().itemsize
    except ValidationError as error:
        lines = dict.fromkeys(str(fault["loc"][0]).upper() for fault in error.errors())
        raise ValueError(f"its header has no {' and '.join(lines)}, or none as it can be") from error
    except (KeyError, IndexError) as error:
        raise ValueError("its header has no SIZE, TYPE and COUNT that go together for each of its fields") from error
    if about.width * about.height != about.points:
        raise ValueError(f"its header says {about.points} points and {about.width} x {about.height}")
    if about.data == Encoding.BINARY_COMPRESSED:
        sizes = np.frombuffer(raw[len(header) : len(header) + 8], "<u4")
        if len(sizes) < 2 or sizes[1] != size or len(raw) < len(header) + 8 + int(sizes[0]):
            raise ValueError("it is cut off, or its header is of another file")
    elif about.data == Encoding.BINARY:
        _check_rows(len(raw) - len(header), about.points, about.build_dtype().itemsize)
    elif about.data == Encoding.ASCII:
        raw = header + _text_rows(raw[end:], about.points, sum(about.count))
    if size > _BYTES:
        raise ValueError(f"it unpacks to {size:,} bytes, no sweep is so large")
    cloud = PointCloud.from_fileobj(BufferedReader(BytesIO(raw)))
    rows = np.atleast_1d(cloud.pc_data)
    return {name: rows[name] for name in rows.dtype.names or ()}


def _check_rows(size: int, points: int, row: int) -> None:
    """Raise ValueError if `size` bytes are less than the points, or hold further ones: a line's end is neither."""
    if size < points * row:
        raise ValueError(f"it is cut off: {size:,} bytes of points, expected {points * row:,}")
    if size >= (points + 1) * row:
        raise ValueError(
            f"it has {size:,} bytes of points, and its header says {points} points: {points * row:,} bytes"
        )


def _text_rows(body: bytes, points: int, values: int) -> bytes:
    """The points of a PCD of text, a row each, with one space between values.

    Raises:
        ValueError: not so many points, or one of another number of values.
    """
    rows = [row for line in body.splitlines() if (row := line.partition(b"#")[0].split())]
    if len(rows) < points:
        raise ValueError(f"it is cut off: {len(rows)} of {points} points")
    if len(rows) > points:
        raise ValueError(f"it has {len(rows)} rows, and its header says {points} points")
    number = next((number for number, row in enumerate(rows) if len(row) != values), None)
    if number is not None:
        cut = "it is cut off: " if number == points - 1 and len(rows[number]) < values else ""
        raise ValueError(f"{cut}point {number} has {len(rows[number])} values, expected {values}")
    return b"\n".join(map(b" ".join, rows))


def _ply(path: str, raw: bytes, how: PointFiles) -> Fields:
    with extra("folder"):
        from plyfile import PlyData, PlyParseError
    try:
        rows = PlyData.read(path)["vertex"].data  # by its path: mapped, where a stream is read row by row
    except PlyParseError as error:
        raise ValueError(str(error)) from error
    return {name: rows[name] for name in rows.dtype.names or ()}


READERS: dict[str, Callable[[str, bytes, PointFiles], Fields]] = {
    ".bin": _bin,
    ".npy": _npy,
    ".npz": _npz,
    ".pcd": _pcd,
    ".ply": _ply,
}


def _named(array: NDArray, how: PointFiles) -> Fields:
    """Columns of (N, columns) by their names, or the fields of a structured array."""
    if array.dtype.names:
        return {name: array[name] for name in array.dtype.names}
    if array.ndim != 2 or array.shape[1] != len(how.columns):
        raise _Refused(
            f"it is an array of shape {array.shape}, expected (N, {len(how.columns)}): {', '.join(how.columns)}"
            + (f"; reshape(-1, {array.shape[-1]}) makes one row of each point" if array.ndim > 2 else "")
        )
    return {name: array[:, place] for place, name in enumerate(how.columns)}
