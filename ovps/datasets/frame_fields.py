"""Checks of the fields of frames: what data sets give is looked at once, before anything is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from ovps.entries import no_text
from ovps.file_names import RULE, name_fault
from ovps.frame import Camera, EarlierSweep, Frame
from ovps.protocols import described

_TEXT, _WHOLE, _POSE = "a text", "a whole number", "a matrix (4, 4)"
_FRAME = {
    **dict.fromkeys(("dataset", "version", "subset", "scene", "token", "points_path"), _TEXT),
    "index": _WHOLE,
    "timestamp_us": _WHOLE,
    "global_from_lidar": _POSE,
}
_CAMERA = {
    "channel": _TEXT,
    "image_path": _TEXT,
    "width": _WHOLE,
    "height": _WHOLE,
    "timestamp_us": _WHOLE,
    "intrinsics": "a matrix (3, 3)",
    "camera_from_lidar": _POSE,
}
_SWEEP = {"points_path": _TEXT, "lidar_from_earlier": _POSE, "timestamp_us": _WHOLE}


def frame_fault(frame: Any, subsets: Collection[str]) -> str | None:
    """Say what is wrong with the fields of what should be a frame, and what was expected; None if nothing is.

    Args:
        subsets: those that were asked for.
    """
    if not isinstance(frame, Frame):
        return f"{described(frame)}, expected frames"
    fault = next(_faults(frame), None)
    if fault is None and frame.subset not in subsets:
        fault = f"subset {frame.subset!r}, expected one of those asked for: {', '.join(subsets)}"
    return f"a frame with {fault}" if fault else None


def names_fault(frame: Frame) -> str | None:
    """Say which of the names of a frame can be that of no file: predictions, exports and pages are called after them.

    A scene's name is escaped where it becomes that of a folder.
    """
    for what, name in (("token", frame.token), ("split", frame.subset)):
        fault = name_fault(name)
        if fault:
            return f"the {what} {name!a}, which {fault}: files are called after it, and have {RULE}"
    odd = no_text(frame.scene)
    return f"the scene {frame.scene!a}, which has a character that is no text, {odd!a}" if odd else None


def _faults(frame: Frame) -> Iterator[str]:
    yield from _wrong(frame, _FRAME)
    if frame.labels_path is not None and not isinstance(frame.labels_path, str):
        yield f"labels_path {described(frame.labels_path)}, expected a text or None"
    for name, kind, fields in (("cameras", Camera, _CAMERA), ("earlier", EarlierSweep, _SWEEP)):
        items: Any = getattr(frame, name)
        if not isinstance(items, (tuple, list)) or not all(isinstance(item, kind) for item in items):
            yield f"{name} that are {described(items)}, expected a tuple of {kind.__name__}"
            return
        for item in items:
            yield from (f"{kind.__name__} whose {fault}" for fault in _wrong(item, fields))
    channel, count = Counter(camera.channel for camera in frame.cameras).most_common(1)[0] if frame.cameras else ("", 0)
    if count > 1:
        yield f"{count} cameras called {channel}, expected a name for each"


def _wrong(thing: Any, fields: dict[str, str]) -> Iterator[str]:
    for name, wanted in fields.items():
        value = getattr(thing, name)
        if not _is(value, wanted):
            yield f"{name} {described(value)}, expected {wanted}"


def _is(value: Any, wanted: str) -> bool:
    if wanted == _TEXT:
        return isinstance(value, str)
    if wanted == _WHOLE:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    shape = (4, 4) if wanted == _POSE else (3, 3)
    return isinstance(value, np.ndarray) and value.shape == shape and value.dtype.kind in "fiu"
