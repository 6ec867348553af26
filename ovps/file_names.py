"""Files that are called after frames: a name that leads out of its folder, or is none, makes no path."""

from __future__ import annotations

from pathlib import Path

from ovps.entries import no_text
from ovps.errors import StorageError

NAME_BYTES = 200  # of a token, subset or camera: file names hold 255, with an ending
RULE = f"file names without / and \\, of at most {NAME_BYTES} bytes"


def name_fault(name: str) -> str | None:
    """Say what keeps a name from being that of a file; None if nothing does.

    >>> name_fault("08/000123")
    "has '/' in it"
    >>> name_fault("08_000123") is None
    True
    """
    if not name.strip():
        return "is empty"
    if odd := no_text(name):
        return f"has a character that is no text, {odd!a}"
    if odd := next((sign for sign in "/\\" if sign in name), None):
        return f"has {odd!r} in it"
    if name in (".", ".."):
        return "means a folder"
    size = len(name.encode())
    return f"has {size} bytes" if size > NAME_BYTES else None


def file_of(folder: Path, name: str, ending: str = "", *, frame: str | None = None) -> Path:
    """Path of a file in a folder that is called after a frame or a subset; never one outside of it.

    Args:
        ending: what follows the name.
        frame: token of the frame, for an error to name, where `name` is not it.

    Raises:
        StorageError: the name is none of a file: stores of data sets of other packages may hold such.
    """
    fault = name_fault(name)
    if fault:
        raise StorageError(
            f"no file can be called {name!a}: it {fault}",
            path=folder,
            frame=frame,
            remedy=f"Precompute the data set into a new store once its frames and splits have {RULE};"
            " `ovps cache export` takes this one as it is",
        )
    return folder / f"{name}{ending}"
