"""A small real store, written by the real writer, of frames that were never in front of a camera.

Each frame is a ground plane, two walls of stuff and boxes of things, base and novel of split b12n4. CLIP features
are a unit vector per class plus noise, and the store's vocabulary is those very vectors: a network that learns
anything at all can learn this. A third of the circle is seen by no camera.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from cache_schemas import CameraRow, Provenance
from ovps.cache import codecs
from ovps.cache.codecs.protocol import VoxelFeatures
from ovps.cache.frame_data import CachedFrame
from ovps.cache.object_embeddings import find_objects, no_objects
from ovps.cache.where import storage_of
from ovps.cache.writer import create_store, encode_frame, write_partition
from ovps.taxonomy import Taxonomy, load_taxonomy
from ovps.vocabulary import Entry, Vocabulary

# class id, raw nuScenes class, centre (x, y, z), size, metres; roughly where they stand in every frame
THINGS = (
    (4, 17, (4.0, 8.0, -1.0), (2.0, 4.5, 1.6)),  # car
    (4, 17, (-4.0, -9.0, -1.0), (2.0, 4.5, 1.6)),  # car
    (10, 23, (9.0, -6.0, -0.3), (2.5, 7.0, 3.0)),  # truck
    (1, 9, (-6.0, 5.0, -1.3), (2.0, 0.5, 1.0)),  # barrier
    (3, 16, (-8.0, 14.0, 0.0), (2.8, 10.0, 3.2)),  # bus, novel
    (7, 2, (2.0, -5.0, -1.0), (0.7, 0.7, 1.7)),  # pedestrian, novel
    (6, 21, (-2.0, 4.0, -1.1), (0.8, 2.0, 1.4)),  # motorcycle, novel
)
STUFF = (
    (11, 24, (0.0, 0.0, -1.8), (12.0, 50.0, 0.05)),  # driveable surface
    (13, 26, (9.0, 0.0, -1.7), (6.0, 50.0, 0.05)),  # sidewalk
    (15, 28, (18.0, 0.0, 0.5), (2.0, 50.0, 4.5)),  # manmade
    (16, 30, (-16.0, 0.0, 0.0), (6.0, 50.0, 3.5)),  # vegetation, novel
)


def write_synthetic_store(
    path: Path,
    *,
    frames: int = 4,
    points: int = 600,
    clip_dim: int = 16,
    seed: int = 0,
    subsets: tuple[str, ...] = ("train", "val"),
    grid: str = "cylinder:60x45x8",
    codec: str = "cells",
    noise: float = 0.3,
    labelled: bool = True,
    partition_frames: int = 2,
    taxonomy: Taxonomy | None = None,
    **about: object,
) -> Path:
    """Write a store of one scene per subset and return its path.

    The same arguments give the same bytes, but for the names of the partitions' folders.

    Args:
        frames: per subset.
        points: per frame; about half lie on things.
        noise: length of the noise on the features, whose class vectors have length 1.
        partition_frames: frames per partition.
        taxonomy: in place of that of nuScenes, with the same classes.
        about: other values of the provenance.
    """
    taxonomy = taxonomy or load_taxonomy("nuscenes")
    vectors = class_vectors(taxonomy, clip_dim)
    storage = storage_of(path)
    named = {"taxonomy": taxonomy.name, "taxonomy_sha256": taxonomy.sha256}
    settings = provenance(clip_dim=clip_dim, grid=grid, codec=codec, **(named | about))
    create_store(storage, settings, taxonomy, vocabulary(clip_dim=clip_dim))
    for s, subset in enumerate(subsets):
        scene = f"synthetic-{s:04d}"
        for start in range(0, frames, partition_frames):
            made = [
                _frame(
                    np.random.default_rng((seed, s, f)),
                    subset,
                    scene,
                    f,
                    points,
                    grid,
                    taxonomy,
                    vectors,
                    noise,
                    labelled,
                )
                for f in range(start, min(start + partition_frames, frames))
            ]
            encoded = [encode_frame(frame, of_dense(frame.clip, frame.valid), codecs.get(codec)) for frame in made]
            write_partition(storage, f"{scene}.{start:06d}", scene, encoded)
    return path


def provenance(*, clip_dim: int = 16, grid: str = "cylinder:60x45x8", codec: str = "cells", **changes) -> Provenance:
    """Of a synthetic store."""
    values = {
        "dataset": "synthetic",
        "dataset_version": "1",
        "taxonomy": "nuscenes",
        "taxonomy_sha256": load_taxonomy("nuscenes").sha256,
        "encoder": "synthetic",
        "weights_sha256": "0" * 64,
        "weights_random": False,
        "clip_dim": clip_dim,
        "upscale": 1.0,
        "grid": grid,
        "occlusion": None,
        "codec": codec,
        "code_version": "test",
    }
    return Provenance.model_validate(values | changes)


def camera_row(channel: str, width: int, height: int, seen: int) -> CameraRow:
    """A camera that looks along x of the LiDAR, with a field of view of 90 degrees."""
    return CameraRow(
        channel=channel,
        image_path=f"samples/{channel}/1.jpg",
        width=width,
        height=height,
        timestamp_us=1_700_000_000_000_000,
        intrinsics=(width / 2, 0, width / 2, 0, width / 2, height / 2, 0, 0, 1),
        cell_rows=height // 8,
        cell_cols=width // 8,
        cell_stride=8.0,
        camera_from_lidar=(0, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, 0, 1),
        seen=seen,
    )


def class_vectors(taxonomy: Taxonomy, clip_dim: int, seed: int = 0) -> np.ndarray:
    """(E, C) float32 unit vectors in the order of the taxonomy's classes, all with positive cosines as CLIP's texts."""
    rng = np.random.default_rng(20240601 + seed)
    vectors = rng.normal(size=(len(taxonomy.classes), clip_dim)) + 0.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def vocabulary(*, clip_dim: int = 16, seed: int = 0) -> Vocabulary:
    """The class vectors under the names of the nuScenes classes."""
    taxonomy = load_taxonomy("nuscenes")
    entries = tuple(Entry(c.name, c.kind, (c.name,)) for c in taxonomy.classes)
    vectors = class_vectors(taxonomy, clip_dim, seed)
    return Vocabulary(entries, vectors, np.arange(len(entries)), "synthetic", "0" * 64)


def of_dense(clip: np.ndarray, valid: np.ndarray) -> VoxelFeatures:
    """Features (V, C) that were not made from cells: every valid voxel is its own cell."""
    count = int(valid.sum())
    indptr = np.concatenate([[0], np.cumsum(valid)]).astype(np.int32)
    weights = csr_array((np.ones(count, np.float32), np.arange(count, dtype=np.int32), indptr), (len(valid), count))
    return VoxelFeatures(np.ascontiguousarray(clip[valid], dtype=np.float32), weights)


def _frame(rng, subset, scene, index, points, grid, taxonomy, vectors, noise, labelled) -> CachedFrame:
    xyz, raw, classes = _scene_points(rng, points)
    coords, point_voxel = _voxelise(xyz, grid)
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0])
    views = np.where(np.abs(azimuth) < 2 * np.pi / 3, 1 + (np.abs(azimuth) < 0.2), 0).astype(np.uint8)

    row = {c.id: i for i, c in enumerate(taxonomy.classes)}
    feature = vectors[[row[c] for c in classes]]
    feature = feature + noise * rng.normal(size=feature.shape) / np.sqrt(feature.shape[1])
    feature = (feature / np.linalg.norm(feature, axis=1, keepdims=True)).astype(np.float32)

    seen = views > 0
    counts = np.bincount(point_voxel[seen], minlength=len(coords))
    clip = np.zeros((len(coords), feature.shape[1]), np.float32)
    np.add.at(clip, point_voxel[seen], feature[seen])
    clip /= np.maximum(counts, 1)[:, None].astype(np.float32)

    of_points = of_dense(feature, seen)  # every seen point is a cell of its own
    objects = no_objects(feature.shape[1])
    if labelled:
        objects = find_objects(raw, taxonomy, of_points.weights, views, of_points.cells)
    pose = np.eye(4)
    pose[1, 3] = 2.5 * index
    return CachedFrame(
        token=f"{scene}-{index:03d}",
        scene=scene,
        subset=subset,
        index=index,
        timestamp_us=1_700_000_000_000_000 + 500_000 * index,
        xyz=xyz,
        intensity=rng.uniform(0, 1, len(xyz)).astype(np.float32),
        point_voxel=point_voxel,
        views=views,
        label=raw if labelled else None,
        coords=coords,
        valid=counts > 0,
        clip=clip,
        object_class=objects.classes,
        object_instance=objects.instance,
        object_points=objects.points,
        object_seen_points=objects.seen_points,
        object_embedding=objects.embedding,
        global_from_lidar=pose,
        cameras=(
            camera_row("FRONT", 64, 48, seen=int((views > 0).sum())),
            camera_row("BACK", 32, 24, seen=int((views > 1).sum())),
        ),
        beyond_range=int((np.hypot(xyz[:, 0], xyz[:, 1]) > 50).sum()),
    )


def _scene_points(rng, points: int):
    """xyz (N, 3) float32, raw labels (N,) uint32, class ids (N,); a few points are noise (raw class 0)."""
    shift = rng.uniform(-1.5, 1.5, 2)
    xyz, raw, classes = [], [], []
    share = points // 2 // len(THINGS)
    for number, (class_id, raw_class, centre, size) in enumerate(THINGS):
        count = share if number else points - share * (len(THINGS) - 1) - points // 2
        middle = np.add(centre, (*(shift + rng.uniform(-0.5, 0.5, 2)), 0.0))
        xyz.append(middle + rng.uniform(-0.5, 0.5, (count, 3)) * size)
        raw.append(np.full(count, 1000 * raw_class + number + 1))
        classes.append(np.full(count, class_id))
    for number, (class_id, raw_class, centre, size) in enumerate(STUFF):
        count = points // 2 // len(STUFF) if number else points // 2 - points // 2 // len(STUFF) * (len(STUFF) - 1)
        xyz.append(np.asarray(centre) + rng.uniform(-0.5, 0.5, (count, 3)) * size)
        raw.append(np.full(count, 1000 * raw_class))
        classes.append(np.full(count, class_id))
    raw = np.concatenate(raw).astype(np.uint32)
    raw[rng.random(len(raw)) < 0.02] = 0
    order = rng.permutation(len(raw))
    return np.concatenate(xyz)[order].astype(np.float32), raw[order], np.concatenate(classes)[order]


def _voxelise(xyz: np.ndarray, grid: str):
    """A cylinder grid over rho 0..50 m, z -5..3 m, as `ovps.geometry.grid` has it."""
    shape = np.array([int(n) for n in grid.removeprefix("cylinder:").split("x")])
    rho, phi = np.hypot(xyz[:, 0], xyz[:, 1]), np.arctan2(xyz[:, 1], xyz[:, 0])
    unit = np.stack([rho / 50, (phi + np.pi) / (2 * np.pi), (xyz[:, 2] + 5) / 8], axis=1)
    index = np.clip((unit * shape).astype(int), 0, shape - 1)
    coords, point_voxel = np.unique(index, axis=0, return_inverse=True)
    return coords.astype(np.int32), point_voxel.reshape(-1).astype(np.int64)
