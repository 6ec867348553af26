"""Sweeps between the key frames of a dataroot, of which the mini dataroot has none: files, rows, poses, the chain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pyquaternion import Quaternion

VERSION = "v1.0-trainval"


def add_earlier_sweeps(root: Path, each: int = 3) -> Path:
    """Put `each` sweeps of LIDAR_TOP before every key frame, 50 ms apart, of a car that moves and turns."""
    rng = np.random.default_rng(7)
    folder = root / VERSION
    data, poses = (json.loads((folder / f"{name}.json").read_text()) for name in ("sample_data", "ego_pose"))
    pose_of = {row["token"]: row for row in poses}
    (root / "sweeps" / "LIDAR_TOP").mkdir(parents=True)
    last: dict[str, dict] = {}  # of each scene, by its calibrated sensor
    for row in [row for row in data if "LIDAR_TOP" in row["filename"]]:
        chain = last.get(row["calibrated_sensor_token"])
        points = np.fromfile(root / row["filename"], np.float32).reshape(-1, 5)
        pose = pose_of[row["ego_pose_token"]]
        for k in range(each, 0, -1):
            token = f"{row['token'][:-2]}s{k}"
            name = f"sweeps/LIDAR_TOP/{token}.pcd.bin"
            seen = points[rng.random(len(points)) < 0.7]
            seen[:9, :2] = rng.uniform(-0.9, 0.9, (9, 2))  # of the car itself
            seen.tofile(root / name)
            turned = Quaternion(axis=(0, 0, 1), degrees=2.0 * k) * Quaternion(pose["rotation"])
            place = np.add(pose["translation"], [-0.25 * k, 0.1 * k, 0.0]).tolist()
            poses.append(pose | {"token": token, "translation": place, "rotation": list(turned)})
            sweep = row | {"token": token, "ego_pose_token": token, "filename": name, "is_key_frame": False}
            sweep |= {"timestamp": row["timestamp"] - 50_000 * k, "prev": chain["token"] if chain else "", "next": ""}
            if chain:
                chain["next"] = token
            data.append(sweep)
            chain = sweep
        if chain:
            chain["next"], row["prev"] = row["token"], chain["token"]
        last[row["calibrated_sensor_token"]] = row
    for name, rows in (("sample_data", data), ("ego_pose", poses)):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return root
