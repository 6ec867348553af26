"""Sweeps of a scene with their images, as `ovps.frame.Frame`s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.folder.calibration import SENSOR, Calibration, load_calibration
from ovps.datasets.folder.labels import TAXONOMY, own_taxonomy
from ovps.datasets.folder.layout import IMAGES, LABELS, Reading, Scene, Sweep
from ovps.datasets.folder.undistort import LENS_REMEDY, pinhole
from ovps.entries import no_text
from ovps.errors import DatasetError
from ovps.file_names import NAME_BYTES
from ovps.frame import Camera, Frame
from ovps.geometry.transforms import inverse

FOLDER = "folder"  # the name of the data set
VERSION = "1"  # of the layout


def check_scene(root: Path, scene: Scene, calibration: Calibration) -> None:
    """Check that cameras, labels and poses of a scene are those that the calibration file speaks of.

    Raises:
        DatasetError: they are not.
    """
    found = {camera for sweep in scene.sweeps for camera in sweep.images}
    unknown = sorted(found - calibration.cameras.keys())
    if unknown:
        raise DatasetError(
            f"scene {scene.name} has images of {', '.join(unknown)}, of which the calibration file says nothing",
            path=scene.calibration,
            remedy=f"Add it under `cameras` and `transforms`, or move its folder out of {scene.folder / IMAGES}",
        )
    labelled = next((sweep for sweep in scene.sweeps if sweep.labels), None)
    if labelled is not None and own_taxonomy(root) is None:
        raise DatasetError(
            "labels, and nothing says what they mean",
            path=root / TAXONOMY,
            remedy=f"Write a taxonomy (docs/taxonomies.md), or move the folder `{LABELS}` away",
        )
    if scene.sweeps[0].points.world_from is not None and calibration.poses_of is None:
        raise DatasetError(
            "readings.csv has poses, and nothing says of what",
            path=scene.calibration,
            remedy=f"Add `poses_of:` the frame that they are of, or `{SENSOR}` if each is of its own sensor",
        )


def check_images(scenes: Sequence[Scene]) -> None:
    """Check that some scene has images.

    Raises:
        DatasetError: none has.
    """
    if scenes and not any(sweep.images for scene in scenes for sweep in scene.sweeps):
        first = scenes[0]
        cameras = load_calibration(first.calibration).cameras
        raise DatasetError(
            f"scene {first.name} has no images: CLIP sees nothing without",
            path=first.folder / IMAGES,
            remedy=f"Put images into {IMAGES}/CAMERA: there are {', '.join(cameras)}",
        )


def token_of(scene: Scene, sweep: Sweep) -> str:
    """The token of a sweep's frame."""
    return f"{scene.name}.{sweep.name}"


def frame_of(scene: Scene, sweep: Sweep, calibration: Calibration, subset: str, index: int) -> Frame:
    """Describe a sweep and its images as a frame of a split.

    Raises:
        DatasetError: names that no store can hold, or a lens that is no camera's.
    """
    token = token_of(scene, sweep)
    if no_text(token):
        raise DatasetError(
            f"the name of a scene or sweep is no text in UTF-8: {token!a}",
            path=sweep.points.file,
            remedy="Rename the folder or file; stores and pages are named after it",
        )
    if len(token.encode()) > NAME_BYTES:
        raise DatasetError(
            f"scene and sweep have names of {len(token.encode())} bytes together, files are named after them",
            path=sweep.points.file,
            remedy=f"Rename them, {NAME_BYTES} bytes are room enough",
        )
    lidar = calibration.lidar
    world = _world_from(sweep.points, lidar, lidar, calibration)
    cameras = []
    for name, model in calibration.cameras.items():
        reading = sweep.images.get(name)
        if reading is None:
            continue
        try:
            fx, fy, cx, cy = pinhole(model)
        except ValueError as error:
            raise DatasetError(
                f"camera {name}: {error}", path=scene.calibration, remedy=f"{LENS_REMEDY}, or rectify the images first"
            ) from error
        camera_from_lidar = calibration.between(lidar, name)
        if reading.world_from is not None:
            camera_from_lidar = inverse(_world_from(reading, name, lidar, calibration)) @ world
        cameras.append(
            Camera(
                channel=name,
                image_path=str(reading.file),
                width=model.width,
                height=model.height,
                intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
                camera_from_lidar=camera_from_lidar,
                timestamp_us=reading.time_us,
                undistorted=model.distorted,
            )
        )
    return Frame(
        dataset=FOLDER,
        version=VERSION,
        subset=subset,
        scene=scene.name,
        token=token,
        index=index,
        timestamp_us=sweep.points.time_us,
        points_path=str(sweep.points.file),
        labels_path=str(sweep.labels) if sweep.labels else None,
        cameras=tuple(cameras),
        global_from_lidar=world,
    )


def _world_from(reading: Reading, frame: str, lidar: str, calibration: Calibration) -> NDArray[np.float64]:
    """`world_from_frame` (4, 4) at the time of a reading; the LiDAR's frame is the world where no pose is known.

    A pose of `sensor` is that of the camera's own frame, and of the frame that the point files are in.
    """
    if reading.world_from is None:
        return calibration.between(frame, lidar)
    of = calibration.poses_of
    if of == SENSOR:
        of = calibration.points.frame if frame == lidar else frame
    assert of is not None
    return reading.world_from @ calibration.between(frame, of)
