"""Frames of a store whose points are read otherwise now: by other columns or units of `calibration.yaml`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache_schemas import Provenance
from ovps.cache.layout import manifest_key
from ovps.cache.manifest import read_manifest
from ovps.cache.partition import Partition
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.datasets import Dataset
from ovps.errors import CorruptStoreError, DatasetError, FrameError, listed
from ovps.frame import Frame, PointCloud
from ovps.geometry.same_sweep import rows_correspond, share_points
from pipelines.precompute.flow import tried
from pipelines.precompute.held import Held

_How = Literal["same", "otherwise", "sorted", "another"]
ALIKE = 1e-3  # metres and shares of full intensity: sums of another machine


class _Part(NamedTuple):
    """Frames of a partition, and how the points of the first of them that can be read, `by`, are read now."""

    name: str
    frames: Sequence[Frame]
    by: Frame
    how: _How


def read_otherwise(
    frames: Iterable[Frame], held: Mapping[str, Held], storage: Storage, dataset: Dataset
) -> frozenset[str]:
    """Tokens of the frames that a store holds with other points than the data set gives now.

    The first frame of each partition that can be read stands for all of it: rules of reading are those of a scene. Only
    data sets whose rules lie in their folder (`Dataset.at`) are asked; what changes inside a point file is not noticed.

    Raises:
        DatasetError: the points are those of another sweep, as of another drive whose scene is called the same.
    """
    found = _compare(frames, held, storage, dataset)
    return frozenset(frame.token for part in found if part.how != "same" for frame in part.frames)


def check_order(frames: Iterable[Frame], held: Mapping[str, Held], storage: Storage, dataset: Dataset) -> None:
    """Check that points of the data set are those of a store row by row, as labels of the one are to be of the other.

    See `read_otherwise`, also for what is compared.

    Raises:
        DatasetError: the points are those of another sweep, or lie in another order.
    """
    for part in _compare(frames, held, storage, dataset):
        if part.how == "sorted":
            raise DatasetError(
                f"the points of the frame lie in another order than in the store {storage.at()}, as do its labels",
                path=part.by.points_path,
                frame=part.by.token,
                remedy="Give the --dataroot that the store was made of, or run the same `ovps precompute` first: it"
                " computes such frames anew",
            )


def _compare(frames: Iterable[Frame], held: Mapping[str, Held], storage: Storage, dataset: Dataset) -> list[_Part]:
    """Frames by the partition that holds them, and how the points of each are read now."""
    by_partition: dict[str, list[Frame]] = {}
    if not hasattr(dataset, "at"):
        return []
    for frame in frames:
        if frame.token in held and held[frame.token].row is not None:
            by_partition.setdefault(held[frame.token].partition, []).append(frame)
    if not by_partition:
        return []
    compare = partial(_compared, storage, dataset, read_info(storage).provenance)
    compared = list(storage.each(compare, by_partition.items()))
    exchanged = [part for part in compared if part.how == "another"]
    if exchanged:
        raise _another(exchanged[0].by, [storage.at(manifest_key(part.name)) for part in exchanged], storage)
    return compared


def _another(frame: Frame, manifests: Sequence[str], storage: Storage) -> DatasetError:
    return DatasetError(
        f"the store {storage.at()} holds another sweep as this frame of scene {frame.scene!r}",
        path=frame.points_path,
        frame=frame.token,
        remedy="If this is another drive, give the folder of its scene a name of its own, or choose another place for"
        f" the store; if the sweep was recorded or exported again, delete {listed(manifests)}",
    )


def _compared(
    storage: Storage, dataset: Dataset, provenance: Provenance, partition: tuple[str, Sequence[Frame]]
) -> _Part:
    name, frames = partition
    read = ((frame, tried(frame, partial(dataset.points, frame))) for frame in frames)
    frame, now = next(((frame, cloud) for frame, cloud in read if not isinstance(cloud, FrameError)), (frames[0], None))
    if now is None:  # none can be read, which is told where somebody needs it
        return _Part(name, frames, frame, "same")
    try:
        xyz, intensity = Partition.open(storage, read_manifest(storage, name), provenance).points(frame.token)
    except CorruptStoreError:  # likewise
        return _Part(name, frames, frame, "same")
    return _Part(name, frames, frame, _how(xyz, intensity, now))


def _how(xyz: NDArray[np.float32], intensity: NDArray[np.float32], now: PointCloud) -> _How:
    if len(xyz) == len(now) and np.allclose(xyz, now.xyz, rtol=0, atol=ALIKE):
        return "same" if np.allclose(intensity, now.intensity, rtol=0, atol=ALIKE) else "otherwise"
    if rows_correspond(xyz, now.xyz):
        return "otherwise"
    if not share_points(xyz, now.xyz):
        return "another"
    return "sorted" if len(xyz) == len(now) else "otherwise"  # how many there are is told where it matters
