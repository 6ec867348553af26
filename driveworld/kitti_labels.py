"""The objects of drive world as raw classes of SemanticKITTI.

What SemanticKITTI counts as fence (crash barriers, small walls) is so here; cones, cabinets and huts are objects and
structures that its evaluation leaves out. Riders, trunks and parking lots do not occur.
"""

from __future__ import annotations

from driveworld.scene import SceneObject

ROAD, LANE_MARKING = 40, 60
OTHER_STRUCTURE, OTHER_OBJECT = 52, 99

_STANDING = {
    "barrier": 51,
    "bicycle": 11,
    "bus": 13,
    "car": 10,
    "construction_vehicle": 20,
    "motorcycle": 15,
    "pedestrian": 30,
    "traffic_cone": OTHER_OBJECT,
    "trailer": 20,
    "truck": 18,
    "driveable_surface": ROAD,
    "other_flat": 49,
    "sidewalk": 48,
    "terrain": 72,
    "vegetation": 70,
}
_MOVING = {10: 252, 30: 254, 13: 257, 18: 258, 20: 259}
_MANMADE = {
    "house": 50,
    "block": 50,
    "wall": 51,
    "fence": 51,
    "lamp": 80,
    "sign": 81,
    "small": OTHER_OBJECT,
    "hut": OTHER_STRUCTURE,
}
_THINGS = {10, 11, 13, 15, 18, 20, 30, *_MOVING.values()}


def raw_class(item: SceneObject) -> int:
    """Raw class of an object; one that moves has another than one that stands."""
    if item.class_name == "manmade":
        return _MANMADE[item.variant]
    if item.variant == "marking":
        return LANE_MARKING
    standing = _STANDING[item.class_name]
    return _MOVING.get(standing, standing) if item.velocity else standing


def raw_label(item: SceneObject, number: int) -> int:
    """Raw label of an object: class in the lower 16 bits, `number` (1 and more) in the upper of things."""
    raw = raw_class(item)
    return raw | (number << 16 if raw in _THINGS else 0)
