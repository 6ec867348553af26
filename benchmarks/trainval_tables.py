"""Tables as large as those of v1.0-trainval, with the columns, the layout of the text and the numbers of rows of real
ones: 850 scenes, 34,149 key frames, 2.6 million rows of sensor data. No images and no points; label files are empty.

    python -m benchmarks.trainval_tables FOLDER [--scenes 85]
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ovps.datasets.nuscenes_tables import official_splits
from ovps.taxonomy import load_taxonomy

VERSION = "v1.0-trainval"
SCENES = 850
SAMPLES = 34_149
INSTANCES, ANNOTATIONS = 64_386, 1_166_187
CAMERAS = ("FRONT", "FRONT_RIGHT", "BACK_RIGHT", "BACK", "BACK_LEFT", "FRONT_LEFT")
RADARS = ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK_LEFT", "BACK_RIGHT")
# rows of sensor data by key frame: 20 Hz, 12 Hz and 13 Hz against 2 Hz give the 2.63 million of the real tables
SENSORS = {
    "LIDAR_TOP": 10,
    **{f"CAM_{side}": 6 for side in CAMERAS},
    **{f"RADAR_{side}": 6.2 for side in RADARS},
}
MODALITY = {"LID": "lidar", "CAM": "camera", "RAD": "radar"}


def write_trainval_tables(root: Path, scenes: int = SCENES) -> Path:
    """Write a dataroot of tables alone and return it. The same arguments give the same bytes.

    Args:
        scenes: of the 850; samples, annotations and so on become fewer with them.
    """
    rng = random.Random(0)
    folder = root / VERSION
    (root / "maps").mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    Image.new("L", (8, 8)).save(root / "maps" / "blank.png")
    names = sorted(official_splits()["train"] + official_splits()["val"])[:: SCENES // scenes][:scenes]
    counts = [SAMPLES * (s + 1) // SCENES - SAMPLES * s // SCENES for s in range(scenes)]
    scene, log = _tokens(rng, scenes), _tokens(rng, 1)[0]
    sample = [_tokens(rng, count) for count in counts]
    sensor = dict(zip(SENSORS, _tokens(rng, len(SENSORS)), strict=True))
    calibrated = [dict(zip(SENSORS, _tokens(rng, len(SENSORS)), strict=True)) for _ in names]
    lidar = [_tokens(rng, count) for count in counts]

    categories = [
        {"token": f"{i:032x}", "name": name, "description": "", "index": i}
        for i, name in load_taxonomy("nuscenes").raw_names.items()
    ]
    _write(folder, "category", categories)
    _write(folder, "attribute", [{"token": f"{1:032x}", "name": "vehicle.moving", "description": ""}])
    _write(folder, "visibility", [{"token": "4", "level": "v80-100", "description": ""}])
    _write(folder, "log", [{"token": log, "logfile": "n015-2018-07-24-11-22-45+0800", "vehicle": "n015",
                            "date_captured": "2018-07-24", "location": "singapore-onenorth"}])  # fmt: skip
    _write(folder, "map", [{"category": "semantic_prior", "token": f"{2:032x}", "filename": "maps/blank.png",
                            "log_tokens": [log]}])  # fmt: skip
    _write(folder, "sensor", [{"token": t, "channel": c, "modality": MODALITY[c[:3]]}
                              for c, t in sensor.items()])  # fmt: skip
    _write(folder, "scene", ({"token": scene[s], "log_token": log, "nbr_samples": counts[s],
                              "first_sample_token": sample[s][0], "last_sample_token": sample[s][-1], "name": name,
                              "description": "Parked truck, construction, intersection, turn left, following a van"}
                             for s, name in enumerate(names)))  # fmt: skip
    _write(folder, "sample", ({"token": token, "timestamp": _time(s, f), "prev": row[f - 1] if f else "",
                               "next": row[f + 1] if f + 1 < len(row) else "", "scene_token": scene[s]}
                              for s, row in enumerate(sample) for f, token in enumerate(row)))  # fmt: skip
    _write(folder, "calibrated_sensor", (_calibrated(rng, token, sensor[c], c)
                                         for row in calibrated for c, token in row.items()))  # fmt: skip
    _write_sensor_data(folder, rng, sample, calibrated, lidar)
    _write_boxes(folder, rng, sample, categories)
    for kind, end in (("lidarseg", "lidarseg.bin"), ("panoptic", "panoptic.npz")):
        files = root / kind / VERSION
        files.mkdir(parents=True, exist_ok=True)
        tokens = [token for row in lidar for token in row]
        for token in tokens:
            (files / f"{token}_{end}").touch()
        _write(folder, kind, ({"token": token, "sample_data_token": token,
                               "filename": f"{kind}/{VERSION}/{token}_{end}"} for token in tokens))  # fmt: skip
    return root


def _write_sensor_data(folder: Path, rng: random.Random, sample, calibrated, lidar) -> None:
    """sample_data and ego_pose, which has a row of the same token for each; both written row by row."""
    with _table(folder, "sample_data") as data, _table(folder, "ego_pose") as poses:
        for s, samples in enumerate(sample):
            for channel, often in SENSORS.items():
                count = int(len(samples) * often)
                key = {int(f * often): f for f in range(len(samples))}
                tokens = _tokens(rng, count)
                if channel == "LIDAR_TOP":
                    for place, f in key.items():
                        tokens[place] = lidar[s][f]
                form, (height, width) = _form(channel)
                for i, token in enumerate(tokens):
                    time = _time(s, 0) + int(500_000 * i / often)
                    kind = "samples" if i in key else "sweeps"
                    name = f"n015-2018-07-24-11-22-45+0800__{channel}__{time}.{form}"
                    data.add({
                        "token": token, "sample_token": samples[min(int(i / often), len(samples) - 1)],
                        "ego_pose_token": token, "calibrated_sensor_token": calibrated[s][channel],
                        "timestamp": time, "fileformat": form.partition(".")[0], "is_key_frame": i in key,
                        "height": height, "width": width, "filename": f"{kind}/{channel}/{name}",
                        "prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < count else "",
                    })  # fmt: skip
                    poses.add(_pose(token, time, 5e-6 * (time - _time(s, 0)), 0.3 * s))


def _write_boxes(folder: Path, rng: random.Random, sample, categories) -> None:
    total = sum(map(len, sample))
    instances = _tokens(rng, INSTANCES * total // SAMPLES)
    flat = [token for row in sample for token in row]
    with _table(folder, "sample_annotation") as boxes, _table(folder, "instance") as rows:
        for i, instance in enumerate(instances):
            many = ANNOTATIONS * (i + 1) // INSTANCES - ANNOTATIONS * i // INSTANCES
            tokens = _tokens(rng, many)
            category = categories[rng.choice((2, 9, 12, 17, 23))]["token"]
            rows.add({"token": instance, "category_token": category, "nbr_annotations": many,
                      "first_annotation_token": tokens[0], "last_annotation_token": tokens[-1]})  # fmt: skip
            first = rng.randrange(max(len(flat) - many, 1))
            for k, token in enumerate(tokens):
                boxes.add({
                    "token": token, "sample_token": flat[min(first + k, len(flat) - 1)], "instance_token": instance,
                    "visibility_token": "4", "attribute_tokens": [f"{1:032x}"],
                    "translation": [373.256 + 0.371 * k, 1130.419 + rng.random(), 0.8], "size": [0.621, 0.669, 1.642],
                    "rotation": [0.983109879288412, 0.0, 0.0, -0.18301629775930903],
                    "prev": tokens[k - 1] if k else "", "next": tokens[k + 1] if k + 1 < many else "",
                    "num_lidar_pts": rng.randrange(100), "num_radar_pts": 0,
                })  # fmt: skip


def _calibrated(rng: random.Random, token: str, sensor: str, channel: str) -> dict:
    turn = rng.uniform(-math.pi, math.pi)
    camera = [[1266.4 + rng.random(), 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]]
    return {
        "token": token,
        "sensor_token": sensor,
        "translation": [0.9437130093574524, rng.random(), 1.8402299880981445],
        "rotation": [math.cos(turn / 2), 0.0, 0.0, math.sin(turn / 2)],
        "camera_intrinsic": camera if channel.startswith("CAM") else [],
    }


def _pose(token: str, time: int, metres: float, heading: float) -> dict:
    place = [411.3039245605469 + metres * math.cos(heading), 1180.890380859375 + metres * math.sin(heading), 0.0]
    rotation = [math.cos(heading / 2), -0.001697776856020025, 0.011798001963230803, math.sin(heading / 2)]
    return {"token": token, "timestamp": time, "rotation": rotation, "translation": place}


def _form(channel: str) -> tuple[str, tuple[int, int]]:
    return ("jpg", (900, 1600)) if channel.startswith("CAM") else ("pcd.bin" if channel[0] == "L" else "pcd", (0, 0))


def _time(scene: int, frame: int) -> int:
    return 1_532_402_927_647_951 + 60_000_000 * scene + 500_000 * frame


def _tokens(rng: random.Random, count: int) -> list[str]:
    return [f"{rng.getrandbits(128):032x}" for _ in range(count)]


class _table:
    """A table that is written row by row, each column on a line of its own, as in the real files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = (folder / f"{name}.json").open("w")
        self._first = True

    def add(self, row: dict) -> None:
        columns = ",\n".join(f'"{column}": {json.dumps(value)}' for column, value in row.items())
        self._file.write(f"{'[' if self._first else ','}\n{{\n{columns}\n}}")
        self._first = False

    def __enter__(self) -> _table:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.write("\n]" if not self._first else "[]")
        self._file.close()


def _write(folder: Path, name: str, rows: Iterable[dict]) -> None:
    with _table(folder, name) as table:
        for row in rows:
            table.add(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=SCENES)
    given = parser.parse_args()
    print(write_trainval_tables(given.folder, given.scenes))


if __name__ == "__main__":
    main()
