"""What single segments look like: drives through a few streets with per-object truth, for the tests on short cuts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from driveworld.lidar import sweep
from driveworld.mesh import Mesh
from driveworld.raw_labels import FLAT, THINGS
from driveworld.raycast import Caster
from driveworld.render import render
from driveworld.rig import CAMERAS, LIDAR, make_drive
from driveworld.scene import Scene, make_scene, snapshot

IMAGE_SIZE = (256, 144)


@dataclass(frozen=True, eq=False)
class Street:
    """One moment in one street.

    Attributes:
        points: (N, 5) float32, LiDAR frame. objects: (N,) index into scene.objects.
        colors: mean RGB of the pixels of every object that has at least 40.
    """

    scene: Scene
    points: NDArray[np.float32]
    objects: NDArray[np.int32]
    colors: dict[int, NDArray[np.float64]]


def look(seed: int, time: float = 1.0) -> Street:
    """Drive through the street of a seed and look around once."""
    rng = np.random.default_rng(seed)
    scene = make_scene(rng, duration=2.0)
    drive = make_drive(rng, scene.ego_speed, scene.lane_y)
    caster = Caster(snapshot(scene, time, drive.pose(time)[0][0]))
    ego = drive.scene_from_ego(time)
    cloud = sweep(caster, ego @ LIDAR.ego_from_sensor, 1080, rng)
    sums = np.zeros((len(scene.objects), 4))
    for camera in CAMERAS:
        picture = render(scene, caster, camera.intrinsics(IMAGE_SIZE), ego @ camera.ego_from_sensor, IMAGE_SIZE, rng)
        seen = picture.objects >= 0
        pixels = np.concatenate([picture.rgb[seen].astype(float), np.ones((int(seen.sum()), 1))], 1)
        np.add.at(sums, picture.objects[seen], pixels)
    colors = {int(i): sums[i, :3] / sums[i, 3] for i in np.flatnonzero(sums[:, 3] >= 40)}
    return Street(scene, cloud.points, cloud.objects, colors)


def surface_points(mesh: Mesh, spacing: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Random points on a mesh, about one per square of `spacing` metres, at most 20,000, and its corners."""
    corners = mesh.corners
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    count = int(min(20_000, area.sum() / spacing**2)) + 1
    face = rng.choice(len(corners), count, p=area / area.sum())
    weights = rng.dirichlet((1, 1, 1), count).astype(np.float32)
    return np.concatenate([np.einsum("nk,nkd->nd", weights, corners[face]), mesh.vertices])


def near_share(scene: Scene, limit: float = 0.3) -> float:
    """Share of the things whose surface comes within `limit` metres of another segment that is not ground."""
    rng = np.random.default_rng(0)
    solid = [o for o in scene.objects if o.class_name not in FLAT]
    meshes = [o.at(0.0) for o in solid]
    bounds = np.stack([m.bounds for m in meshes])
    clouds = [surface_points(m, 0.08, rng) for m in meshes]
    trees = [cKDTree(c) for c in clouds]
    near = []
    for i, item in enumerate(solid):
        if item.class_name not in THINGS:
            continue
        reach = np.flatnonzero(((bounds[:, 0] < bounds[i, 1] + limit) & (bounds[:, 1] > bounds[i, 0] - limit)).all(1))
        near.append(
            any(trees[j].query(clouds[i], distance_upper_bound=limit)[0].min() < limit for j in reach if j != i)
        )
    return float(np.mean(near))
