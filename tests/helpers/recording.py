"""A small recording of one's own: coloured balls around a LiDAR with x forward, and cameras that look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

WIDTH, HEIGHT, FOCAL = 96, 64, 60.0
# a camera that looks along x of the LiDAR: rows are its axes right, down, forward
CAMERA_FROM_LIDAR = np.array([[0, -1.0, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.5], [0, 0, 0, 1]])
BALLS = np.array([[x, y, z] for x in (6.0, 9.0, 14.0) for y in (-2.0, 0.0, 2.5) for z in (-1.0, 0.5)])
POINTS = 12  # of a ball
COLUMNS = ["x", "y", "z", "intensity"]


def xyz_of(number: int) -> np.ndarray:
    """Points (N, 3) of a frame, float64 metres: the balls, and ground all around."""
    rng = np.random.default_rng(number)
    balls = np.repeat(BALLS, POINTS, axis=0) + rng.normal(0, 0.05, (len(BALLS) * POINTS, 3))
    angle, far = rng.uniform(-np.pi, np.pi, 300), rng.uniform(4, 30, 300)
    ground = np.stack([far * np.cos(angle), far * np.sin(angle), np.full(300, -1.8)], axis=1)
    return np.concatenate([balls, ground])


def image_of(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def calibration() -> dict[str, Any]:
    return {
        "points": {"frame": "lidar", "columns": COLUMNS, "dtype": "float32", "intensity_max": 255},
        "cameras": {
            "front": {"width": WIDTH, "height": HEIGHT, "fx": FOCAL, "fy": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
        },
        "transforms": [{"from": "lidar", "to": "front", "matrix": CAMERA_FROM_LIDAR.tolist()}],
    }


def rows_of(number: int) -> np.ndarray:
    """Rows (N, 4) float32 as the point files hold them: intensities are 0 to 255."""
    xyz = xyz_of(number)
    return np.column_stack([xyz, np.linspace(0, 255, len(xyz))]).astype(np.float32)


def write_recording(root: Path, *, frames: int = 2, scene: str | None = None, changed: dict | None = None) -> Path:
    """Write a recording of .bin files without labels; `changed` replaces parts of its calibration."""
    folder = root / scene if scene else root
    (folder / "points").mkdir(parents=True)
    (folder / "images" / "front").mkdir(parents=True)
    for number in range(frames):
        (folder / "points" / f"{number:03d}.bin").write_bytes(rows_of(number).tobytes())
        Image.fromarray(image_of(number)).save(folder / "images" / "front" / f"{number:03d}.png")
    write_calibration(root, calibration() | (changed or {}))
    return root


def write_labels(folder: Path, number: int, label: np.ndarray) -> None:
    """Write the raw labels (N,) of a frame."""
    (folder / "labels").mkdir(exist_ok=True)
    np.save(folder / "labels" / f"{number:03d}.npy", label.astype(np.uint32))


def write_taxonomy(root: Path, raw_to_id: dict[int, int], divisor: int = 1000) -> None:
    """Write a taxonomy of two classes: 1 car (thing), 2 road (stuff)."""
    classes = [
        {"id": number, "name": name, "kind": kind, "color": [9, 9, 9], "synonyms": [name]}
        for number, (name, kind) in enumerate([("car", "thing"), ("road", "stuff")], start=1)
    ]
    content = {
        "name": "harbour",
        "min_points": 1,
        "instance_divisor": divisor,
        "classes": classes,
        "raw_to_id": raw_to_id,
    }
    (root / "taxonomy.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def write_calibration(root: Path, content: Any) -> None:
    (root / "calibration.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def write_readings(folder: Path, lines: list[str]) -> None:
    (folder / "readings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
