"""Features that another program made for points, as a store: those of OpenScene's fusion, for example.

ovps cache import --features fused --dataroot data/nuscenes --encoder ViT-L-14-336 --weights openai --out ./zarr
"""

from __future__ import annotations

import pickle
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas import MAX_FRAMES
from ovps import datasets
from ovps.cache import codecs
from ovps.cache.cameras import row_of_camera
from ovps.cache.codecs.protocol import VoxelFeatures
from ovps.cache.frame_data import CachedFrame
from ovps.cache.object_embeddings import find_objects, no_objects
from ovps.cache.where import storage_of
from ovps.cache.writer import EncodedFrame, encode_frame
from ovps.clip.text import build_vocabulary
from ovps.datasets import Dataset
from ovps.errors import ConfigError, FrameError
from ovps.frame import Frame
from ovps.geometry.cells import CellGrid
from ovps.geometry.grid import Grid, mean_matrix, voxelise
from ovps.geometry.projection import project
from ovps.shortage import faults
from ovps.vocabulary import entries_of
from pipelines.options import ImportOptions, PrecomputeOptions
from pipelines.precompute.compute_frame import cloud_fault
from pipelines.precompute.options import resolved
from pipelines.precompute.plan import plan
from pipelines.precompute.stage import frames_of, provenance_of
from pipelines.precompute.task import encoder_of
from pipelines.stores.derived import DerivedSummary, Known, Piece, write_derived

ENDINGS = ("pt", "pth", "npy", "npz")
_BYTES = 16  # of a number of a feature at most, with some room
_NO_FEATURES = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, MemoryError, BadZipFile),
)


def import_features(options: ImportOptions) -> DerivedSummary:
    """Write a store of features that were made for points elsewhere. No image is read; CLIP reads the class names.

    A frame's file is a `.pt` with `feat` (M, C) and `mask_full` (N,) bool, as OpenScene writes them, or a `.npy` or a
    `.npz` of `feat` (N, C), where rows of zeros or NaN are points without a feature. N is the number of points of the
    sweep, C the length of the encoder's text embeddings.

    Raises:
        ConfigError: the codec needs cells of images, which there are none of.
        FrameError: a frame whose file is missing, or does not fit its points.
        OvpsError: as `write_derived`.
    """
    settings = resolved(
        PrecomputeOptions(
            dataset=options.dataset,
            dataroot=options.dataroot,
            version=options.version,
            subsets=options.subsets,
            encoder=options.encoder,
            weights=options.weights,
            grid=options.grid,
            limit=options.limit,
            workers=0,
            out=options.out,
            device="cpu",
        )
    )
    codec = codecs.get(options.codec)
    if codec.keeps_cells or codec.fit_frames:
        raise ConfigError(
            f"codec {codec.name} is made of the cells of images, and there are features of points alone",
            remedy="Leave out --codec: `dense` needs no cells",
        )
    dataset = datasets.at(settings.dataset, settings.dataroot)
    encoder = encoder_of(settings.encoder, settings.weights, settings.device, 1.0)
    # no image was looked at: precompute cannot add frames of its own
    provenance = provenance_of(settings, dataset, encoder, occlusion=None, cameras=(), codec=codec.name)
    pieces = []
    for task in plan(frames_of(settings), {}, MAX_FRAMES):

        def make(frames: tuple[Frame, ...] = task.frames) -> list[EncodedFrame]:
            return [
                encode_frame(*_frame(frame, options, dataset, encoder.dim, settings.dataroot), codec)
                for frame in frames
            ]

        known = tuple(Known(f.token, f.subset, f.index, f.labels_path is not None) for f in task.frames)
        pieces.append(Piece(task.name, task.scene, known, (), make))
    vocabulary = build_vocabulary(encoder, entries_of(dataset.taxonomy))
    return write_derived(
        storage_of(settings.out),
        [],
        provenance,
        dataset.taxonomy,
        vocabulary,
        {},
        pieces,
        name="import",
        bytes_before=0,
    )


def _frame(
    frame: Frame, options: ImportOptions, dataset: Dataset, clip_dim: int, dataroot: Path
) -> tuple[CachedFrame, VoxelFeatures]:
    cloud = dataset.points(frame)
    fault = cloud_fault(cloud)
    label = dataset.labels(frame)
    if fault is None and label is not None and len(label) != len(cloud):
        fault = f"{len(label)} labels for {len(cloud)} points"
    if fault is not None:
        raise FrameError(fault, path=frame.points_path, frame=frame.token, remedy="Download the frame again")
    features, seen = read_features(_file_of(frame, options), len(cloud), clip_dim, frame.token)
    coords, point_voxel = voxelise(cloud.xyz, Grid.parse(options.grid))
    weights = mean_matrix(point_voxel, len(coords), use=seen).astype(np.float32)[:, np.flatnonzero(seen)]
    of_voxels = VoxelFeatures(features, csr_array(weights))
    objects = no_objects(clip_dim)
    if label is not None:
        own = csr_array((np.ones(len(features), np.float32), np.arange(len(features)), np.cumsum([0, *seen])))
        objects = find_objects(label, dataset.taxonomy, own, seen.astype(np.uint8), features)
    cached = CachedFrame(
        token=frame.token,
        scene=frame.scene,
        subset=frame.subset,
        index=frame.index,
        timestamp_us=frame.timestamp_us,
        xyz=cloud.xyz,
        intensity=cloud.intensity,
        point_voxel=point_voxel,
        views=seen.astype(np.uint8),
        label=label,
        coords=coords,
        valid=of_voxels.valid,
        clip=of_voxels.dense(),
        object_class=objects.classes,
        object_instance=objects.instance,
        object_points=objects.points,
        object_seen_points=objects.seen_points,
        object_embedding=objects.embedding,
        global_from_lidar=frame.global_from_lidar,
        cameras=tuple(
            row_of_camera(
                camera,
                int(project(cloud.xyz, camera).inside.sum()),
                CellGrid(1, 1, float(max(camera.width, camera.height))),  # no feature map is known
                dataroot,
            )
            for camera in frame.cameras
        ),
        beyond_range=int(Grid.parse(options.grid).beyond(cloud.xyz).sum()),
    )
    return cached, of_voxels


def _file_of(frame: Frame, options: ImportOptions) -> Path:
    """The file of a frame.

    Raises:
        ConfigError: a pattern that cannot be filled in.
        FrameError: there is none.
    """
    try:
        name = options.names.format(token=frame.token, scene=frame.scene, index=frame.index, subset=frame.subset)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"--names {options.names!r} cannot be filled in: {error}",
            remedy="It may hold {token}, {scene}, {subset} and {index}, for example '{subset}/{scene}_{index:04d}'",
        ) from error
    for ending in ENDINGS:
        path = options.features / f"{name}.{ending}"
        if path.is_file():
            return path
    raise FrameError(
        f"no file of features {name}.{'|'.join(ENDINGS)}",
        path=options.features,
        frame=frame.token,
        remedy="Say with --names how files are called, or take fewer frames: --split, --limit",
    )


def read_features(path: Path, points: int, clip_dim: int, token: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The features (M, C) float32 of the points that have one, and which those are, (N,) bool.

    Args:
        points: N, of the sweep.
        token: of the frame, for an error to name.

    Raises:
        FrameError: damaged, of another layout, or not of so many points and channels.
    """

    def wrong(message: str, remedy: str) -> FrameError:
        return FrameError(message, path=path, frame=token, remedy=remedy)

    again = "Write it again, or leave it out: --split, --limit"
    try:
        if path.suffix in (".pt", ".pth"):
            content = torch.load(path, map_location="cpu", weights_only=True)
            features = content["feat"].to(torch.float32).numpy()
            seen = content["mask_full"].numpy().astype(bool)
        else:
            loaded = np.load(path, allow_pickle=False)
            whole = np.asarray(loaded["feat"] if path.suffix == ".npz" else loaded, np.float32)
            seen = np.isfinite(whole).all(axis=1) & whole.any(axis=1)
            features = whole[seen]
    except faults(*_NO_FEATURES, most=points * clip_dim * _BYTES) as error:
        raise wrong(f"no features of points: {error}", again) from error
    except pickle.UnpicklingError as error:
        raise wrong("more than tensors, which loading might run as a program", "Save a dict of tensors") from error
    if seen.shape != (points,):
        raise wrong(
            f"features for {seen.shape} points, the sweep has {points}",
            "Fuse them for the points of the key frame alone, in the order of its file",
        )
    if features.shape != (int(seen.sum()), clip_dim):
        raise wrong(
            f"features of shape {features.shape}, expected ({int(seen.sum())}, {clip_dim})",
            "Give the --encoder whose text embeddings they are to be compared with",
        )
    if not np.isfinite(features).all():
        raise wrong("features hold NaN or infinity", again)
    return np.ascontiguousarray(features), seen
