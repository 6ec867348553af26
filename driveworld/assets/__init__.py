"""Procedural meshes per class, in two families.

`world` is what drive world shows; `demo_clip` is what the demo CLIP learns from. No variant is in both, so that
the CLIP has never seen an object it is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from driveworld.assets import small, surroundings, vehicles
from driveworld.assets.variants import Builder
from driveworld.mesh import Mesh
from driveworld.paint import PALETTE, Color, coat
from driveworld.raw_labels import CATEGORY_INDEX, CHILD_INDEX, THINGS
from ovps.errors import ConfigError

Style = Literal["world", "demo_clip"]

VARIANTS: Mapping[Style, Mapping[str, Mapping[str, Builder]]] = {
    "world": {
        "barrier": {"jersey": small.jersey_barrier, "plank": small.plank_barrier},
        "bicycle": {"city": small.city_bicycle, "touring": small.touring_bicycle},
        "bus": {"city": vehicles.city_bus, "midi": vehicles.midi_bus},
        "car": {"sedan": vehicles.sedan, "hatchback": vehicles.hatchback, "suv": vehicles.suv},
        "construction_vehicle": {"excavator": vehicles.excavator, "wheel_loader": vehicles.wheel_loader},
        "motorcycle": {"naked": small.naked_motorcycle, "touring": small.touring_motorcycle},
        "pedestrian": {"walker": small.walker, "coat": small.coat_wearer, "child": small.child},
        "traffic_cone": {"tall": small.road_cone, "small": small.small_cone},
        "trailer": {"box": vehicles.box_trailer, "flat": vehicles.flat_trailer},
        "truck": {"box": vehicles.box_truck, "flatbed": vehicles.flatbed_truck},
        "vegetation": {
            "tree": surroundings.broad_tree,
            "young_tree": surroundings.young_tree,
            "bush": surroundings.bush,
            "hedge": surroundings.hedge,
        },
        "manmade": {
            "house": surroundings.brick_house,
            "block": surroundings.flats,
            "wall": surroundings.wall,
            "fence": surroundings.fence,
            "lamp": surroundings.street_lamp,
            "sign": surroundings.road_sign,
            "small": surroundings.cabinet,
            "hut": surroundings.shelter,
        },
    },
    "demo_clip": {
        "barrier": {"water": small.water_barrier, "board": small.board_barrier},
        "bicycle": {"road": small.road_bicycle, "small": small.small_bicycle},
        "bus": {"coach": vehicles.coach, "double_decker": vehicles.double_decker, "shuttle": vehicles.shuttle_bus},
        "car": {"coupe": vehicles.coupe, "estate": vehicles.estate, "minivan": vehicles.minivan},
        "construction_vehicle": {
            "bulldozer": vehicles.bulldozer,
            "backhoe": vehicles.backhoe,
            "mini_excavator": vehicles.mini_excavator,
        },
        "motorcycle": {"sport": small.sport_motorcycle, "scooter": small.scooter},
        "pedestrian": {"stout": small.stout_walker},
        "traffic_cone": {"slim": small.slim_cone, "wide": small.wide_cone},
        "trailer": {"slatted": vehicles.slatted_trailer, "tank": vehicles.tank_trailer, "bin": vehicles.bin_trailer},
        "truck": {"tipper": vehicles.tipper_truck, "tank": vehicles.tank_truck, "curtain": vehicles.curtain_truck},
        "vegetation": {
            "tree": surroundings.poplar,
            "young_tree": surroundings.conifer,
            "bush": surroundings.fern_bush,
            "hedge": surroundings.ragged_hedge,
        },
        "manmade": {
            "house": surroundings.town_house,
            "block": surroundings.office,
            "wall": surroundings.slab_wall,
            "fence": surroundings.rail_fence,
            "lamp": surroundings.globe_lamp,
            "sign": surroundings.direction_sign,
            "small": surroundings.post_row,
            "hut": surroundings.kiosk,
        },
    },
}


@dataclass(frozen=True, eq=False)
class Asset:
    """One object of a class.

    Attributes:
        mesh: facing +x, standing on z = 0, centred near the origin.
        class_name: challenge class.
        category: index of its general category, see `raw_labels.GENERAL_CATEGORIES`.
        variant: which construction, a key of `VARIANTS[style][class_name]`.
        color_name: of its main paint, for captions.
    """

    mesh: Mesh
    class_name: str
    category: int
    variant: str
    color_name: str


def _palette(class_name: str) -> dict[str, Color]:
    if class_name == "vegetation":
        return surroundings.VEGETATION_PALETTE
    return surroundings.MANMADE_PALETTE if class_name == "manmade" else PALETTE


def make_asset(class_name: str, rng: np.random.Generator, style: Style = "world", variant: str | None = None) -> Asset:
    """A random object of a thing class, of `vegetation` or of `manmade`.

    Args:
        variant: one of the keys of `VARIANTS[style][class_name]`; None draws one.
    """
    if class_name not in VARIANTS[style]:
        raise ConfigError(f"no asset of class {class_name!r}", remedy=f"Classes: {', '.join(VARIANTS[style])}")
    variants = VARIANTS[style][class_name]
    key = str(rng.choice(list(variants))) if variant is None else variant
    if key not in variants:
        raise ConfigError(f"no {class_name} variant {key!r} in style {style}", remedy=f"One of: {', '.join(variants)}")
    paint, color_name = coat(rng, _palette(class_name))
    mesh = variants[key](rng, paint)
    is_child = class_name in THINGS and key == "child"
    return Asset(mesh, class_name, CHILD_INDEX if is_child else CATEGORY_INDEX[class_name], key, color_name)
