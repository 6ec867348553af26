"""Frames of a store whose points are read otherwise now: by other columns or units of `calibration.yaml`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from cache_schemas import Provenance
from ovps.cache.manifest import read_manifest
from ovps.cache.partition import Partition
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.datasets import Dataset
from ovps.errors import CorruptStoreError, FrameError
from ovps.frame import Frame
from pipelines.precompute.flow import tried
from pipelines.precompute.held import Held

ALIKE = 1e-3  # metres and shares of full intensity: sums of another machine


def read_otherwise(
    frames: Iterable[Frame], held: Mapping[str, Held], storage: Storage, dataset: Dataset
) -> frozenset[str]:
    """Tokens of the frames that a store holds with other points than the data set gives now.

    The first frame of each partition that can be read stands for all of it: rules of reading are those of a scene. Only
    data sets whose rules lie in their folder (`Dataset.at`) are asked; what changes inside a point file is not noticed.
    """
    if not hasattr(dataset, "at"):
        return frozenset()
    by_partition: dict[str, list[Frame]] = {}
    for frame in frames:
        if frame.token in held and held[frame.token].row is not None:
            by_partition.setdefault(held[frame.token].partition, []).append(frame)
    if not by_partition:
        return frozenset()
    differs = storage.each(partial(_differs, storage, dataset, read_info(storage).provenance), by_partition.items())
    return frozenset(
        frame.token for part, other in zip(by_partition.values(), differs, strict=True) if other for frame in part
    )


def _differs(
    storage: Storage, dataset: Dataset, provenance: Provenance, partition: tuple[str, Sequence[Frame]]
) -> bool:
    name, frames = partition
    read = ((frame, tried(frame, partial(dataset.points, frame))) for frame in frames)
    frame, now = next(((frame, cloud) for frame, cloud in read if not isinstance(cloud, FrameError)), (frames[0], None))
    if now is None:  # none can be read, which is told where somebody needs it
        return False
    try:
        xyz, intensity = Partition.open(storage, read_manifest(storage, name), provenance).points(frame.token)
    except CorruptStoreError:  # likewise
        return False
    return not (
        xyz.shape == now.xyz.shape
        and np.allclose(xyz, now.xyz, rtol=0, atol=ALIKE)
        and np.allclose(intensity, now.intensity, rtol=0, atol=ALIKE)
    )
