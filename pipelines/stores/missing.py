"""Frames of the data set that a store lacks: `ovps cache info ./zarr --dataroot data/nuscenes`."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from ovps import datasets
from ovps.cache.manifest import read_manifests
from ovps.cache.store_info import read_info
from ovps.cache.where import Where, storage_of
from ovps.errors import DatasetError
from ovps.places import check_no_url
from ovps.progress import show_warnings
from pipelines.precompute.plan import with_cameras


def missing_frames(path: Where, dataroot: Path) -> dict[str, dict[str, int]]:
    """Count, for each usual split of the data set and each other one that the store has, what it lacks.

    A usual split that neither the store nor the data set has is left out, with a warning.

    Returns:
        For each split the number of `frames` that are not in the store, and of frames without the `labels` that the
        data set has.

    Raises:
        CacheError: no store there.
        DatasetError: the data set, or a split that the store has, cannot be read.
        ConfigError: a URL as `dataroot`, or what is no place of a store.
    """
    check_no_url(dataroot)
    storage = storage_of(path)
    about = read_info(storage).provenance
    rows = {frame.token: frame for row in read_manifests(storage) for frame in row.frames}
    dataset = datasets.at(about.dataset, dataroot)
    usual = datasets.usual_subsets(dataset, about.dataset_version)
    own = tuple(dict.fromkeys(frame.subset for frame in rows.values()))
    splits = tuple(dict.fromkeys((*usual, *own)))
    listed = partial(datasets.frames_of, dataset, dataroot.absolute(), about.dataset_version)
    try:
        found = listed(splits)
    except DatasetError:  # it may lack a split that is usual
        if not own:
            raise
        found = listed(own)
        for split in [name for name in usual if name not in own]:
            try:
                found += listed((split,))
            except DatasetError as error:
                show_warnings([f"split {split}, of which the store has no frame, is not counted: {error.message}"])
                splits = tuple(name for name in splits if name != split)
    frames, labels = Counter[str](), Counter[str]()
    chosen = (with_cameras(frame, about.cameras or ()) for frame in found)
    for frame in [frame for frame in chosen if frame.cameras]:  # precompute leaves out what its cameras did not see
        row = rows.get(frame.token)
        frames[frame.subset] += row is None
        labels[frame.subset] += row is not None and frame.labels_path is not None and not row.labelled
    return {split: {"frames": frames[split], "labels": labels[split]} for split in splits}
