"""A nuScenes dataroot of a few small frames, written in milliseconds: all 13 tables, lidarseg, panoptic, splits.

The geometry is consistent (real calibration chain, ego motion between the sensors' time stamps) but the images are
noise that has nothing to do with the points. For frames that look like something, see `driveworld`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path

import numpy as np
from nuscenes.utils.color_map import get_colormap
from PIL import Image
from pyquaternion import Quaternion

VERSION = "v1.0-trainval"
START_US = 1_700_000_000_000_000
CAMERA_YAW_DEG = {
    "CAM_FRONT": 0.0,
    "CAM_FRONT_RIGHT": -55.0,
    "CAM_BACK_RIGHT": -110.0,
    "CAM_BACK": 180.0,
    "CAM_BACK_LEFT": 110.0,
    "CAM_FRONT_LEFT": 55.0,
}
CATEGORIES = tuple(get_colormap())  # the 32 general classes; the devkit lists them in the order of their index

# general class, centre (x, y, z) and size in metres in the LiDAR frame (x right, y front, z up)
THINGS = (
    ("vehicle.car", (3.0, 10.0, -1.0), (1.9, 4.5, 1.6)),
    ("vehicle.car", (-3.0, -12.0, -1.0), (1.9, 4.5, 1.6)),
    ("vehicle.bus.rigid", (-4.0, 20.0, 0.0), (2.8, 11.0, 3.2)),  # novel in b12n4
    ("human.pedestrian.adult", (7.0, 6.0, -1.0), (0.7, 0.7, 1.7)),  # novel in b12n4
    ("human.pedestrian.child", (7.5, 6.0, -1.2), (0.5, 0.5, 1.2)),  # novel in b12n4, touches the adult
    ("vehicle.motorcycle", (-7.0, 4.0, -1.1), (0.8, 2.0, 1.4)),  # novel in b12n4
    ("vehicle.bicycle", (8.0, -8.0, -1.1), (0.6, 1.7, 1.2)),  # novel in b11n5
    ("movable_object.barrier", (-5.0, -5.0, -1.3), (2.0, 0.5, 1.0)),
    ("vehicle.truck", (5.0, -22.0, -0.3), (2.5, 7.0, 3.0)),
)
STUFF = (
    ("flat.driveable_surface", (0.0, 0.0, -1.8), (10.0, 60.0, 0.02)),
    ("flat.sidewalk", (7.0, 0.0, -1.7), (4.0, 60.0, 0.02)),
    ("flat.terrain", (-11.0, 0.0, -1.7), (12.0, 60.0, 0.1)),  # novel in b11n5
    ("static.manmade", (25.0, 0.0, 0.5), (8.0, 60.0, 4.5)),  # novel in b11n5
    ("static.vegetation", (-22.0, 0.0, 0.0), (10.0, 60.0, 3.5)),  # novel in b12n4
)


def write_mini_nuscenes(
    root: Path,
    *,
    scenes: int = 2,
    frames: int = 2,
    image_size: tuple[int, int] = (128, 72),
    points: int = 400,
    seed: int = 0,
    labelled: bool = True,
) -> Path:
    """Write a dataroot of version v1.0-trainval and return it. The same arguments give the same bytes.

    Args:
        root: made if missing.
        scenes: named mini-0001, ...; all but the last are the split `train`, the last is `val` (one scene: `train`).
        frames: key frames per scene, half a second apart, at 5 m/s.
        image_size: width, height of the six cameras, pixels.
        points: per frame; every thing has at least 15 of 400, about 5 % stand inside a segment of another class.
        labelled: write the lidarseg and panoptic tables and files.
    """
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict]] = {name: [] for name in _TABLES}
    tables["category"] = [
        {"token": _token("category", i), "name": name, "description": "", "index": i}
        for i, name in enumerate(CATEGORIES)
    ]
    tables["visibility"] = [{"token": "4", "level": "v80-100", "description": ""}]
    tables["attribute"] = [{"token": _token("attribute"), "name": "vehicle.moving", "description": ""}]
    tables["sensor"] = [
        {"token": _token("sensor", c), "channel": c, "modality": "camera" if c.startswith("CAM") else "lidar"}
        for c in ("LIDAR_TOP", *CAMERA_YAW_DEG)
    ]
    log = _token("log")
    tables["log"] = [
        {
            "token": log,
            "logfile": "mini",
            "vehicle": "n001",
            "date_captured": "2024-01-01",
            "location": "singapore-onenorth",
        }
    ]
    tables["map"] = [
        {"token": _token("map"), "category": "semantic_prior", "filename": "maps/blank.png", "log_tokens": [log]}
    ]
    _folder(root / "maps")
    Image.new("L", (8, 8)).save(root / "maps" / "blank.png")

    names = [f"mini-{s + 1:04d}" for s in range(scenes)]
    for s, name in enumerate(names):
        _write_scene(root, tables, rng, s, name, frames, image_size, points, labelled)
    if not labelled:
        del tables["lidarseg"], tables["panoptic"]

    folder = _folder(root / VERSION)
    for table, rows in tables.items():
        (folder / f"{table}.json").write_text(json.dumps(rows))
    splits = {"train": names[:-1], "val": names[-1:]} if scenes > 1 else {"train": names, "val": []}
    (folder / "splits.json").write_text(json.dumps(splits))
    return root


def as_official(root: Path, version: str, scenes: Sequence[str]) -> Path:
    """Turn the tables into those of an official version: its name, names of its scenes, no splits of their own."""
    folder = (root / VERSION).rename(root / version)
    (folder / "splits.json").unlink()
    for kind in ("lidarseg", "panoptic"):
        if (root / kind).is_dir():
            (root / kind / VERSION).rename(root / kind / version)
            table = folder / f"{kind}.json"
            table.write_text(table.read_text().replace(f"{kind}/{VERSION}/", f"{kind}/{version}/"))
    rows = json.loads((folder / "scene.json").read_text())
    named = [row | {"name": name} for row, name in zip(rows, scenes, strict=True)]
    (folder / "scene.json").write_text(json.dumps(named))
    return folder


_TABLES = (
    *("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log"),
    *("scene", "sample", "sample_data", "sample_annotation", "map", "lidarseg", "panoptic"),
)


def with_other_tokens(root: Path) -> Path:
    """Give the frames other tokens in all tables, as another recording of the same scene names has them."""
    tables = list((root / VERSION).glob("*.json"))
    rows = json.loads((root / VERSION / "sample_data.json").read_text())
    for table in tables:
        text = table.read_text()
        for row in rows:
            text = text.replace(row["token"], row["token"][::-1])
        table.write_text(text)
    return root


def _write_scene(root, tables, rng, number, name, frames, image_size, points, labelled) -> None:
    samples = [_token("sample", name, f) for f in range(frames)]
    tables["scene"].append(
        {
            "token": _token("scene", name),
            "log_token": tables["log"][0]["token"],
            "nbr_samples": frames,
            "name": name,
            "description": "",
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
        }
    )
    width, height = image_size
    focal = 0.8 * width
    intrinsics = [[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]
    for channel in ("LIDAR_TOP", *CAMERA_YAW_DEG):
        lidar = channel == "LIDAR_TOP"
        tables["calibrated_sensor"].append(
            {
                "token": _token("calibrated_sensor", name, channel),
                "sensor_token": _token("sensor", channel),
                "translation": [0.94, 0.0, 1.84] if lidar else [1.2, 0.0, 1.5],
                "rotation": list(_lidar_rotation() if lidar else _camera_rotation(CAMERA_YAW_DEG[channel])),
                "camera_intrinsic": [] if lidar else intrinsics,
            }
        )
    for f, sample in enumerate(samples):
        time_us = START_US + number * 60_000_000 + f * 500_000
        tables["sample"].append(
            {
                "token": sample,
                "timestamp": time_us,
                "prev": samples[f - 1] if f else "",
                "next": samples[f + 1] if f + 1 < frames else "",
                "scene_token": _token("scene", name),
            }
        )
        cloud, panoptic = _cloud(rng, points)
        stem = f"{name}-{f:03d}"
        lidar_token = _sample_data(tables, name, f, frames, "LIDAR_TOP", time_us, f"{stem}.pcd.bin", (0, 0))
        cloud.tofile(_folder(root / "samples" / "LIDAR_TOP") / f"{stem}.pcd.bin")
        for c, channel in enumerate(CAMERA_YAW_DEG):
            _sample_data(tables, name, f, frames, channel, time_us - 44_000 + 7_000 * c, f"{stem}.jpg", image_size)
            noise = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            picture = Image.fromarray(noise).resize(image_size, Image.Resampling.BICUBIC)
            picture.save(_folder(root / "samples" / channel) / f"{stem}.jpg")
        if labelled:
            _write_labels(root, tables, lidar_token, panoptic)


def _sample_data(tables, scene, frame, frames, channel, time_us, file, image_size) -> str:
    token = _token("sample_data", scene, frame, channel)
    seconds = (time_us - START_US + 1_000_000) / 1e6  # from 1 s: cameras fire before the first LiDAR sweep
    heading = Quaternion(axis=(0, 0, 1), degrees=30.0 + 0.5 * seconds)
    position = np.array([411.3, 1180.9, 0.0]) + heading.rotate(np.array([5.0 * seconds, 0.0, 0.0]))
    pose = _token("ego_pose", scene, frame, channel)
    tables["ego_pose"].append(
        {"token": pose, "timestamp": time_us, "rotation": list(heading), "translation": position.tolist()}
    )
    tables["sample_data"].append(
        {
            "token": token,
            "sample_token": _token("sample", scene, frame),
            "ego_pose_token": pose,
            "calibrated_sensor_token": _token("calibrated_sensor", scene, channel),
            "timestamp": time_us,
            "fileformat": "pcd" if channel == "LIDAR_TOP" else "jpg",
            "is_key_frame": True,
            "height": image_size[1],
            "width": image_size[0],
            "filename": f"samples/{channel}/{file}",
            "prev": _token("sample_data", scene, frame - 1, channel) if frame else "",
            "next": _token("sample_data", scene, frame + 1, channel) if frame + 1 < frames else "",
        }
    )
    return token


def _write_labels(root, tables, lidar_token, panoptic) -> None:
    row = {"token": lidar_token, "sample_data_token": lidar_token}
    lidarseg, npz = f"lidarseg/{VERSION}/{lidar_token}_lidarseg.bin", f"panoptic/{VERSION}/{lidar_token}_panoptic.npz"
    tables["lidarseg"].append(row | {"filename": lidarseg})
    tables["panoptic"].append(row | {"filename": npz})
    _folder((root / lidarseg).parent)
    _folder((root / npz).parent)
    (panoptic // 1000).astype(np.uint8).tofile(root / lidarseg)
    np.savez_compressed(root / npz, data=panoptic)


def _cloud(rng, count) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 5) float32 as on disk, and panoptic labels (N,) uint16."""
    shift = rng.uniform(-1, 1, (len(THINGS), 3)) * (1.0, 1.0, 0.0)
    shift[4] = shift[3]  # the child stays beside the adult
    per_thing = max(count // 25, 1)  # 16 of 400: enough to be evaluated
    boxes = [(n, np.add(c, d), s, i + 1) for i, ((n, c, s), d) in enumerate(zip(THINGS, shift, strict=True))]
    parts, labels = [], []
    for name, centre, size, instance in boxes[: max(count // per_thing - 1, 0)]:
        parts.append(centre + rng.uniform(-0.5, 0.5, (per_thing, 3)) * size)
        labels += [1000 * CATEGORIES.index(name) + instance] * per_thing
    free = count - len(labels)
    kinds = rng.integers(0, len(STUFF), free)
    centres, sizes = np.array([c for _, c, _ in STUFF]), np.array([s for _, _, s in STUFF])
    parts.append(centres[kinds] + rng.uniform(-0.5, 0.5, (free, 3)) * sizes[kinds])
    labels += [1000 * CATEGORIES.index(STUFF[k][0]) for k in kinds]
    xyz, label = np.concatenate(parts), np.array(labels, np.uint16)

    # stuff points beside a point of any other class: voxels of mixed classes
    mixed = np.flatnonzero(label % 1000 == 0)[: count // 20]
    xyz[mixed] = xyz[rng.integers(0, count, len(mixed))] + rng.normal(0, 0.01, (len(mixed), 3))
    last = np.arange(count)[-(count // 50) or count :]
    label[last] = rng.choice(np.array([0, 1000 * 31], np.uint16), len(last))  # noise and the ego vehicle
    xyz[last[::2]] *= 3.0  # some points beyond every grid's range
    cloud = np.column_stack([xyz, rng.integers(0, 256, count), rng.integers(0, 32, count)]).astype(np.float32)
    order = rng.permutation(count)
    return cloud[order], label[order]


def _lidar_rotation() -> Quaternion:
    """Ego (x front, y left) from LiDAR (x right, y front)."""
    return Quaternion(axis=(0, 0, 1), degrees=-90.0)


def _camera_rotation(yaw_deg: float) -> Quaternion:
    """Ego from camera (x right, y down, z forward), looking `yaw_deg` to the left of the front."""
    forward = Quaternion(matrix=np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))
    return Quaternion(axis=(0, 0, 1), degrees=yaw_deg) * forward


def _token(*parts: object) -> str:
    return md5("/".join(map(str, parts)).encode()).hexdigest()


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
