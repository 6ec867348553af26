"""Folders that hold something already: what is written into the midst of a data set, a store or a run harms it."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from ovps.errors import ConfigError

What = Literal["data set", "store", "run"]

# The files that are their own. A store tells of any other file in it (`ovps cache verify`); beside those of a data set
# and of a run there is room for folders of other names.
_PARTS: dict[What, tuple[str, ...]] = {
    "data set": (
        *("samples", "sweeps", "panoptic", "lidarseg", "maps", "camera_labels", "sequences", "v1.0-*"),
        ".scenes",
    ),
    "store": ("*",),
    "run": (
        *("config.yaml", "run.json", "vocabulary.safetensors", "statistics.safetensors", "metrics.jsonl"),
        *("checkpoints", "tensorboard"),
    ),
}


def check_free(path: Path, but: What | None = None) -> None:
    """Check that a file or folder to be written is none of a data set, a store or a run, nor the root of one.

    Args:
        but: what may be there: whoever makes it checks it.

    Raises:
        ConfigError: it is.
    """
    target = path.absolute()
    for root in (target, *target.parents):
        what = what_is(root)
        if what is None or what == but:
            continue
        inside = target.relative_to(root).parts
        if not inside or any(fnmatch(inside[0], part) for part in _PARTS[what]):
            raise ConfigError(
                f"this would be written among the files of the {what} {root}",
                path=path,
                remedy="Give another folder, one of its own",
            )


def what_is(folder: Path) -> What | None:
    """Tell what a folder is the root of, by the files that make it one."""
    try:
        if (folder / "store.json").is_file():
            return "store"
        if (folder / "run.json").is_file():
            return "run"
        if any(folder.glob("v1.0-*/sample.json")) or any(folder.glob("sequences/*/velodyne")):
            return "data set"
    except OSError:  # a folder that one may not look into
        pass
    return None
