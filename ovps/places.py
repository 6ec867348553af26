"""Folders that hold something already: what is written into the midst of a data set, a recording, a store or a run
harms it. Whatever writes what a person names asks here first."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from ovps.errors import ConfigError, listed

What = Literal["data set", "recording", "store", "run"]

# The files that are their own. A store tells of any other file in it (`ovps cache verify`); beside those of the others
# there is room for folders of other names.
_PARTS: dict[What, tuple[str, ...]] = {
    "data set": (
        *("samples", "sweeps", "panoptic", "lidarseg", "maps", "basemap", "can_bus", "camera_labels", "v1.*"),
        *("sequences", "poses", ".scenes"),
    ),
    "recording": ("points", "images", "labels"),
    "store": ("*",),
    "run": (
        *("config.yaml", "run.json", "vocabulary.safetensors", "statistics.safetensors", "metrics.jsonl"),
        *("checkpoints", "tensorboard"),
    ),
}
# of which nobody can list the files beside these folders (tables, licences, splits, times): none is added or replaced
_OWN_FILES: tuple[What, ...] = ("data set", "recording")
# of files by their endings: after so many bytes come these, in lower case
_BEGINNINGS = {".html": (0, b"<!doctype html"), ".safetensors": (8, b"{")}
_START = 32  # bytes
_CALIBRATION = "calibration.[yj]*"


def at_home(place: Any) -> Any:
    """Give a path that begins with `~` as the shell would, which leaves it in `--out=~/x` and in a file of settings.

    Whatever is no path is given back, and paths in a tuple are looked at.

    >>> at_home(Path("~/x")) == Path.home() / "x"
    True
    """
    if isinstance(place, tuple):
        return tuple(map(at_home, place))
    return Path(os.path.expanduser(place)) if isinstance(place, Path) else place


def named(path: Path) -> Path:
    """Give a path from the root on whose last part is a name, and not `..`, for what is to be called after it."""
    whole = path.absolute()
    return whole.resolve() if ".." in whole.parts else whole


def names_apart(folders: Sequence[Path]) -> list[str]:
    """Name folders as people tell them apart: by their last parts, as many as it takes for no two to be alike."""
    parts = [folder.resolve().parts for folder in folders]
    most = max(map(len, parts), default=1)
    different = len(set(parts))
    count = next((n for n in range(1, most) if len({p[-n:] for p in parts}) == different), most)
    return [Path(*p[-count:]).as_posix() for p in parts]


def check_free(path: Path, but: What | None = None, *, file: str | None = None) -> None:
    """Check that what is to be written lies neither among the files of a data set, recording, store or run, nor is one.

    Args:
        path: the folder that is to be written, or the file.
        but: what may be there: whoever makes it checks it.
        file: it is a file, of this ending: none of another ending and of other content is written over.

    Raises:
        ConfigError: it does, it is a URL, or there is a file of another ending.
    """
    check_no_url(path)
    # where a link leads to, and the link itself, which a new file replaces
    for target in dict.fromkeys((_real(path), _real(path.parent) / path.name)):
        for root in (target, *target.parents):
            what = what_is(root)
            if what is None or (root == target and what == but):
                continue
            inside = target.relative_to(root).parts
            own_file = file is not None and len(inside) == 1 and what in _OWN_FILES
            if not inside or own_file or any(fnmatch(inside[0], part) for part in _PARTS[what]):
                raise ConfigError(
                    f"this would be written among the files of the {what} {root}",
                    path=path,
                    remedy="Give another folder, one of its own",
                )
    if file is not None and path.suffix not in ("", file) and path.is_file() and not _begins_as(path, file):
        raise ConfigError(
            f"there is a file already, and one that is written here ends with {file}",
            path=path,
            remedy=f"Name it {path.stem}{file}",
        )


def _begins_as(path: Path, ending: str) -> bool:
    """Whether a file is empty, or one as are written here, under a name of its user's."""
    offset, words = _BEGINNINGS.get(ending, (0, b""))
    try:
        with open(path, "rb") as file:
            start = file.read(_START)
    except OSError:
        return False
    return not start or bool(words and start[offset:].lower().startswith(words))


def check_no_url(path: Path) -> None:
    """Check that a path was not meant to be a URL, which would become a folder of a strange name.

    Raises:
        ConfigError: it was.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ConfigError("a URL: only a store can be at one", path=path, remedy="Give a folder or a file")


def check_text(path: Path) -> None:
    """Check that the name of a path is text, where a library takes no other.

    Raises:
        ConfigError: it has bytes that are not UTF-8.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ConfigError("a name that is no text in UTF-8", path=path, remedy="Rename it, or give another") from error


def what_is(folder: Path) -> What | None:
    """Tell what a folder is the root of, by the files that make it one; a recording's scenes are recordings, too."""
    try:
        if (folder / "store.json").is_file():
            return "store"
        if (folder / "run.json").is_file():
            return "run"
        if (folder / ".scenes").is_dir() or any(
            next(folder.glob(one), None) for one in ("v1.*/sample.json", "sequences/*/velodyne")
        ):
            return "data set"
        if _is_recording(folder):
            return "recording"
    except OSError:  # a folder that one may not look into
        pass
    return None


def _is_recording(folder: Path) -> bool:
    points = (folder / "points").is_dir()
    if points and any(next(place.glob(_CALIBRATION), None) for place in (folder, folder.parent)):
        return True
    return next(folder.glob("*/points"), None) is not None and next(folder.glob(_CALIBRATION), None) is not None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def folder_meant(path: Path, mark: str, what: str) -> str | None:
    """Name the folder that was meant where a file in it, or the folder above it, was given; None: there is none near.

    Args:
        mark: name of a file that such a folder holds.
        what: lies in it, for example "store".
    """
    inside = [folder for folder in list(path.absolute().parents)[:2] if (folder / mark).is_file()]
    if inside:
        return f"A {what} is named by its folder: {inside[0]}"
    with suppress(OSError):
        if below := sorted(str(file.parent) for file in path.glob(f"*/{mark}")):
            return f"There are {what}s in that folder: {listed(below)}. Name one of them"
    return None
