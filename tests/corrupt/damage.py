"""Ways to damage files that the campaigns of all data sets share. Each takes a data root and changes it."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Damage = Callable[[Path], object]
Find = Callable[[Path], Path]  # the file of the damaged frame, below a root


def cut(find: Find, size: int) -> Damage:
    """Cut a file to its first `size` bytes; from the end if negative."""

    def damage(root: Path) -> None:
        path = find(root)
        path.write_bytes(path.read_bytes()[:size])

    return damage


def removed(find: Find) -> Damage:
    return lambda root: find(root).unlink()


def replaced(find: Find, content: bytes) -> Damage:
    return lambda root: find(root).write_bytes(content)


def as_folder(find: Find) -> Damage:
    """Put a folder where a file should be."""

    def damage(root: Path) -> None:
        path = find(root)
        path.unlink()
        path.mkdir()

    return damage


def looped(find: Find) -> Damage:
    """Put a symbolic link to itself where a file should be."""

    def damage(root: Path) -> None:
        path = find(root)
        path.unlink()
        path.symlink_to(path.name)

    return damage


def points(find: Find, columns: int, change: Callable[[np.ndarray], np.ndarray], dtype: str = "float32") -> Damage:
    """Change a sweep of float32 columns, as (N, columns); written back in `dtype`."""

    def damage(root: Path) -> None:
        path = find(root)
        rows = change(np.fromfile(path, np.float32).reshape(-1, columns).copy())
        np.ascontiguousarray(rows).astype(dtype).tofile(path)

    return damage


def with_value(value: float, rows: slice = slice(3, 4), columns: slice = slice(0, 1)) -> Callable:
    """Set some values of a sweep."""

    def change(cloud: np.ndarray) -> np.ndarray:
        cloud[rows, columns] = value
        return cloud

    return change


def image(find: Find, change: Callable[[Image.Image], Image.Image], kind: str | None = None, **options) -> Damage:
    """Change an image, and save it under the same name, as `kind` (PNG, JPEG, ...) if that is given."""

    def damage(root: Path) -> None:
        path = find(root)
        with Image.open(path) as opened:
            opened.load()
            changed = change(opened)
        changed.save(path, format=kind or "JPEG", **options)

    return damage


def bomb(find: Find, side: int = 60_000) -> Damage:
    """A PNG of a few kB that unpacks to gigabytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def damage(root: Path) -> None:
        packer = zlib.compressobj(9)
        line = bytes(1 + side // 8)
        packed = b"".join(packer.compress(line * 100) for _ in range(side // 100)) + packer.flush()
        head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        find(root).write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
        )

    return damage


def text(find: Find, change: Callable[[str], str], encoding: str = "utf-8") -> Damage:
    """Change a text file; written back in `encoding`, line ends as they are given."""

    def damage(root: Path) -> None:
        path = find(root)
        path.write_bytes(change(path.read_text(encoding="utf-8")).encode(encoding))

    return damage


def beside(name: str, content: bytes = b"\x00\x05\x16\x07") -> Damage:
    """Put a stray file into every folder: what other systems leave behind."""

    def damage(root: Path) -> None:
        for folder in [root, *(p for p in root.rglob("*") if p.is_dir())]:
            (folder / name).write_bytes(content)

    return damage


def outside(find: Find) -> Damage:
    """Move a file out of the data root, and leave a symbolic link to it: data sets are often linked together."""

    def damage(root: Path) -> None:
        path = find(root)
        away = root.parent / f"away-{path.name}"
        os.replace(path, away)
        path.symlink_to(away)

    return damage


def without_return(cloud: np.ndarray) -> np.ndarray:
    """Zeros in 3 of 10 rows' x, y, z, as drivers write pulses that came back from nothing."""
    cloud[np.arange(len(cloud)) % 10 < 3, :3] = 0
    return cloud
