"""Labels of a data set into a store whose features are there: no image is read, and no CLIP.

ovps cache labels ./zarr --dataroot data/nuscenes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cache_schemas import FrameRow, Provenance, SkippedRow
from ovps import datasets
from ovps.cache import codecs
from ovps.cache.late_labels import check_count, with_labels
from ovps.cache.layout import manifest_key
from ovps.cache.leftovers import remove_leftovers
from ovps.cache.manifest import read_manifests, unless_replaced
from ovps.cache.object_numbers import without_numbers
from ovps.cache.partition import Partition
from ovps.cache.reader import Store
from ovps.cache.remedies import PRECOMPUTE, maker_of, same_again
from ovps.cache.sweeps import label_warnings
from ovps.cache.where import Where
from ovps.cache.writer import EncodedFrame, check_label_classes, write_labels
from ovps.datasets import Dataset
from ovps.errors import CacheError, DatasetError, FrameError, counted
from ovps.frame import Frame
from ovps.interrupt import kept
from ovps.progress import progress, show_warnings
from pipelines.precompute.compute_frame import read_labels
from pipelines.precompute.flow import tried
from pipelines.precompute.held import held_in
from pipelines.precompute.options import data_root
from pipelines.precompute.reread import check_order
from pipelines.precompute.stage import may_skip


class LabelsSummary(BaseModel, frozen=True):
    """Summary of `ovps cache labels`.

    Attributes:
        frames: of the store.
        added: of them, frames that had no labels and have some now.
        renewed: frames whose labels differ from those in the store.
        unlabelled: frames that have none still.
        quarantined: whose labels cannot be read, and why; those that they had stay.
        warnings: what in the labels should be looked into, and frames that the store has lost.
    """

    path: str
    frames: int
    added: int
    renewed: int
    unlabelled: int
    quarantined: tuple[SkippedRow, ...]
    warnings: tuple[str, ...]


def add_labels(path: Where, dataroot: Path | None = None, on_error: Literal["stop", "skip"] = "stop") -> LabelsSummary:
    """Bring labels and object embeddings of a store up to what the data set says now; features stay as they are.

    Labels that the data set does not have any more stay.

    Args:
        path: of the store.
        dataroot: None: the data set's own default.
        on_error: `skip`: a frame whose labels cannot be read keeps those that it has.

    Raises:
        DatasetError, FrameError: labels that cannot be read; partitions before are done. Where frames are skipped, a
            DatasetError if that is every frame with labels.
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
    listed, lacking = datasets.frames_there(dataset, root, about.dataset_version, subsets) if subsets else ([], {})
    show_warnings([f"labels of split {split} stay as they are: {error.message}" for split, error in lacking.items()])
    frames = {frame.token: frame for frame in listed}
    if store.frames and frames and not any(ref.token in frames for ref in store.frames):
        raise DatasetError(
            f"none of the store's {len(store.frames)} frames is in it: it has {next(iter(frames))}, the store"
            f" {store.frames[0].token}",
            path=root,
            remedy="Give the --dataroot that the store was made of, its folders called as they were then",
        )
    check_order(listed, held_in(storage), storage, dataset)
    now = _Labels(dataset, {frame.token: frame for frame in listed if frame.labels_path is not None}, on_error)
    added, renewed, unlabelled = 0, 0, 0
    rows: list[FrameRow] = []
    with storage.exclusive(), may_skip(on_error):
        remove_leftovers(storage)
        if not codecs.get(about.codec).keeps_cells:
            _check_labels(store, now)
        note = (
            f"of {len(store.frames)} frames of {storage.at()} have the labels that the data set has now, and keep them"
        )
        counting = progress("labels", "frames", len(store.frames))
        with kept(lambda: f"{len(rows)} {note}"), counting as counter:
            for before in read_manifests(storage):
                if not before.frames:
                    continue
                with unless_replaced(storage, before.partition, before):
                    partition = Partition.open(storage, before, about)
                    encoded, changed = [], set()
                    for row in before.frames:
                        there = EncodedFrame(row, partition.encoded(row.token))
                        label = now.other(there)
                        if label is not None:
                            there = with_labels(partition, row.token, label, store.taxonomy)
                            changed.add(row.token)
                        encoded.append(there)
                        counter.advance()
                    if changed:
                        skipped = [record for record in before.skipped if record.token not in changed]
                        write_labels(storage, before, encoded, skipped)
                rows += [frame.row for frame in encoded]
                had = {row.token for row in before.frames if row.labelled}
                added += len(changed - had)
                renewed += len(changed & had)
                unlabelled += len(before.frames) - len(had | changed)
    now.check_some()
    return LabelsSummary(
        path=storage.at(),
        frames=len(store.frames),
        added=added,
        renewed=renewed,
        unlabelled=unlabelled,
        quarantined=tuple(now.bad.values()),
        warnings=(*store.warnings(), *now.warnings(), *label_warnings(rows), *_without_numbers(path)),
    )


def _without_numbers(path: Where) -> list[str]:
    store = Store.open(path)  # as it is by now
    return without_numbers(store, store.frames)


@dataclass(eq=False)
class _Labels:
    """The labels that the data set has now.

    Attributes:
        frames: of the data set, those with labels, by token.
        good: tokens of frames whose labels could be read.
        bad: records of those that are skipped, by token.
    """

    dataset: Dataset
    frames: Mapping[str, Frame]
    on_error: Literal["stop", "skip"]
    good: set[str] = field(default_factory=set)
    bad: dict[str, SkippedRow] = field(default_factory=dict)

    def other(self, there: EncodedFrame) -> NDArray[np.uint32] | None:
        """Raw labels (N,) of a frame of the store; None where there are none, or it has them already.

        Raises:
            FrameError: they cannot be read, and such frames are not skipped.
        """
        frame = self.frames.get(there.row.token)
        if frame is None:
            return None
        found = tried(frame, partial(self._read, frame, there.row))
        if isinstance(found, FrameError):
            if self.on_error == "stop":
                raise found
            self.bad[frame.token] = SkippedRow(token=frame.token, kind=found.kind, reason=str(found))
            return None
        self.good.add(frame.token)
        same = there.row.labelled and np.array_equal(found, there.arrays["points/label"])
        return None if same else found

    def _read(self, frame: Frame, row: FrameRow) -> NDArray[np.uint32]:
        label = read_labels(frame, self.dataset)
        assert label is not None  # it has a path
        check_count(label, row, frame.labels_path)
        return label

    def warnings(self) -> tuple[str, ...]:
        """Warn of labels that are skipped."""
        if not self.bad:
            return ()
        return (
            f"labels of {counted(len(self.bad), 'frame')} cannot be read, and these keep what they had, the first is"
            f" {next(iter(self.bad))}: mend what `quarantined` names and run the same command again",
        )

    def check_some(self) -> None:
        """Raise a DatasetError where the labels of every frame that has some are skipped."""
        if self.bad and not self.good:
            raise DatasetError(
                f"the labels of none of {len(self.bad)} frames can be read. The first one:"
                f" {next(iter(self.bad.values())).reason.rstrip('.')}",
                remedy="Mend what it names and run the same command again",
            )


def _check_labels(store: Store, now: _Labels) -> None:
    """Raise a CacheError that names all partitions with other labels, where no object can be made without CLIP."""
    storage, about = store.storage, store.provenance
    manifests, count = [], 0
    with progress("compare", "frames", len(store.frames)) as counter:
        for row in read_manifests(storage):
            if not row.frames:
                continue
            partition, changed = Partition.open(storage, row, about), 0
            for record in row.frames:
                changed += now.other(EncodedFrame(record, partition.encoded(record.token))) is not None
                counter.advance()
            if changed:
                manifests.append(storage.at(manifest_key(row.partition)))
                count += changed
    if manifests:
        raise CacheError(
            f"codec {about.codec} keeps features of voxels: of {count} frames whose labels are others now, objects"
            " cannot be made without CLIP",
            path=storage.at(),
            remedy=f"{_source_first(about)} {' and '.join(manifests)} and run {same_again(about)}, which makes these"
            " partitions anew",
        )


def _source_first(about: Provenance) -> str:
    """What comes before the manifests that are to be deleted: what is made of a store has the labels of that one."""
    if maker_of(about) == PRECOMPUTE:
        return "Delete"
    return "If this store was made of another one, run `ovps cache labels` on that one first. Then delete"
