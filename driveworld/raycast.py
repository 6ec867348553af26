"""Rays against triangles, through embree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from driveworld.scene import Snapshot


@dataclass(frozen=True, eq=False)
class Hits:
    """Hits of N rays.

    Attributes:
        face: (N,) int32 index into the snapshot's faces, -1 where nothing was met.
        distance: (N,) float32 metres, 1e37 where nothing was met.
    """

    face: NDArray[np.int32]
    distance: NDArray[np.float32]


class Caster:
    """A snapshot with its search tree. Not picklable; make one per worker and snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        corners = np.ascontiguousarray(snapshot.mesh.corners)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.normals: NDArray[np.float32] = (
            normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        ).astype(np.float32)
        self.centers: NDArray[np.float32] = corners.mean(1)
        self._scene = EmbreeScene()
        # Kept alive by this reference: embree points into it.
        self._geometry = TriangleMesh(self._scene, corners)

    def cast(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> Hits:
        """Nearest hits.

        Args:
            origins: (N, 3), or (1, 3) for all rays, metres, scene frame.
            directions: (N, 3) unit vectors.
        """
        found = self._scene.run(*_one_each(origins, directions), output=1)
        return Hits(found["primID"], np.where(found["primID"] < 0, np.float32(1e37), found["tfar"]))

    def blocked(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell whether anything lies along each ray, (N,) bool; arguments as for `cast`."""
        found = self._scene.run(*_one_each(origins, directions), query="OCCLUDED")
        return np.asarray(found) >= 0


def _one_each(
    origins: NDArray[np.float32], directions: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both contiguous and equally long: embreex casts as many rays as there are origins."""
    return np.ascontiguousarray(np.broadcast_to(origins, directions.shape)), np.ascontiguousarray(directions)
