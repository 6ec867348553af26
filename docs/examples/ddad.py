"""A DDAD scene (DGP layout) as a recording of one's own: python docs/examples/ddad.py SCENE_FOLDER OUT

SCENE_FOLDER holds one scene_*.json, calibration/, point_cloud/ and rgb/. Every datum has a pose of its own sensor in
the world, so `poses_of: sensor`; points lie in the vehicle frame, on the ground, and are brought to a LiDAR frame as
high as that of nuScenes, where a network that was trained there has learnt the ground to be.
"""

from __future__ import annotations

import csv
import datetime
import json
import shutil
import sys
from pathlib import Path

import yaml

LIDAR_HEIGHT_M = 1.84  # nuScenes' over the ground; DDAD does not say how high its own is


def convert(scene: Path, out: Path) -> None:
    """Write a scene of DDAD as a recording."""
    (path,) = scene.glob("scene_*.json")
    content = json.loads(path.read_text())
    data = {datum["key"]: datum for datum in content["data"]}
    (key,) = {sample["calibration_key"] for sample in content["samples"]}
    rig = json.loads((scene / "calibration" / f"{key}.json").read_text())

    out.mkdir(parents=True)
    sizes = {}
    with open(out / "readings.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["sweep", "sensor", "file", "time_us", "x", "y", "z", "qw", "qx", "qy", "qz"])
        for number, sample in enumerate(content["samples"]):
            for datum in (data[key] for key in sample["datum_keys"]):
                (kind, reading), sensor = next(iter(datum["datum"].items())), datum["id"]["name"]
                folder = Path("points") if kind == "point_cloud" else Path("images") / sensor
                target = folder / Path(reading["filename"]).name
                (out / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(scene / reading["filename"], out / target)
                if kind == "image":
                    sizes[sensor] = reading["width"], reading["height"]
                place, turn = reading["pose"]["translation"], reading["pose"]["rotation"]
                table.writerow(
                    [
                        f"{number:06d}",
                        "lidar" if kind == "point_cloud" else sensor,
                        target.as_posix(),
                        _microseconds(datum["id"]["timestamp"]),
                        *(place[axis] for axis in "xyz"),
                        *(turn[part] for part in ("qw", "qx", "qy", "qz")),
                    ]
                )
    transforms = [
        {"from": "lidar", "to": "vehicle", "translation": [0, 0, LIDAR_HEIGHT_M], "rotation_wxyz": [1, 0, 0, 0]}
    ]
    cameras = {}
    for sensor, lens, mount in zip(rig["names"], rig["intrinsics"], rig["extrinsics"], strict=True):
        if sensor not in sizes:
            continue
        width, height = sizes[sensor]
        cameras[sensor] = {"width": width, "height": height, **{k: lens[k] for k in ("fx", "fy", "cx", "cy")}}
        transforms.append(
            {
                "from": sensor,
                "to": "vehicle",
                "translation": [mount["translation"][axis] for axis in "xyz"],
                "rotation_wxyz": [mount["rotation"][part] for part in ("qw", "qx", "qy", "qz")],
            }
        )
    calibration = {
        "points": {
            "frame": "vehicle",
            "into": "lidar",
            "columns": ["x", "y", "z", "intensity"],
            "intensity_max": 1,
        },
        "cameras": cameras,
        "transforms": transforms,
        "poses_of": "sensor",
        "occlusion": {"vertical_deg": 0.5, "horizontal_deg": 0.3},
    }
    (out / "calibration.yaml").write_text(yaml.safe_dump(calibration, sort_keys=False), encoding="utf-8")


def _microseconds(stamp: str) -> int:
    """`2464-11-12T01:04:10.027900Z` as microseconds since 1970."""
    time = datetime.datetime.fromisoformat(stamp)
    return (time - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(microseconds=1)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
