"""Frames of the data set that a store holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cache_schemas import CameraRow, FrameRow, SkippedRow
from ovps.cache.manifest import read_manifests, write_manifest
from ovps.cache.storage import Storage
from ovps.errors import DatasetError
from ovps.frame import Camera, Frame

Place = tuple[str, int, str]  # scene, index in it, token
CALIBRATION_ERROR = 1e-6  # pixels and metres: sums of another machine


@dataclass(frozen=True)
class Held:
    """A frame in a store.

    Attributes:
        row: its record; None if it was never computed.
        skipped: why it could not be computed, or not with its labels; None if it could.
    """

    partition: str
    scene: str
    row: FrameRow | None = None
    skipped: SkippedRow | None = None

    def lacks(self, frame: Frame) -> bool:
        """Tell whether the store lacks something of this frame of the data set: the frame itself, its labels, or what
        its cameras, their images and calibration are now."""
        return self.row is None or self.unlabelled(frame) or self.recalibrated(frame)

    def unlabelled(self, frame: Frame) -> bool:
        """Tell whether the frame was computed before it had labels."""
        return self.row is not None and not self.row.labelled and frame.labels_path is not None

    def recalibrated(self, frame: Frame) -> bool:
        """Tell whether the frame was computed with other cameras or images of them, or where they were held to stand
        elsewhere; with earlier sweeps, also where the vehicle was."""
        if self.row is None:
            return False
        if frame.earlier and not _alike(self.row.global_from_lidar, frame.global_from_lidar):
            return True
        there = {camera.channel: camera for camera in self.row.cameras}
        if there.keys() != {camera.channel for camera in frame.cameras}:
            return True
        return any(not _same_image(there[camera.channel], camera) for camera in frame.cameras)


def _same_image(row: CameraRow, camera: Camera) -> bool:
    return (
        (row.width, row.height) == (camera.width, camera.height)
        and _same_file(PurePosixPath(row.image_path).parts, Path(camera.image_path).absolute().parts)
        and _alike(row.intrinsics, camera.intrinsics)
        and _alike(row.camera_from_lidar, camera.camera_from_lidar)
    )


def _same_file(before: Sequence[str], now: Sequence[str]) -> bool:
    """Tell whether a path below a data root is that of a file of now: by its name and two folders above it.

    Folders above may be another root, or a scene's, which a link may give any name. Of a file outside of the root,
    which may have been moved with or without it, the name alone counts.
    """
    below = before[-1:] if before[0] == ".." else before[-3:]
    return tuple(now[-len(below) :]) == tuple(below)


def _alike(before: Sequence[float], now: NDArray[np.float64]) -> bool:
    return np.allclose(before, now.ravel(), rtol=0, atol=CALIBRATION_ERROR)


def placed(row: FrameRow, frame: Frame) -> FrameRow:
    """A frame's record with what the data set says now of its subset, place in the scene, times and pose.

    With earlier sweeps the pose is that by which they were joined, and stays until they are joined anew.
    """
    pose, times = frame.global_from_lidar, {camera.channel: camera.timestamp_us for camera in frame.cameras}
    stays = frame.earlier or _alike(row.global_from_lidar, pose)
    cameras = (
        camera.model_copy(update={"timestamp_us": times.get(camera.channel, camera.timestamp_us)})
        for camera in row.cameras
    )
    return row.model_copy(
        update={
            "subset": frame.subset,
            "index": frame.index,
            "timestamp_us": frame.timestamp_us,
            "cameras": tuple(cameras),
        }
        | ({} if stays else {"global_from_lidar": tuple(pose.ravel().tolist())})
    )


def held_in(storage: Storage) -> dict[str, Held]:
    """Every frame of a store by token.

    Raises:
        CorruptStoreError: a manifest that cannot be read.
    """
    held: dict[str, Held] = {}
    for row in read_manifests(storage):
        skipped = {record.token: record for record in row.skipped}
        for token, record in skipped.items():
            held.setdefault(token, Held(row.partition, row.scene, None, record))
        for frame in row.frames:
            held[frame.token] = Held(row.partition, row.scene, frame, skipped.get(frame.token))
    return held


def check_scenes(frames: Sequence[Frame], held: dict[str, Held], storage: Storage) -> None:
    """The same token in another drive is another frame, and the same scene may be another drive.

    Raises:
        DatasetError: the store holds a frame of this token in another scene, or another drive under a scene's name.
    """
    for frame in frames:
        there = held[frame.token].scene if frame.token in held else frame.scene
        if there != frame.scene:
            raise DatasetError(
                f"the data set has the frame in scene {frame.scene!r}, the store {storage.at()} in {there!r}",
                frame=frame.token,
                remedy="Tokens must differ between scenes; if the scene was renamed, precompute into a new folder",
            )

    known = [(one.scene, one.row.index, token) for token, one in held.items() if one.row is not None]
    scene = other_drive(known, [(frame.scene, frame.index, frame.token) for frame in frames])
    if scene is not None:
        raise DatasetError(
            f"the store {storage.at()} holds other frames as scene {scene!r}, none of which the data set has there",
            remedy="Choose another place for the store: it is another drive of the name, or one with new tokens",
        )


def other_drive(known: Iterable[Place], new: Iterable[Place]) -> str | None:
    """Find a scene that is one drive here and another there: no frame in common, and two at one place.

    Args:
        known, new: scene, index in it, and token of frames.
    """
    here, there = _drives(known), _drives(new)
    for scene in sorted(here.keys() & there.keys()):
        (indices, tokens), (others, other_tokens) = here[scene], there[scene]
        if not tokens & other_tokens and indices & others:
            return scene
    return None


def _drives(places: Iterable[Place]) -> dict[str, tuple[set[int], set[str]]]:
    """Indices and tokens by scene."""
    found: dict[str, tuple[set[int], set[str]]] = {}
    for scene, index, token in places:
        indices, tokens = found.setdefault(scene, (set(), set()))
        indices.add(index)
        tokens.add(token)
    return found


def twins(held: Mapping[str, Held]) -> Iterator[tuple[str, str]]:
    """Find pairs of scenes with equal times and numbers of points and voxels: one, perhaps, under two names."""
    frames: dict[str, list[tuple[int, ...]]] = {}
    for one in held.values():
        if one.row is not None:
            about = (one.row.index, one.row.timestamp_us, one.row.points, one.row.voxels)
            frames.setdefault(one.scene, []).append(about)
    first: dict[tuple[tuple[int, ...], ...], str] = {}
    for scene, rows in frames.items():
        other = first.setdefault(tuple(sorted(rows)), scene)
        if other != scene:
            yield other, scene


def move(frames: Sequence[Frame], storage: Storage) -> int:
    """Bring subset, place in the scene, times and pose of the store's frames up to what the data set says now.

    Nothing is computed, only manifests are written. Returns the number of frames that were moved.

    Raises:
        StorageError: the disk refuses; each partition is as it was, or done.
        CacheError: another run is writing.
    """
    now = {frame.token: frame for frame in frames}
    moved = 0
    for row in read_manifests(storage):
        after = tuple(placed(one, now[one.token]) if one.token in now else one for one in row.frames)
        count = sum(a != b for a, b in zip(row.frames, after, strict=True))
        if count:
            write_manifest(storage, row.model_copy(update={"frames": after}), row)
            moved += count
    return moved
