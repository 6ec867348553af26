"""The points of a frame for other programs: PLY, LAS and NPZ, with class, instance, score and colour."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.extras import extra
from ovps.viewer import colouring
from ovps.viewer.view import View

_MILLIMETRE = 0.001  # what LAS rounds to
_PACKAGES = {"ply": "plyfile", "las": "laspy"}
NO_SCORE = -1.0  # where nobody says; NaN breaks colour scales of other programs


def columns(view: View, to_global: bool) -> dict[str, NDArray[Any]]:
    """Everything that is written of a frame of N points, by name.

    Args:
        view: its `segments` (of the run, else of the labels, else clusters) give class, instance, score and colour.
        to_global: points in the data set's global frame instead of the LiDAR's.

    Returns:
        `x`, `y`, `z` float64 metres; `intensity` float32; `red`, `green`, `blue` uint8; `class` uint8, the id in the
        taxonomy, 0 for none or a name that is no class of it; `entry` int16, row of the names, -1 for none; `instance`
        int32, 0 for stuff; `segment` int32, -1 for none; `score` float32, -1 where there is none; `cameras` uint8; and
        `true_class`, `true_instance` where there are labels.
    """
    frame, labels = view.frame, view.segments
    xyz = frame.xyz.astype(np.float64)
    if to_global:
        xyz = xyz @ frame.global_from_lidar[:3, :3].T + frame.global_from_lidar[:3, 3]
    named = bool(labels.palette.names)
    red, green, blue = (colouring.by_class(labels) if named else colouring.by_instance(labels)).T
    score = labels.point_score
    found: dict[str, NDArray[Any]] = {
        **dict(zip("xyz", xyz.T, strict=True)),
        "intensity": frame.intensity,
        "red": red,
        "green": green,
        "blue": blue,
        "class": labels.class_id.astype(np.uint8),
        "entry": labels.entry.astype(np.int16),
        "instance": np.where(labels.instance > 0, labels.segment + 1, 0).astype(np.int32),
        "segment": labels.segment.astype(np.int32),
        "score": np.where(np.isnan(score), NO_SCORE, score).astype(np.float32),
        "cameras": frame.views,
    }
    if view.truth is not None:
        truth = view.truth
        found["true_class"] = truth.class_id.astype(np.uint8)
        found["true_instance"] = np.where(truth.instance > 0, truth.segment + 1, 0).astype(np.int32)
    return {name: np.ascontiguousarray(values) for name, values in found.items()}


def to_npz(found: Mapping[str, NDArray[Any]]) -> bytes:
    """Columns as a NumPy archive."""
    content = io.BytesIO()
    np.savez_compressed(content, **dict(found))
    return content.getvalue()


def check_packages(kinds: Iterable[str]) -> None:
    """Check, before the work that files are of, that what writes some of `WRITERS` can be loaded.

    Raises:
        SetupError: a package is not installed.
    """
    with extra("viewer"):
        for kind in kinds:
            if kind in _PACKAGES:
                import_module(_PACKAGES[kind])


def to_ply(found: Mapping[str, NDArray[Any]]) -> bytes:
    """Columns as a binary PLY with one vertex for each point.

    Raises:
        SetupError: plyfile is not installed.
    """
    with extra("viewer"):
        from plyfile import PlyData, PlyElement
    vertices = np.empty(len(found["x"]), [(name, values.dtype.str) for name, values in found.items()])
    for name, values in found.items():
        vertices[name] = values
    content = io.BytesIO()
    PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(content)
    return content.getvalue()


def to_las(found: Mapping[str, NDArray[Any]]) -> bytes:
    """Columns as LAS 1.4, point format 7: class as `classification`, colour and intensity in 16 bits, the rest as
    extra dimensions; places are rounded to a millimetre.

    Raises:
        SetupError: laspy is not installed.
    """
    with extra("viewer"):
        import laspy
    header = laspy.LasHeader(point_format=7, version="1.4")
    place = np.stack([found[axis] for axis in "xyz"])
    header.offsets = np.floor(place.min(axis=1)) if place.size else np.zeros(3)
    header.scales = np.full(3, _MILLIMETRE)
    more = [name for name in found if name not in ("x", "y", "z", "red", "green", "blue", "intensity", "class")]
    header.add_extra_dims([laspy.ExtraBytesParams(name=name, type=found[name].dtype) for name in more])
    las = laspy.LasData(header)
    las.x, las.y, las.z = place
    las.intensity = np.round(np.clip(found["intensity"], 0, 1) * 65535).astype(np.uint16)
    las.classification = found["class"]
    for name in ("red", "green", "blue"):
        las[name] = found[name].astype(np.uint16) * 257
    for name in more:
        las[name] = found[name]
    content = io.BytesIO()
    las.write(content)
    return content.getvalue()


WRITERS: Mapping[str, Callable[[Mapping[str, NDArray[Any]]], bytes]] = {"ply": to_ply, "las": to_las, "npz": to_npz}
