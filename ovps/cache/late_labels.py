"""Labels that come after the features, or are mended: their objects are made of what the store holds, without CLIP."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas import FrameRow, Provenance
from ovps.cache.cameras import camera_of, cells_of
from ovps.cache.codecs.protocol import Codec, State, VoxelFeatures
from ovps.cache.object_embeddings import Objects, find_objects
from ovps.cache.partition import Partition
from ovps.cache.writer import EncodedFrame
from ovps.errors import CacheError, FrameError
from ovps.geometry.lifting import LiftedPoints, lift_points, lift_voxels
from ovps.geometry.visibility import Occlusion
from ovps.taxonomy import Taxonomy


def objects_of_stored(
    label: NDArray[np.uint32], taxonomy: Taxonomy, points: LiftedPoints, weights: csr_array, stored: VoxelFeatures
) -> Objects:
    """The segments of a frame, their features made of the cells as they are stored.

    Args:
        label: (N,) raw labels.
        points: how they mix all K cells.
        weights: (V, K) CSR float32, how voxels do.
        stored: of the cells that voxels use, see `Codec.factors`.
    """
    return find_objects(label, taxonomy, points.weights[:, np.unique(weights.indices)], points.views, stored.cells)


def check_count(label: NDArray[np.uint32], row: FrameRow, labels_path: str | None) -> None:
    """Raise a FrameError unless there is one label for each point of a frame of a store."""
    if len(label) != row.points:
        raise FrameError(
            f"{len(label)} labels for {row.points} points",
            path=labels_path,
            frame=row.token,
            remedy="Points and labels are of different downloads: fetch both again",
        )


def with_labels(
    partition: Partition, token: str, label: NDArray[np.uint32], taxonomy: Taxonomy, labels_path: str | None = None
) -> EncodedFrame:
    """A frame of a store with these labels, bit for bit as if it had been computed with them.

    Args:
        label: (N,) raw labels.
        labels_path: for an error to name.

    Raises:
        FrameError: not one label per point.
        CacheError: the codec keeps no cells, or this machine lifts points otherwise than the one that wrote the store.
        CorruptStoreError: bytes that are not those that were written.
    """
    row = partition.row.frames[partition.positions[token]]
    folder = partition.parts["features"]
    if not partition.codec.keeps_cells:
        raise CacheError(
            f"codec {partition.codec.name} keeps features of voxels: objects cannot be made of them without CLIP",
            path=folder.path,
            frame=token,
            remedy=folder.remedy,
        )
    check_count(label, row, labels_path)
    return relabelled(
        EncodedFrame(row, partition.encoded(token)),
        partition.codec,
        partition.state,
        partition.provenance,
        label,
        taxonomy,
        path=folder.path,
        remedy=folder.remedy,
    )


def relabelled(
    frame: EncodedFrame,
    codec: Codec,
    state: State,
    provenance: Provenance,
    label: NDArray[np.uint32],
    taxonomy: Taxonomy,
    *,
    path: str,
    remedy: str,
) -> EncodedFrame:
    """A frame with these labels (N,), its objects made of its cells as they are stored.

    Args:
        codec: of the frame's arrays; one that keeps cells.
        path, remedy: of an error.

    Raises:
        CacheError: this machine lifts points otherwise than the one that wrote the store.
    """
    row, arrays = frame.row, frame.arrays
    stored = codec.factors(arrays, arrays["voxels/valid"], state)
    occlusion = provenance.occlusion
    points = lift_points(
        arrays["points/xyz"],
        [camera_of(camera) for camera in row.cameras],
        [cells_of(camera) for camera in row.cameras],
        None if occlusion is None else Occlusion(**occlusion),
        blank=[number for number, camera in enumerate(row.cameras) if not camera.seen],  # or of one that sees no point
    )
    weights = lift_voxels(points, arrays["points/voxel"].astype(np.int64), row.voxels)
    if not (np.array_equal(points.views, arrays["points/views"]) and _same_cells(weights, stored)):
        raise CacheError(
            "points fall on other cells here than where the store was written",
            path=path,
            frame=row.token,
            remedy=remedy,
        )
    objects = objects_of_stored(label, taxonomy, points, weights, stored)
    row = row.model_copy(update={"labelled": True, "objects": len(objects.classes)})
    return EncodedFrame(row, arrays | {"points/label": label} | objects.arrays())


def _same_cells(weights: csr_array, stored: VoxelFeatures) -> bool:
    """Do the voxels mix the cells that they did: the same number of each, in the same places?"""
    used, indices = np.unique(weights.indices, return_inverse=True)
    return (
        len(used) == len(stored.cells)
        and np.array_equal(weights.indptr, stored.weights.indptr)
        and np.array_equal(indices.reshape(-1), stored.weights.indices)
    )
