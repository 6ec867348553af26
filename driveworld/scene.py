"""One street: objects, ground and light, as a function of a seed.

Scene frame: metres, x along the street in driving direction, y to the left, z up, road surface at z = 0.
The ego vehicle passes x = 0 at time 0 in the right-hand lane.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driveworld.assets import Style
from driveworld.mesh import Mesh, join, moved
from driveworld.raw_labels import CATEGORY_INDEX, CLASS_ID, THINGS
from driveworld.street_layout import Placed, furnish


@dataclass(frozen=True)
class Light:
    """Sun, sky and exposure.

    Attributes:
        sun: unit vector towards the sun.
        sun_strength, ambient: light on a white face turned to the sun, and in shadow.
        zenith, horizon: sRGB of the sky.
        tint: colour cast of the camera, multiplies everything.
    """

    sun: tuple[float, float, float]
    sun_strength: float
    ambient: float
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    tint: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One thing, or one piece of stuff (a tree, a wall, a stretch of sidewalk).

    Attributes:
        mesh: in the object's own frame: facing +x, ground at z = 0.
        class_name: challenge class. category: general category index.
        instance: 1.. within the scene and category for things, 0 for stuff.
        xyz: (3,) metres at time 0. yaw: radians. velocity: m/s along x.
        variant, color_name: for captions.
    """

    mesh: Mesh
    class_name: str
    category: int
    instance: int
    xyz: tuple[float, float, float]
    yaw: float
    velocity: float
    variant: str
    color_name: str

    @property
    def is_thing(self) -> bool:
        return self.class_name in THINGS

    def at(self, time: float) -> Mesh:
        """The mesh in the scene frame at `time` seconds."""
        x, y, z = self.xyz
        return moved(self.mesh, xyz=(x + self.velocity * time, y, z), yaw=self.yaw)


@dataclass(frozen=True, eq=False)
class Scene:
    """A street.

    Attributes:
        objects: things and pieces of stuff; the indices used by face_object and by pictures.
        ego_speed: m/s. lane_y: of the ego vehicle's lane, metres.
    """

    objects: tuple[SceneObject, ...]
    light: Light
    ego_speed: float
    lane_y: float

    @property
    def class_ids(self) -> NDArray[np.uint8]:
        """Challenge class id 1..16 of every object, (objects,)."""
        return np.array([CLASS_ID[o.class_name] for o in self.objects], np.uint8)

    @property
    def panoptic_ids(self) -> NDArray[np.uint16]:
        """Panoptic label of every object, (objects,): 1000 * general category + instance."""
        return np.array([1000 * o.category + o.instance for o in self.objects], np.uint16)


def _light(rng: np.random.Generator, style: Style) -> Light:
    low, high = (0.6, 1.2) if style == "world" else (0.35, 0.9)
    elevation, azimuth = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    sun = (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))
    overcast = rng.uniform(0.0, 0.8)
    grey = rng.uniform(0.62, 0.85)
    blue = np.array([0.30, 0.50, 0.80]) if style == "world" else np.array([0.42, 0.56, 0.74])
    zenith = (1 - overcast) * blue + overcast * grey
    horizon = 0.5 * zenith + 0.5 * np.array([0.85, 0.86, 0.86])
    tint = 1 + rng.uniform(-0.06, 0.06, 3)
    return Light(
        sun=(float(sun[0]), float(sun[1]), float(sun[2])),
        sun_strength=float((1 - 0.75 * overcast) * rng.uniform(0.6, 0.85)),
        ambient=float(rng.uniform(0.58, 0.74) + 0.25 * overcast),
        zenith=(float(zenith[0]), float(zenith[1]), float(zenith[2])),
        horizon=(float(horizon[0]), float(horizon[1]), float(horizon[2])),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
    )


def make_scene(rng: np.random.Generator, *, duration: float = 5.0, style: Style = "world") -> Scene:
    """A street long enough for `duration` seconds of driving, with 50 m in front and behind."""
    ego_speed = float(rng.uniform(3.0, 8.0))
    placed, lane_y = furnish(rng, (-55.0, ego_speed * duration + 55.0), ego_speed, style)
    return Scene(_numbered(placed), _light(rng, style), ego_speed, lane_y)


def _numbered(placed: list[Placed]) -> tuple[SceneObject, ...]:
    """Instance numbers 1.. per category for things; nuScenes allows 999."""
    seen: Counter[int] = Counter()
    objects = []
    for p in placed:
        instance = 0
        category = p.category if p.category is not None else CATEGORY_INDEX[p.class_name]
        if p.class_name in THINGS:
            seen[category] += 1
            instance = seen[category]
        objects.append(
            SceneObject(p.mesh, p.class_name, category, instance, p.xyz, p.yaw, p.velocity, p.variant, p.color_name)
        )
    return tuple(objects)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything near one place at one time, as one mesh.

    Attributes:
        mesh: scene frame.
        face_object: (F,) int32 index into the scene's objects.
    """

    mesh: Mesh
    face_object: NDArray[np.int32]


def snapshot(scene: Scene, time: float, center_x: float, reach: float = 60.0) -> Snapshot:
    """All objects that come within `reach` metres of x = center_x, where they are at `time` seconds."""
    parts, owners = [], []
    for index, item in enumerate(scene.objects):
        mesh = item.at(time)
        low, high = mesh.vertices[:, 0].min(), mesh.vertices[:, 0].max()
        if high > center_x - reach and low < center_x + reach:
            parts.append(mesh)
            owners.append(np.full(len(mesh.faces), index, np.int32))
    return Snapshot(join(parts), np.concatenate(owners))
