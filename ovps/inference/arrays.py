"""Arrays with one number a point, compressed: written whole, and read back out of files that nobody vouches for."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ovps.errors import unread
from ovps.files import write_whole
from ovps.shortage import faults

_HEADER = 10_000  # bytes, at most, of what stands before an array in its file
# zipfile: RuntimeError and NotImplementedError for what it cannot unpack, encrypted or of another method
_NO_ARRAY = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, MemoryError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error),
)


def files_apart(there: Collection[str], wanted: Collection[str], subset: str) -> list[str]:
    """List frames of a subset without a file, and files of no frame of it, each with what to do about it.

    Args:
        there, wanted: tokens of the frames that have files, and of those of the subset.
    """
    strays, lacking = sorted({*there} - {*wanted}), sorted({*wanted} - {*there})
    if strays and lacking and len(strays) == len(there):
        return [
            f"none of {len(there)} files is of a frame of {subset}, as which the store has {lacking[0]}, and here is"
            f" {strays[0]}: check with the store that was predicted from, or with that subset of it"
        ]
    return [
        *(f"{token}: no file: every frame of {subset} needs one" for token in lacking),
        *(f"{token}: not a frame of {subset}: delete its file" for token in strays),
    ]


def save_arrays(path: Path, **arrays: NDArray) -> Path:
    """Write arrays as a compressed npz, whole or not at all.

    Raises:
        StorageError: the disk is full or read-only.
    """
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return write_whole(path, content.getvalue())


def array_or_fault(path: Path, name: str, dtype: DTypeLike, points: int) -> NDArray | str:
    """Read an array of an npz that is to be (points,) of a type; what is wrong with it, and what to do, if it is not.

    Args:
        points: how many the frame has; what unpacks to much more is not unpacked.
    """
    wanted = f"write {np.dtype(dtype)} ({points},), one {'label' if name == 'data' else name} a point"
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(f"{name}.npy").file_size
            if size > 8 * points + _HEADER:  # no type of labels is so large: a few bytes may unpack to gigabytes
                return f"unpacks to {size:,} bytes: {wanted}"
        with np.load(path, allow_pickle=False) as file:
            found: NDArray = file[name]
    except faults(*_NO_ARRAY, most=8 * points + _HEADER) as error:
        return unread(error, path, f"write the array `{name}` again, with numpy.savez_compressed")
    return found if found.dtype == dtype and found.shape == (points,) else f"{found.dtype} {found.shape}: {wanted}"


def holds(path: Path, name: str) -> bool:
    """Tell whether a file is an npz with an array of this name, without reading the array."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{name}.npy" in archive.namelist()
    except faults(*_NO_ARRAY):
        return False
