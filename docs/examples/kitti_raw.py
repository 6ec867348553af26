"""KITTI in odometry layout as a recording of one's own: python docs/examples/kitti_raw.py SEQUENCE OUT

SEQUENCE holds velodyne/, image_2/, calib.txt and times.txt. KITTI's images are rectified, so there is no distortion;
its camera P2 stands beside the camera that `Tr` leads to, by the last column of P2 divided by its focal length.
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image


def convert(sequence: Path, out: Path, camera: str = "image_2") -> None:
    """Write the sweeps of a KITTI sequence, and the images of one camera, as a recording."""
    rows = dict(line.split(":") for line in (sequence / "calib.txt").read_text().splitlines() if line.strip())
    projection = np.array(rows[camera.replace("image_", "P")].split(), float).reshape(3, 4)
    camera_from_lidar = np.eye(4)
    camera_from_lidar[:3] = np.array(rows["Tr"].split(), float).reshape(3, 4)
    camera_from_lidar[:3, 3] += np.linalg.inv(projection[:, :3]) @ projection[:, 3]
    # 13 digits of a rotation that was multiplied out: bring it back to one
    u, _, v = np.linalg.svd(camera_from_lidar[:3, :3])
    camera_from_lidar[:3, :3] = u @ v

    sweeps = sorted((sequence / "velodyne").glob("*.bin"))
    times = [float(line) for line in (sequence / "times.txt").read_text().split()]
    if len(sweeps) != len(times):
        raise SystemExit(f"{len(sweeps)} scans in {sequence / 'velodyne'}, and {len(times)} lines in times.txt")
    (out / "points").mkdir(parents=True)
    (out / "images" / camera).mkdir(parents=True)
    with open(out / "readings.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["sweep", "sensor", "file", "time_us"])
        for sweep, seconds in zip(sweeps, times, strict=True):
            for sensor, source, folder in (
                ("lidar", sweep, "points"),
                (camera, sequence / camera / f"{sweep.stem}.png", f"images/{camera}"),
            ):
                shutil.copy(source, out / folder / source.name)
                table.writerow([sweep.stem, sensor, f"{folder}/{source.name}", round(1e6 * seconds)])
    with Image.open(sequence / camera / f"{sweeps[0].stem}.png") as image:
        width, height = image.size
    calibration = {
        "points": {"frame": "velodyne", "columns": ["x", "y", "z", "intensity"], "intensity_max": 1},
        "cameras": {
            camera: {
                "width": width,
                "height": height,
                "fx": float(projection[0, 0]),
                "fy": float(projection[1, 1]),
                "cx": float(projection[0, 2]),
                "cy": float(projection[1, 2]),
            }
        },
        "transforms": [{"from": "velodyne", "to": camera, "matrix": camera_from_lidar.tolist()}],
        "occlusion": {"vertical_deg": 0.6, "horizontal_deg": 0.3},  # 64 beams over 27 degrees
    }
    (out / "calibration.yaml").write_text(yaml.safe_dump(calibration, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
