"""Frames of the data set that a store lacks: `ovps cache info ./zarr --dataroot data/nuscenes`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ovps import datasets
from ovps.cache.manifest import read_manifests
from ovps.cache.store_info import read_info
from ovps.cache.where import Where, storage_of
from ovps.places import check_no_url
from ovps.progress import show_warnings
from pipelines.precompute.plan import with_cameras


def missing_frames(path: Where, dataroot: Path) -> dict[str, dict[str, int]]:
    """Count, for each usual split of the data set and each other one that the store has, what it lacks.

    A split that the data set does not have is left out, with a warning.

    Returns:
        For each split the number of `frames` that are not in the store, and of frames without the `labels` that the
        data set has.

    Raises:
        CacheError: no store there.
        DatasetError: the data set cannot be read.
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
    found, lacking = datasets.frames_there(dataset, dataroot.absolute(), about.dataset_version, splits)
    show_warnings([f"split {split} is not counted: {error.message}" for split, error in lacking.items()])
    frames, labels = Counter[str](), Counter[str]()
    chosen = (with_cameras(frame, about.cameras or ()) for frame in found)
    for frame in [frame for frame in chosen if frame.cameras]:  # precompute leaves out what its cameras did not see
        row = rows.get(frame.token)
        frames[frame.subset] += row is None
        labels[frame.subset] += row is not None and frame.labels_path is not None and not row.labelled
    return {split: {"frames": frames[split], "labels": labels[split]} for split in splits if split not in lacking}
