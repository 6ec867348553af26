"""Render the pictures the demo CLIP is trained on, in the `demo_clip` style, with distractor objects among the rest.

On disk, for N pictures: `rgb.npy` (N, H, W, 3) uint8, `concept.npy` (N, H, W) uint8 ids of `concepts.concepts()`,
and `regions.json`: for every visible object (and the sky) its bounding box and a few pixels that show it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driveworld.demo_clip.concepts import concept_id, concepts
from driveworld.demo_clip.distractors import MESHES
from driveworld.paint import coat
from driveworld.raycast import Caster
from driveworld.render import Picture, render
from driveworld.scene import Scene, make_scene, snapshot
from ovps.progress import progress

SIZE = (704, 396)  # width, height: those of drive world, so that crops have its scale
MIN_PIXELS = 60  # of a region
POINTS = 8  # pixels kept per region
SEED = 7_000_000  # far from any seed a drive world is built with
SWAPPABLE = ("pedestrian", "bicycle", "motorcycle", "traffic_cone", "barrier")

Rng = np.random.Generator


@dataclass(frozen=True)
class Region:
    """One object, or one piece of stuff, seen in one picture.

    Attributes:
        picture, concept: indices. color: a colour name, "" if it has none. sunny: of the whole picture.
        box: x0, y0, x1, y1 pixels, the upper ends excluded. pixels: how many show it.
        points: (u, v) of some of them.
    """

    picture: int
    concept: int
    color: str
    sunny: bool
    box: tuple[int, int, int, int]
    pixels: int
    points: tuple[tuple[int, int], ...]


def with_distractors(scene: Scene, rng: Rng, share: float = 0.15) -> tuple[Scene, NDArray[np.uint8]]:
    """The scene with some small things replaced, and the concept of each of its objects (objects,) uint8."""
    objects, ids = list(scene.objects), scene.class_ids.copy()
    for index, item in enumerate(objects):
        if item.class_name in SWAPPABLE and rng.random() < share:
            name = str(rng.choice(list(MESHES)))
            paint, color_name = coat(rng)
            objects[index] = replace(item, mesh=MESHES[name](rng, paint), variant=name, color_name=color_name)
            ids[index] = concept_id(name)
    return replace(scene, objects=tuple(objects)), ids


def camera(rng: Rng, center_x: float, lane_y: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intrinsics (3, 3) in pixels and scene_from_camera (4, 4) of a camera somewhere on the street."""
    focal = float(np.exp(rng.uniform(np.log(340), np.log(820))))
    center = (SIZE[0] / 2 + rng.uniform(-20, 20), SIZE[1] / 2 + rng.uniform(-20, 40))
    intrinsics = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    yaw, pitch, roll = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.04), rng.normal(0, 0.02)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.cross(forward, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, down, forward], axis=1)
    pose[:3, 3] = (center_x + rng.uniform(-15, 15), lane_y + rng.normal(0, 1.5), rng.uniform(1.3, 2.2))
    return intrinsics, pose


def regions_of(picture: Picture, scene: Scene, ids: NDArray[np.uint8], index: int, rng: Rng) -> list[Region]:
    """All regions of a picture with at least MIN_PIXELS pixels."""
    sunny = scene.light.sun_strength > 0.4
    found = []
    order = np.argsort(picture.objects, axis=None, kind="stable")
    values, starts = np.unique(picture.objects.ravel()[order], return_index=True)
    for owner, pixels in zip(values, np.split(order, starts[1:]), strict=True):
        if len(pixels) < MIN_PIXELS:
            continue
        v, u = np.divmod(pixels, picture.objects.shape[1])
        pick = rng.choice(len(pixels), POINTS)
        found.append(
            Region(
                picture=index,
                concept=0 if owner < 0 else int(ids[owner]),
                color="" if owner < 0 else scene.objects[owner].color_name,
                sunny=sunny,
                box=(int(u.min()), int(v.min()), int(u.max()) + 1, int(v.max()) + 1),
                pixels=len(pixels),
                points=tuple((int(u[p]), int(v[p])) for p in pick),
            )
        )
    return found


def render_scene(seed: int, per_scene: int) -> list[tuple[Picture, Scene, NDArray[np.uint8]]]:
    """Pictures of one street, each with the street and the concepts of its objects."""
    rng = np.random.default_rng((SEED, seed))
    scene, ids = with_distractors(make_scene(rng, style="demo_clip"), rng)
    time = float(rng.uniform(0, 5))
    center_x = scene.ego_speed * time
    caster = Caster(snapshot(scene, time, center_x, reach=75.0))
    taken: list[tuple[Picture, Scene, NDArray[np.uint8]]] = []
    while len(taken) < per_scene:
        intrinsics, pose = camera(rng, center_x, scene.lane_y)
        picture = render(scene, caster, intrinsics, pose, SIZE, rng)
        if (picture.depth < 1.0).mean() < 0.1:  # not inside an object
            taken.append((picture, scene, ids))
    return taken


def render_pictures(out: Path, scenes: int, per_scene: int, first_seed: int = 0) -> None:
    """Render `scenes` streets into `out`, `per_scene` pictures each; the files get their names when all are made."""
    out.mkdir(parents=True, exist_ok=True)
    count, (width, height) = scenes * per_scene, SIZE
    partial = {name: out / f"{name}.partial.npy" for name in ("rgb", "concept")}
    rgb = np.lib.format.open_memmap(partial["rgb"], "w+", np.uint8, (count, height, width, 3))
    concept = np.lib.format.open_memmap(partial["concept"], "w+", np.uint8, (count, height, width))
    regions: list[Region] = []
    with progress("render", "pictures", count) as counter:
        for number in range(scenes):
            for k, (picture, scene, ids) in enumerate(render_scene(first_seed + number, per_scene)):
                index = number * per_scene + k
                rgb[index] = picture.rgb
                concept[index] = np.where(picture.objects < 0, 0, ids[picture.objects])
                rng = np.random.default_rng((SEED, first_seed + number, k))
                regions += regions_of(picture, scene, ids, index, rng)
                counter.advance()
    rgb.flush()
    concept.flush()
    for name, path in partial.items():
        path.replace(out / f"{name}.npy")
    listing = {"concepts": [c.name for c in concepts()], "regions": [asdict(r) for r in regions]}
    (out / "regions.json").write_text(json.dumps(listing), encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Pictures:
    """Rendered pictures, opened lazily.

    Attributes:
        rgb: (N, H, W, 3) uint8. concept: (N, H, W) uint8. regions: in no order.
    """

    rgb: NDArray[np.uint8]
    concept: NDArray[np.uint8]
    regions: tuple[Region, ...]


def load_pictures(folder: Path) -> Pictures:
    """Read the pictures that `render_pictures` wrote."""
    listing = json.loads((folder / "regions.json").read_text(encoding="utf-8"))
    if listing["concepts"] != [c.name for c in concepts()]:
        raise ValueError(f"{folder} was rendered with other concepts; render again")
    return Pictures(
        np.load(folder / "rgb.npy", mmap_mode="r"),
        np.load(folder / "concept.npy", mmap_mode="r"),
        tuple(
            Region(**{**r, "box": tuple(r["box"]), "points": tuple(map(tuple, r["points"]))})
            for r in listing["regions"]
        ),
    )
