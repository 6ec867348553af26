"""The classes of drive world in nuScenes' terms: 32 general categories (label files) and 16 challenge classes.

Indices, names and order are those of nuScenes-lidarseg. Challenge class 0 is void (here: sky, no return).
"""

from __future__ import annotations

GENERAL_CATEGORIES: tuple[str, ...] = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)

# Challenge class id = position + 1; the value is the general category its objects carry by default.
_DEFAULT_CATEGORY: dict[str, str] = {
    "barrier": "movable_object.barrier",
    "bicycle": "vehicle.bicycle",
    "bus": "vehicle.bus.rigid",
    "car": "vehicle.car",
    "construction_vehicle": "vehicle.construction",
    "motorcycle": "vehicle.motorcycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "trailer": "vehicle.trailer",
    "truck": "vehicle.truck",
    "driveable_surface": "flat.driveable_surface",
    "other_flat": "flat.other",
    "sidewalk": "flat.sidewalk",
    "terrain": "flat.terrain",
    "manmade": "static.manmade",
    "vegetation": "static.vegetation",
}

CLASSES: tuple[str, ...] = tuple(_DEFAULT_CATEGORY)
THINGS: tuple[str, ...] = CLASSES[:10]
STUFF: tuple[str, ...] = CLASSES[10:]
FLAT: tuple[str, ...] = STUFF[:4]

CLASS_ID: dict[str, int] = {name: i + 1 for i, name in enumerate(CLASSES)}
CATEGORY_INDEX: dict[str, int] = {name: GENERAL_CATEGORIES.index(c) for name, c in _DEFAULT_CATEGORY.items()}
CHILD_INDEX = GENERAL_CATEGORIES.index("human.pedestrian.child")
