"""Features that another program made for points, as a store: those of OpenScene's fusion, for example.

ovps cache import --features fused --dataroot data/nuscenes --encoder ViT-L-14-336-quickgelu --weights openai
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from cache_schemas import MAX_FRAMES, PartitionRow
from ovps import datasets
from ovps.cache import codecs
from ovps.cache.cameras import row_of_camera
from ovps.cache.codecs.protocol import Codec, VoxelFeatures
from ovps.cache.frame_data import CachedFrame
from ovps.cache.object_embeddings import find_objects, no_objects
from ovps.cache.object_numbers import without_numbers
from ovps.cache.reader import Store
from ovps.cache.storage import Storage
from ovps.cache.writer import EncodedFrame, encode_frame, stored_frames
from ovps.clip.activation import activation_warnings
from ovps.clip.text import build_vocabulary, encoder_warnings
from ovps.datasets import Dataset
from ovps.errors import ConfigError, DatasetError, FrameError
from ovps.frame import Frame
from ovps.geometry.cells import CellGrid
from ovps.geometry.grid import Grid, mean_matrix, voxelise
from ovps.geometry.projection import project
from ovps.vocabulary import entries_of
from pipelines.options import ImportOptions, PrecomputeOptions
from pipelines.precompute.asked import frames_of
from pipelines.precompute.compute_frame import check_labels, read_cloud, read_labels
from pipelines.precompute.flow import sorted_out, tried
from pipelines.precompute.held import Held, placed
from pipelines.precompute.options import Resolved, resolved
from pipelines.precompute.plan import plan
from pipelines.precompute.prepare import provenance_of
from pipelines.precompute.stage import may_skip
from pipelines.precompute.task import encoder_of
from pipelines.stores.derived import DerivedSummary, Known, Made, Piece, write_derived
from pipelines.stores.point_features import ENDINGS, read_features

_OFTEN = 0.1  # of a frame's features: parts of a scene may share one, a tenth of its points hardly do


def import_features(options: ImportOptions) -> DerivedSummary:
    """Write a store of features that were made for points elsewhere. No image is read; CLIP reads the class names.

    What a frame's file holds: see `read_features`. N is the number of points of the sweep, C the length of the
    encoder's text embeddings.

    Raises:
        ConfigError: the codec needs cells of images, which there are none of; or names that do not tell frames apart.
        DatasetError: no folder of features; or as `frames_of`.
        FrameError: a frame whose file is missing, does not fit its points, or holds what is no feature; where these are
            skipped, a DatasetError if that is every frame.
        OvpsError: as `write_derived`.
    """
    if not options.features.is_dir():
        what = "a file, not a folder of files for each frame" if options.features.exists() else "no such folder"
        raise DatasetError(what, path=options.features, remedy="Check --features")
    settings = _settings(options)
    codec = codecs.get(options.codec)
    if codec.keeps_cells or codec.fit_frames:
        raise ConfigError(
            f"codec {codec.name} is made of the cells of images, and there are features of points alone",
            remedy="Leave out --codec: `dense` needs no cells",
        )
    dataset = datasets.at(settings.dataset, settings.dataroot)
    frames = frames_of(settings)
    names = _names(frames, options)
    encoder = encoder_of(settings.encoder, settings.weights, settings.device, 1.0)
    # no image was looked at: precompute cannot add frames of its own
    provenance = provenance_of(settings, dataset, encoder, occlusion=None, cameras=(), codec=codec.name)
    source = _Source(options, settings.dataroot, dataset, names, encoder.dim, codec)
    pieces = []
    for task in plan(frames, {}, MAX_FRAMES):
        known = tuple(Known(f.token, f.subset, f.index, f.labels_path is not None) for f in task.frames)
        make, changed = partial(source.made, task.frames), partial(source.changed, task.frames)
        pieces.append(Piece(task.name, task.scene, known, make, changed))
    activation = activation_warnings(settings.encoder, settings.weights)
    vocabulary = build_vocabulary(encoder, entries_of(dataset.taxonomy))
    with may_skip(options.on_error):
        summary = write_derived(
            settings.out, [], provenance, dataset.taxonomy, vocabulary, {}, pieces, name="import", bytes_before=0
        )
    if summary.quarantined and not summary.frames:
        raise DatasetError(
            f"none of {len(frames)} frames could be imported, all are quarantined. The first one:"
            f" {summary.quarantined[0].reason.rstrip('.')}",
            path=options.features,
            remedy="Mend what it names and run the same command again: it tries quarantined frames again",
        )
    store = Store.open(settings.out)
    return summary.model_copy(
        update={
            "warnings": (
                *summary.warnings,
                *activation,
                *encoder_warnings(encoder, vocabulary),
                *_same_warnings(source.same),
                *without_numbers(store, store.frames),
            )
        }
    )


def _same_warnings(same: Mapping[str, float]) -> Iterator[str]:
    """Warn of frames many of whose features are one: something that was filled in for points without one."""
    many = {token: share for token, share in same.items() if share > _OFTEN}
    if many:
        worst = max(many, key=lambda token: many[token])
        yield (
            f"in {len(many)} of {len(same)} frames many features are one and the same ({worst}: {many[worst]:.0%}): if"
            " it was filled in for points without one, write zeros there, or False in `mask_full`, and import into a"
            " new --out"
        )


def _settings(options: ImportOptions) -> Resolved:
    """Those of a precompute of the same frames, which looks at no image."""
    return resolved(
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


@dataclass(frozen=True)
class _Source:
    """Where the features of frames come from, and how they are stored."""

    options: ImportOptions
    dataroot: Path
    dataset: Dataset
    names: Mapping[str, str]  # of files, by token
    clip_dim: int
    codec: Codec
    same: dict[str, float] = field(default_factory=dict)  # by token, as far as they were read: see `same_share`

    def made(self, frames: Sequence[Frame]) -> Made:
        return Made(*sorted_out(frames, map(self._tried, frames), self.options.on_error))

    def _tried(self, frame: Frame) -> EncodedFrame | FrameError:
        return tried(frame, lambda: encode_frame(*self._frame(frame), self.codec))

    def changed(self, frames: Sequence[Frame], storage: Storage, row: PartitionRow) -> list[str]:
        """Compare what a run before has committed: poses, times and cameras of all frames, the arrays of the first.

        Labels count where both have some.
        """
        now = {frame.token: frame for frame in frames}
        moved = [
            one.token
            for one in row.frames
            if placed(one, now[one.token]) != one or Held(row.partition, row.scene, one).recalibrated(now[one.token])
        ]
        first = now[row.frames[0].token]
        made = None if moved else next(iter(self.made((first,)).frames), None)
        if made is None:  # it is there, and cannot be made any more
            return moved
        (there,) = stored_frames(storage, row, {first.token})
        both = made.arrays.keys() & there.arrays.keys()  # those of labels only where a frame has some
        same = all(np.array_equal(made.arrays[name], there.arrays[name]) for name in both)
        return [] if same else [first.token]

    def _frame(self, frame: Frame) -> tuple[CachedFrame, VoxelFeatures]:
        dataset, clip_dim, grid = self.dataset, self.clip_dim, Grid.parse(self.options.grid)
        cloud = read_cloud(frame, dataset)
        label = read_labels(frame, dataset)
        check_labels(frame, cloud, label)
        features, seen, self.same[frame.token] = read_features(
            _file_of(frame, self.names[frame.token], self.options.features), len(cloud), clip_dim, frame.token
        )
        coords, point_voxel = voxelise(cloud.xyz, grid)
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
                    self.dataroot,
                )
                for camera in frame.cameras
            ),
            beyond_range=int(grid.beyond(cloud.xyz).sum()),
        )
        return cached, of_voxels


def _names(frames: Iterable[Frame], options: ImportOptions) -> dict[str, str]:
    """What the files of frames are called, without the ending, by token.

    Raises:
        ConfigError: a pattern that cannot be filled in, or gives two frames one name.
    """
    frame_of: dict[str, str] = {}
    for frame in frames:
        try:
            name = options.names.format(token=frame.token, scene=frame.scene, index=frame.index, subset=frame.subset)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"--names {options.names!r} cannot be filled in: {error}",
                remedy="It may hold {token}, {scene}, {subset} and {index}, for example '{subset}/{scene}_{index:04d}'",
            ) from error
        if name in frame_of:
            raise ConfigError(
                f"--names {options.names!r} gives frames {frame_of[name]} and {frame.token} one file, {name}",
                remedy="Tell them apart: by {token}, or by {scene} and {index}",
            )
        frame_of[name] = frame.token
    return {token: name for name, token in frame_of.items()}


def _file_of(frame: Frame, name: str, folder: Path) -> Path:
    """The file of a frame.

    Raises:
        FrameError: there is none, or several.
    """
    there = [path for ending in ENDINGS if (path := folder / f"{name}.{ending}").is_file()]
    if len(there) == 1:
        return there[0]
    if there:
        raise FrameError(
            f"{len(there)} files of features for one frame: {', '.join(path.name for path in there)}",
            path=folder,
            frame=frame.token,
            remedy="Leave the one that counts there, and move the others elsewhere",
        )
    raise FrameError(
        f"no file of features {name}.{'|'.join(ENDINGS)}",
        path=folder,
        frame=frame.token,
        remedy="Say with --names how files are called",
    )
