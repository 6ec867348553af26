"""Relational tables of nuScenes: rows of one scene, and the data set put together from all scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from driveworld.raw_labels import GENERAL_CATEGORIES
from driveworld.rig import CAMERAS, LIDAR

Row = dict[str, Any]
Tables = dict[str, list[Row]]

VERSION = "v1.0-trainval"
LOG_TOKEN_NAME = "driveworld"
MAP_FILE = "maps/driveworld.png"
SCENE_TABLES = (
    "scene",
    "sample",
    "sample_data",
    "ego_pose",
    "calibrated_sensor",
    "instance",
    "sample_annotation",
    "lidarseg",
    "panoptic",
)
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)
VISIBILITY = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}


def token(*parts: object) -> str:
    """32 hexadecimal digits, the same for the same parts."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def attribute_tokens(class_name: str, moving: bool) -> list[str]:
    """The attribute of an object, none for barriers and cones."""
    if class_name == "pedestrian":
        name = "pedestrian.moving" if moving else "pedestrian.standing"
    elif class_name in ("bicycle", "motorcycle"):
        name = "cycle.without_rider"
    elif class_name in ("barrier", "traffic_cone"):
        return []
    else:
        name = "vehicle.moving" if moving else "vehicle.parked"
    return [token("attribute", name)]


def linked(rows: Sequence[Row]) -> list[Row]:
    """The same rows with `prev` and `next` filled in, in the order given."""
    tokens = [""] + [r["token"] for r in rows] + [""]
    return [r | {"prev": tokens[i], "next": tokens[i + 2]} for i, r in enumerate(rows)]


def fixed_tables() -> Tables:
    """The tables that do not depend on the scenes."""
    return {
        "category": [
            {"token": token("category", name), "name": name, "description": "", "index": i}
            for i, name in enumerate(GENERAL_CATEGORIES)
        ],
        "attribute": [{"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTES],
        "visibility": [
            {"token": key, "level": level, "description": f"visibility of whole object is between {level[1:]}%"}
            for key, level in VISIBILITY.items()
        ],
        "sensor": [
            {"token": token("sensor", s.channel), "channel": s.channel, "modality": m}
            for s, m in [(LIDAR, "lidar"), *((c, "camera") for c in CAMERAS)]
        ],
        "log": [
            {
                "token": token("log", LOG_TOKEN_NAME),
                "logfile": LOG_TOKEN_NAME,
                "vehicle": "n000",
                "date_captured": "2018-01-01",
                "location": "driveworld",
            }
        ],
        "map": [
            {
                "token": token("map", LOG_TOKEN_NAME),
                "category": "semantic_prior",
                "filename": MAP_FILE,
                "log_tokens": [token("log", LOG_TOKEN_NAME)],
            }
        ],
    }


def assemble(scenes: Iterable[Mapping[str, list[Row]]]) -> Tables:
    """All tables of the data set, rows in the order of the scenes."""
    tables = fixed_tables() | {name: [] for name in SCENE_TABLES}
    for scene in scenes:
        for name in SCENE_TABLES:
            tables[name].extend(scene[name])
    return tables
