"""The calibration of a bag: camera models, standing transforms, how the vehicle moves, and the field of intensity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.folder.layout import LIDAR
from ovps.errors import ConfigError, DatasetError
from ovps.geometry.transforms import inverse
from pipelines.bag.index import Index, values_of
from pipelines.bag.messages import Unreadable, camera_model
from pipelines.bag.topics import CameraTopic
from pipelines.bag.transforms import Motion

VEHICLE = "vehicle"
INTENSITY = "intensity"  # the field of clouds where none is named

_BESIDE_M = 0.02  # less is no pair of cameras, or within what a calibration leaves


def calibration_of(
    index: Index, clouds: str, cameras: Sequence[CameraTopic], world: str | None, path: Path
) -> tuple[dict[str, Any], Motion | None]:
    """Put together a recording's calibration from camera models and standing transforms.

    Args:
        index: of the bag.
        clouds: topic of the sweeps, whose frame is the LiDAR's.
        world: the frame that poses are in; None: the parent of the first moving transform above the LiDAR.
        path: of the bag, for errors.

    Returns:
        The content of `calibration.yaml`, and how the vehicle moves, None where nothing does.

    Raises:
        ConfigError: no frame above the LiDAR's has the parent `world`, or it stands still there.
        DatasetError: a camera without a model or a transform, or a model that is not understood.
    """
    lidar = index.frame_of.get(clouds, "")
    moving = index.frames.moving(lidar, world)
    if world is not None and moving is None:
        known = ", ".join(f"{child} in {link.parent}" for child, link in index.frames.links.items())
        raise ConfigError(
            f"no frame above {lidar} has the parent {world}", path=path, remedy=f"Transforms: {known or 'none'}"
        )
    if world is not None and moving is not None and moving.still:
        parents = dict.fromkeys(link.parent for link in index.frames.links.values() if not link.still)
        raise ConfigError(
            f"{moving.frame} does not move in {world}",
            path=path,
            remedy=f"Name the frame that the vehicle moves in: {', '.join(parents)}"
            if parents
            else "Leave out --world: no transform of the bag moves",
        )
    models, transforms = {}, []
    for camera in cameras:
        if camera.info not in index.infos:
            raise DatasetError(
                "; ".join([f"no message of {camera.info}", *index.warnings(camera.info)]),
                path=path,
                remedy="Choose other cameras with --camera",
            )
        try:
            models[camera.name], turned = camera_model(index.infos[camera.info], camera.rectified)
        except Unreadable as error:
            raise DatasetError(f"{camera.info}: {error}", path=path, remedy="Choose others with --camera") from error
        frame = index.frame_of.get(camera.images) or index.infos[camera.info].header.frame_id.lstrip("/")
        camera_from_lidar = index.frames.still_between(lidar, frame)
        if camera_from_lidar is None:
            none = f"no standing transforms lead from {lidar!r} ({clouds}) to {frame!r} ({camera.images})"
            raise DatasetError(
                "; ".join([none, *index.warnings("/tf")]),
                path=path,
                remedy="Record /tf_static, too; or choose other cameras with --camera",
            )
        transforms.append({"from": LIDAR, "to": camera.name, "matrix": (turned @ camera_from_lidar).tolist()})
    calibration = {
        "points": {"frame": LIDAR, "columns": ["x", "y", "z", "intensity"]},
        "cameras": models,
        "transforms": transforms,
    }
    if moving is not None:
        vehicle_from_lidar = index.frames.still_between(lidar, moving.frame)
        assert vehicle_from_lidar is not None  # every link below the first that moves stands still
        transforms.append({"from": LIDAR, "to": VEHICLE, "matrix": vehicle_from_lidar.tolist()})
        calibration["poses_of"] = VEHICLE
    return calibration, moving


def doubts(calibration: dict[str, Any], index: Index, cameras: Sequence[CameraTopic]) -> list[str]:
    """Warn of cameras whose models or places may be meant otherwise."""
    warnings = []
    for name, model in calibration["cameras"].items():
        if model.get("model") == "fisheye" and not any(model["distortion"]):
            edge = max(model["cx"], model["width"] - model["cx"])
            apart = edge - model["fx"] * math.atan(edge / model["fx"])
            warnings.append(
                f"{name}: its CameraInfo is that of a fisheye with all of D 0, and an ideal one is taken; a pinhole"
                f" differs by {apart:.0f} pixels at the edge of the image. If its images are undistorted, delete its"
                " `model` and `distortion` in calibration.yaml"
            )
    places = {t["to"]: np.array(t["matrix"]) for t in calibration["transforms"]}
    shifts = {camera.name: _shift(index.infos[camera.info]) for camera in cameras}
    for camera in cameras:
        shift = shifts[camera.name]
        if np.linalg.norm(shift) < _BESIDE_M or any(
            np.linalg.norm((places[camera.name] @ inverse(places[other]))[:3, 3] - (shift - shifts[other])) < _BESIDE_M
            for other in shifts
            if np.linalg.norm(shift - shifts[other]) >= _BESIDE_M
        ):
            continue
        frame = index.frame_of.get(camera.images) or index.infos[camera.info].header.frame_id
        warnings.append(
            f"{camera.name}: by P of {camera.info} it stands {np.linalg.norm(shift):.2f} m beside the first camera of a"
            f" pair; it is placed where the bag has {frame}. If that is the frame of the first camera, add"
            f" {shift[0]:+.4f} and {shift[1]:+.4f} to the last numbers of the first and the second row of its `matrix`"
            " in calibration.yaml"
        )
    return warnings


def _shift(info: Any) -> NDArray[np.float64]:
    """Place of the first camera of a stereo pair (3), metres, in the frame of this one, as P of its CameraInfo says."""
    p = values_of(info, "p").reshape(3, 4)
    return np.array([p[0, 3] / p[0, 0], p[1, 3] / p[1, 1], 0.0]) if p[0, 0] and p[1, 1] else np.zeros(3)


def intensity_field(index: Index, clouds: str, asked: str | None, path: Path) -> tuple[str, list[str]]:
    """Choose the field that is read as intensity, and warn where there is none.

    Raises:
        ConfigError: the clouds have no field of the name asked for.
    """
    name = asked or INTENSITY
    if name in index.fields:
        return name, []
    there = ", ".join(index.fields)
    if asked is not None:
        raise ConfigError(
            f"clouds of {clouds} have no field {name!r}", path=path, remedy=f"Name another with --intensity: {there}"
        )
    return name, [
        f"clouds of {clouds} have no field {name!r}, so that all points have 0; --intensity names one: {there}"
    ]
