"""Labels of a data set into a store whose features are there: no image is read, and no CLIP.

ovps cache labels ./zarr --dataroot data/nuscenes
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cache_schemas import FrameRow
from ovps import datasets
from ovps.cache import codecs
from ovps.cache.late_labels import with_labels
from ovps.cache.layout import manifest_key
from ovps.cache.leftovers import remove_leftovers
from ovps.cache.manifest import read_manifests, unless_replaced
from ovps.cache.partition import Partition
from ovps.cache.reader import Store
from ovps.cache.remedies import same_again
from ovps.cache.sweeps import label_warnings
from ovps.cache.where import Where
from ovps.cache.writer import EncodedFrame, check_label_classes, write_labels
from ovps.datasets import Dataset
from ovps.errors import CacheError, DatasetError
from ovps.frame import Frame
from ovps.taxonomy import Taxonomy
from pipelines.precompute.compute_frame import read_labels
from pipelines.precompute.options import data_root


class LabelsSummary(BaseModel, frozen=True):
    """Summary of `ovps cache labels`.

    Attributes:
        frames: of the store.
        added: of them, frames that had no labels and have some now.
        renewed: frames whose labels differ from those in the store.
        unlabelled: frames that have none still.
        warnings: what in the labels should be looked into, and frames that the store has lost.
    """

    path: str
    frames: int
    added: int
    renewed: int
    unlabelled: int
    warnings: tuple[str, ...]


def add_labels(path: Where, dataroot: Path | None = None) -> LabelsSummary:
    """Bring labels and object embeddings of a store up to what the data set says now; features stay as they are.

    Labels that the data set does not have any more stay.

    Args:
        path: of the store.
        dataroot: None: the data set's own default.

    Raises:
        DatasetError, FrameError: labels that cannot be read; partitions before are done.
        ProvenanceError: the data set's taxonomy reads labels otherwise than the store's.
        CacheError: no store, or labels have changed and the codec keeps no cells.
        CorruptStoreError: it has no frame, because manifests are lost.
        StorageError: the disk refuses; each partition is as it was, or done.
    """
    store = Store.open(path)
    if not store.frames and store.warnings():
        store.frames_of(None)  # which says how they come back
    storage = store.storage
    about = store.provenance
    subsets = tuple(dict.fromkeys(ref.subset for ref in store.frames))
    root = data_root(about.dataset, dataroot)
    dataset = datasets.at(about.dataset, root)
    check_label_classes(storage, store.taxonomy, dataset.taxonomy)
    listed = datasets.frames_of(dataset, root, about.dataset_version, subsets) if subsets else []
    frames = {frame.token: frame for frame in listed}
    if store.frames and frames and not any(ref.token in frames for ref in store.frames):
        raise DatasetError(
            f"none of the store's {len(store.frames)} frames is in it: it has {next(iter(frames))}, the store"
            f" {store.frames[0].token}",
            path=root,
            remedy="Give the --dataroot that the store was made of, its folders called as they were then",
        )
    added, renewed, unlabelled = 0, 0, 0
    rows: list[FrameRow] = []
    with storage.exclusive():
        remove_leftovers(storage)
        if not codecs.get(about.codec).keeps_cells:
            _check_labels(store, frames, dataset)
        for before in read_manifests(storage):
            if not before.frames:
                continue
            with unless_replaced(storage, before.partition, before):
                partition = Partition.open(storage, before, about)
                encoded = [
                    _frame(partition, row.token, frames.get(row.token), dataset, store.taxonomy)
                    for row in before.frames
                ]
                changed = {frame.row.token for frame, is_new in encoded if is_new}
                if changed:
                    skipped = [record for record in before.skipped if record.token not in changed]
                    write_labels(storage, before, [frame for frame, _ in encoded], skipped)
            rows += [frame.row for frame, _ in encoded]
            had = {row.token for row in before.frames if row.labelled}
            added += len(changed - had)
            renewed += len(changed & had)
            unlabelled += len(before.frames) - len(had | changed)
    return LabelsSummary(
        path=storage.at(),
        frames=len(store.frames),
        added=added,
        renewed=renewed,
        unlabelled=unlabelled,
        warnings=(*store.warnings(), *label_warnings(rows)),
    )


def _frame(
    partition: Partition, token: str, frame: Frame | None, dataset: Dataset, taxonomy: Taxonomy
) -> tuple[EncodedFrame, bool]:
    """A frame with the labels that the data set has, and whether they are others than in the store."""
    there = EncodedFrame(partition.row.frames[partition.positions[token]], partition.encoded(token))
    if frame is None or frame.labels_path is None:
        return there, False
    label = read_labels(frame, dataset)
    assert label is not None  # it has a path
    if not _differs(there, label):
        return there, False
    return with_labels(partition, token, label, taxonomy, frame.labels_path), True


def _differs(there: EncodedFrame, label: NDArray[np.uint32]) -> bool:
    return not there.row.labelled or not np.array_equal(label, there.arrays["points/label"])


def _check_labels(store: Store, frames: Mapping[str, Frame], dataset: Dataset) -> None:
    """Raise a CacheError that names all partitions with other labels, where no object can be made without CLIP."""
    storage, about = store.storage, store.provenance
    manifests, count = [], 0
    for row in read_manifests(storage):
        if not row.frames:
            continue
        partition, changed = Partition.open(storage, row, about), 0
        for record in row.frames:
            frame = frames.get(record.token)
            label = read_labels(frame, dataset) if frame is not None and frame.labels_path is not None else None
            changed += label is not None and _differs(EncodedFrame(record, partition.encoded(record.token)), label)
        if changed:
            manifests.append(storage.at(manifest_key(row.partition)))
            count += changed
    if manifests:
        raise CacheError(
            f"codec {about.codec} keeps features of voxels: of {count} frames whose labels are others now, objects"
            " cannot be made without CLIP",
            path=storage.at(),
            remedy=f"Delete {' and '.join(manifests)} and run {same_again(about)}, which makes these partitions anew",
        )
