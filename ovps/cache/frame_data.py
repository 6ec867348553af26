"""Contents of the cache about one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache_schemas import ARRAYS, EARLIER, CameraRow


@dataclass(frozen=True, eq=False)
class FrameRef:
    """The place of a frame in a store, and whether it has labels."""

    partition: str
    token: str
    scene: str
    subset: str
    index: int
    labelled: bool


@dataclass(frozen=True, eq=False)
class CachedFrame:
    """One frame: N points, V voxels, S objects, C CLIP channels.

    Attributes:
        token, scene, subset, index, timestamp_us: as in `ovps.frame.Frame`.
        xyz: (N, 3) float32, metres, LiDAR frame.
        intensity: (N,) float32, 0..1.
        point_voxel: (N,) int64, row of `coords`.
        views: (N,) uint8, how many cameras see the point; 0: its voxel may still have a CLIP feature, of others.
        label: (N,) uint32 as the data set gives it, None where it gives none.
        coords: (V, 3) int32, grid index, sorted.
        valid: (V,) bool, the voxel has a CLIP feature.
        clip: (V, C) float32, mean CLIP feature of the voxel's points; zeros where not valid.
        object_class: (S,) uint8, class id of the taxonomy; objects are sorted by class, then instance.
        object_instance: (S,) uint32, raw label of a thing, 0 for stuff.
        object_points: (S,) int32.
        object_seen_points: (S,) int32, those with a CLIP feature.
        object_embedding: (S, C) float32, their mean CLIP feature; zeros where there is none.
        global_from_lidar: (4, 4) float64, metres.
        cameras: as the manifest has them; `ovps.cache.cameras.camera_of` makes a `Camera` of one.
        beyond_range: points outside the grid's range, which stand in its border cells.
        earlier_xyz, earlier_intensity: (M, 3) and (M,) float32, points of earlier sweeps where the LiDAR of this frame
            would see them; None in stores without. They are input alone, and no point of the frame.
    """

    token: str
    scene: str
    subset: str
    index: int
    timestamp_us: int
    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32]
    point_voxel: NDArray[np.int64]
    views: NDArray[np.uint8]
    label: NDArray[np.uint32] | None
    coords: NDArray[np.int32]
    valid: NDArray[np.bool_]
    clip: NDArray[np.float32]
    object_class: NDArray[np.uint8]
    object_instance: NDArray[np.uint32]
    object_points: NDArray[np.int32]
    object_seen_points: NDArray[np.int32]
    object_embedding: NDArray[np.float32]
    global_from_lidar: NDArray[np.float64]
    cameras: tuple[CameraRow, ...]
    beyond_range: int
    earlier_xyz: NDArray[np.float32] | None = None
    earlier_intensity: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        lengths = {"voxels": len(self.clip)}
        wrong = []
        for spec in (*ARRAYS, *EARLIER):
            value = getattr(self, spec.field) if spec.field else None
            if value is not None and lengths.setdefault(str(spec.dims[0]), len(value)) != len(value):
                wrong.append(spec.field)
        if wrong:
            sizes = ", ".join(f"{length} {dim}" for dim, length in lengths.items())
            raise ValueError(f"frame {self.token}: {', '.join(map(str, wrong))} do not fit {sizes}")
