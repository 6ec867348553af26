"""One scene of the data set: drive through a street, write what the sensors saw, return its table rows."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pyquaternion import Quaternion

from driveworld.annotate import Annotation, Pose, count_points, global_box, visibility
from driveworld.lidar import sweep
from driveworld.nuscenes_format import LOG_TOKEN_NAME, VERSION, Row, Tables, attribute_tokens, linked, token
from driveworld.raw_labels import GENERAL_CATEGORIES, THINGS
from driveworld.raycast import Caster
from driveworld.render import render
from driveworld.rig import CAMERAS, LIDAR, Drive, Sensor, make_drive
from driveworld.scene import Scene, make_scene, snapshot
from ovps.files import file_sha256, refusals, write_whole

FRAME_PERIOD = 0.5
JPEG_QUALITY = 92
MIN_SEGMENT_POINTS = 15
THEN = "then run the same command again: it goes on from here"
_START_US = 1_514_764_800_000_000


@dataclass(frozen=True)
class DriveSpec:
    """Everything that determines one scene's files.

    Attributes:
        out: the dataroot. index: of the scene. frames: key frames, 2 per second. seed: of the world.
        image_size: (width, height). azimuth_steps: LiDAR rays per beam.
        camera_labels: also write per-pixel class maps.
    """

    out: str
    index: int
    frames: int
    seed: int
    image_size: tuple[int, int]
    azimuth_steps: int
    camera_labels: bool

    @property
    def name(self) -> str:
        return f"driveworld-{self.index:04d}"

    @property
    def record(self) -> Path:
        """Written last: its existence says that the scene is complete."""
        return Path(self.out) / ".scenes" / f"{self.name}.json"

    def rng(self, *key: int) -> np.random.Generator:
        """A stream of its own for every scene, frame and use."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.index, *key)))

    def token(self, *parts: object) -> str:
        return token(self.seed, self.name, *parts)


def write_scene(spec: DriveSpec) -> Path:
    """Write the sensor and label files of one scene, then its record. Returns the record's path."""
    scene_rng = spec.rng(0)
    scene = make_scene(scene_rng, duration=spec.frames * FRAME_PERIOD)
    drive = make_drive(scene_rng, scene.ego_speed, scene.lane_y)
    yaw = float(scene_rng.uniform(-np.pi, np.pi))
    x, y = scene_rng.uniform(300, 1700, 2).tolist()
    place = Pose((x, y, 0.0), (float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))))
    writer = _SceneWriter(spec, scene, drive, place)
    for frame in range(spec.frames):
        writer.write_frame(frame)
    content = {"tables": writer.tables(), "points": writer.points, "segments": dict(writer.segments)}
    return save_record(spec, content, writer.files)


def save_record(spec: DriveSpec, content: dict[str, Any], files: Iterable[Path]) -> Path:
    """Write the record of a scene whose files are there, with their SHA-256; it appears whole or not at all."""
    sums = {path.relative_to(spec.out).as_posix(): file_sha256(path) for path in files}
    return write_whole(spec.record, json.dumps(content | {"files": sums}).encode(), THEN)


def read_record(spec: DriveSpec) -> dict[str, Any] | None:
    """Read the record of a scene, if the scene is written and its files are what was written.

    Files of worlds that were built before records named them are taken as they are.
    """
    try:
        record = json.loads(spec.record.read_text(encoding="utf-8"))
        sums = record.get("files", {})
        whole = all(file_sha256(Path(spec.out) / name) == known for name, known in sums.items())
    except (OSError, ValueError, AttributeError):
        return None
    return record if whole else None


def save(path: Path, write: Callable[[Path], Any]) -> None:
    """Make the folder of a file, and the file by `write`.

    Raises:
        StorageError: the disk refuses.
    """
    with refusals(path, THEN):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)


class _SceneWriter:
    """Collects table rows while the frames of a scene are written."""

    def __init__(self, spec: DriveSpec, scene: Scene, drive: Drive, place: Pose) -> None:
        self.spec, self.scene, self.drive, self.place = spec, scene, drive, place
        self.points = 0
        self.segments: Counter[str] = Counter()
        self.files: list[Path] = []
        self._samples: list[Row] = []
        self._poses: list[Row] = []
        self._data: defaultdict[str, list[Row]] = defaultdict(list)
        self._boxes: defaultdict[int, list[Row]] = defaultdict(list)
        self._labels: list[Row] = []

    def write_frame(self, frame: int) -> None:
        """Cast, render, label and annotate one key frame."""
        spec, time = self.spec, frame * FRAME_PERIOD
        # Moving objects stand still for the 43 ms in which the sensors fire; the ego vehicle does not.
        caster = Caster(snapshot(self.scene, time, self.drive.pose(time)[0][0]))
        sample = spec.token("sample", frame)
        stamp = _START_US + spec.index * 3_600_000_000 + round(time * 1e6)
        self._samples.append(
            {"token": sample, "timestamp": stamp, "scene_token": spec.token("scene")},
        )
        for number, camera in enumerate(CAMERAS):
            at = time + camera.delay_us * 1e-6
            pose = self.drive.scene_from_ego(at) @ camera.ego_from_sensor
            size = spec.image_size
            picture = render(self.scene, caster, camera.intrinsics(size), pose, size, spec.rng(1, frame, number))
            path = self._add_data(camera, frame, sample, stamp + camera.delay_us, at)
            image = Image.fromarray(picture.rgb)
            self._save(path, lambda p, i=image: i.save(p, quality=JPEG_QUALITY))  # type: ignore[misc]
            if spec.camera_labels:
                labels = Image.fromarray(picture.classes)
                target = Path(spec.out) / "camera_labels" / camera.channel / f"{path.stem}.png"
                self._save(target, lambda p, i=labels: i.save(p))  # type: ignore[misc]
        self._write_lidar(caster, frame, sample, stamp, time)

    def _save(self, path: Path, write: Callable[[Path], Any]) -> None:
        save(path, write)
        self.files.append(path)

    def _write_lidar(self, caster: Caster, frame: int, sample: str, stamp: int, time: float) -> None:
        spec = self.spec
        pose = self.drive.scene_from_ego(time) @ LIDAR.ego_from_sensor
        cloud = sweep(caster, pose, spec.azimuth_steps, spec.rng(2, frame))
        self._save(self._add_data(LIDAR, frame, sample, stamp, time), cloud.points.tofile)
        data_token = self._data[LIDAR.channel][-1]["token"]
        panoptic = self.scene.panoptic_ids[cloud.objects]
        root = Path(spec.out)
        segmented = f"lidarseg/{VERSION}/{data_token}_lidarseg.bin"
        instances = f"panoptic/{VERSION}/{data_token}_panoptic.npz"
        self._save(root / segmented, (panoptic // 1000).astype(np.uint8).tofile)
        self._save(root / instances, lambda path: np.savez_compressed(path, data=panoptic))
        self._labels.append({"token": data_token, "lidarseg": segmented, "panoptic": instances})
        self._count(cloud.objects, panoptic)
        self._annotate(caster, cloud.points, cloud.objects, frame, sample, time, pose)

    def _add_data(self, sensor: Sensor, frame: int, sample: str, stamp: int, time: float) -> Path:
        """Rows of `sample_data` and `ego_pose`; returns where the file goes."""
        spec = self.spec
        is_camera = sensor is not LIDAR
        suffix = "jpg" if is_camera else "pcd.bin"
        filename = f"samples/{sensor.channel}/{spec.name}__{sensor.channel}__{stamp}.{suffix}"
        pose_token = spec.token("ego_pose", sensor.channel, frame)
        ego = self._ego(time)
        self._poses.append(
            {
                "token": pose_token,
                "timestamp": stamp,
                "rotation": list(ego.rotation),
                "translation": list(ego.translation),
            }
        )
        self._data[sensor.channel].append(
            {
                "token": spec.token("sample_data", sensor.channel, frame),
                "sample_token": sample,
                "ego_pose_token": pose_token,
                "calibrated_sensor_token": spec.token("calibrated_sensor", sensor.channel),
                "timestamp": stamp,
                "fileformat": "jpg" if is_camera else "pcd",
                "is_key_frame": True,
                "height": spec.image_size[1] if is_camera else 0,
                "width": spec.image_size[0] if is_camera else 0,
                "filename": filename,
            }
        )
        return Path(spec.out) / filename

    def _ego(self, time: float) -> Pose:
        """Global pose of the ego vehicle."""
        translation, yaw = self.drive.pose(time)
        place = Quaternion(self.place.rotation)
        t = place.rotate(np.array(translation)) + np.array(self.place.translation)
        q = (place * Quaternion(axis=(0, 0, 1), radians=yaw)).elements
        return Pose((float(t[0]), float(t[1]), float(t[2])), (float(q[0]), float(q[1]), float(q[2]), float(q[3])))

    def _count(self, objects: NDArray[np.int32], panoptic: NDArray[np.uint16]) -> None:
        self.points += len(objects)
        _, first, size = np.unique(panoptic, return_index=True, return_counts=True)
        for i in np.flatnonzero(size >= MIN_SEGMENT_POINTS):
            self.segments[self.scene.objects[objects[first[i]]].class_name] += 1

    def _annotate(
        self,
        caster: Caster,
        points: NDArray[np.float32],
        objects: NDArray[np.int32],
        frame: int,
        sample: str,
        time: float,
        scene_from_lidar: NDArray[np.float64],
    ) -> None:
        """Boxes of the things that have points of their own in this sweep."""
        spec, rng = self.spec, self.spec.rng(3, frame)
        ego, sensor = self._ego(time), Pose(LIDAR.translation, LIDAR.rotation)
        eye = scene_from_lidar[:3, 3].astype(np.float32)
        for index in np.unique(objects).tolist():
            item = self.scene.objects[index]
            if item.class_name not in THINGS:
                continue
            pose, size = global_box(item, time, self.place)
            inside = count_points(pose, size, points, ego, sensor)
            if inside == 0:
                continue
            box = Annotation(pose, size, inside, visibility(caster, index, eye, rng))
            self._boxes[index].append(
                {
                    "token": spec.token("sample_annotation", index, frame),
                    "sample_token": sample,
                    "instance_token": spec.token("instance", index),
                    "visibility_token": str(box.visibility),
                    "attribute_tokens": attribute_tokens(item.class_name, item.velocity != 0),
                    "translation": list(box.pose.translation),
                    "size": list(box.size),
                    "rotation": list(box.pose.rotation),
                    "num_lidar_pts": box.lidar_points,
                    "num_radar_pts": 0,
                }
            )

    def tables(self) -> Tables:
        """The scene's rows of all tables that grow with the scenes."""
        spec = self.spec
        return {
            "scene": [
                {
                    "token": spec.token("scene"),
                    "log_token": token("log", LOG_TOKEN_NAME),
                    "nbr_samples": spec.frames,
                    "name": spec.name,
                    "description": f"Procedural street, {self.scene.ego_speed:.1f} m/s",
                    "first_sample_token": self._samples[0]["token"],
                    "last_sample_token": self._samples[-1]["token"],
                }
            ],
            "sample": linked(self._samples),
            "sample_data": [row for rows in self._data.values() for row in linked(rows)],
            "ego_pose": self._poses,
            "calibrated_sensor": [
                {
                    "token": spec.token("calibrated_sensor", s.channel),
                    "sensor_token": token("sensor", s.channel),
                    "translation": list(s.translation),
                    "rotation": list(s.rotation),
                    "camera_intrinsic": [] if s is LIDAR else s.intrinsics(spec.image_size).tolist(),
                }
                for s in (LIDAR, *CAMERAS)
            ],
            "instance": [
                {
                    "token": rows[0]["instance_token"],
                    "category_token": token("category", GENERAL_CATEGORIES[self.scene.objects[index].category]),
                    "nbr_annotations": len(rows),
                    "first_annotation_token": rows[0]["token"],
                    "last_annotation_token": rows[-1]["token"],
                }
                for index, rows in self._boxes.items()
            ],
            "sample_annotation": [row for rows in self._boxes.values() for row in linked(rows)],
            **{
                kind: [
                    {"token": r["token"], "sample_data_token": r["token"], "filename": r[kind]} for r in self._labels
                ]
                for kind in ("lidarseg", "panoptic")
            },
        }
