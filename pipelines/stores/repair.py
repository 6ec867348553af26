"""Repair of a store: what is damaged is made anew of the data set, and nothing else.

ovps cache repair ./zarr --dataroot data/nuscenes
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from pydantic import BaseModel

from cache_schemas import MAX_FRAMES, FrameRow, PartitionRow, SkippedRow, StoreInfo
from ovps import datasets
from ovps.cache import codecs
from ovps.cache.cameras import decode_thumbnail
from ovps.cache.codecs.state import state_bytes
from ovps.cache.late_labels import with_labels
from ovps.cache.layout import CODEC_STATE, INFO, PARTITIONS, VOCABULARY, manifest_key
from ovps.cache.leftovers import lost_partitions, remove_leftovers
from ovps.cache.manifest import WAITING, find_manifest, partitions, read_manifest, unless_replaced, write_manifest
from ovps.cache.partition import Partition, first_thumbnail, of_other_settings
from ovps.cache.remedies import PRECOMPUTE, maker_of, same_again
from ovps.cache.storage import LOST, LOST_INFO, Storage
from ovps.cache.store_info import read_info
from ovps.cache.verify import damaged_parts, damaged_root, verify_store
from ovps.cache.where import storage_of
from ovps.cache.writer import (
    EncodedFrame,
    check_label_classes,
    check_provenance,
    stored_frames,
    write_labels,
    write_partition,
)
from ovps.clip.text import build_vocabulary
from ovps.datasets import Dataset
from ovps.errors import CorruptStoreError, DatasetError, FrameError, command, counted
from ovps.frame import Frame
from ovps.interrupt import kept
from ovps.progress import progress
from ovps.taxonomy import Taxonomy
from ovps.vocabulary import entries_of, vocabulary_bytes
from pipelines.options import USUAL, PrecomputeOptions, RepairOptions
from pipelines.precompute.asked import frames_of
from pipelines.precompute.compute_frame import StageTimes, Tools, read_labels
from pipelines.precompute.flow import computed, sorted_out, tried
from pipelines.precompute.held import Held
from pipelines.precompute.options import Resolved, resolved
from pipelines.precompute.plan import first_frame_of, frame_key, plan
from pipelines.precompute.prepare import prepare
from pipelines.precompute.reread import check_order
from pipelines.precompute.stage import may_skip
from pipelines.precompute.task import encoder_of, one_thread, threads_beside, tools_of


class RepairSummary(BaseModel, frozen=True):
    """Summary of `ovps cache repair`.

    Attributes:
        partitions: of the store, each file of which was read.
        labels: partitions whose labels alone were made anew, without CLIP.
        features: partitions that were made anew whole, with CLIP.
        manifests: of them, those whose manifest was lost or could not be read.
        files: of the store as a whole that were made anew: the vocabulary, the codec's state.
        frames: that CLIP was run on.
        renewed: partitions whose labels are not those that there were, because the data set has others now.
        quarantined: that could not be made anew, or not with their labels, and why.
        left: what is still wrong, and what to do about it.
        warnings: what should be looked into.
    """

    path: str
    partitions: int
    labels: int
    features: int
    manifests: int
    files: tuple[str, ...]
    frames: int
    renewed: int
    quarantined: tuple[SkippedRow, ...]
    left: tuple[str, ...]
    warnings: tuple[str, ...]


def repair(options: RepairOptions) -> RepairSummary:
    """Recompute what `ovps cache verify` finds damaged: labels alone without CLIP, features with it.

    Each partition is a commit: what a run that was stopped has repaired stays. Files that belong to nothing are left.
    Where bad frames are skipped, one that cannot be made anew stays as it is if it is not damaged itself; else it is
    quarantined.

    Raises:
        CacheError: no store; or another version, encoder or grid than that of the store would make other bytes.
        CorruptStoreError: `store.json` itself is damaged, a file cannot be made as it was, or features are that CLIP
            did not make as they were; nothing was written.
        DatasetError, FrameError: what the damage is of cannot be read from the data set.
        StorageError: the disk refuses.
    """
    storage = storage_of(options.path)
    info = read_info(storage)
    with storage.exclusive():
        found = _examine(storage, info)
        if of_other_settings(storage, found.rows, info.provenance):
            raise CorruptStoreError(
                "of another store: every partition was made with other settings",
                path=storage.at(INFO),
                remedy=LOST_INFO,
            )
        _check_computable(storage, info, found)
        work = _Work(options, storage, info, found)
        if found.root:
            _repair_root(work, found.root)
        note = f"what is repaired in {storage.at()} stays; the same command does the rest"
        todo = len(found.labels) + len(found.features) + len(found.lost)
        frames, renewed, again = 0, [], []
        with may_skip(options.on_error), kept(lambda: note), progress("repair", "partitions", todo) as counter:
            for row in found.labels:
                renewed += _renewed(row, _repair_labels(work, row))
                counter.advance()
            for row in found.features:
                renewed += _renewed(row, _repair_features(work, row))
                frames += len(row.frames)
                counter.advance()
            for name in found.lost:
                made = _make_again(work, name, found.lost)
                if made is not None:
                    frames += made
                    again.append(name)
                counter.advance()
        with suppress(CorruptStoreError):  # a manifest of frames that the data set does not have: told by `left`
            remove_leftovers(storage)
        left = tuple(map(str, verify_store(storage)))
    return RepairSummary(
        path=storage.at(),
        partitions=len(partitions(storage)),
        labels=len(found.labels),
        features=len(found.features) + len(again),
        manifests=len(again),
        files=tuple(found.root),
        frames=frames,
        renewed=len(renewed),
        quarantined=_quarantined(storage, found.rows),
        left=left,
        warnings=(*_refilled(storage, again), *_warnings(storage, renewed)),
    )


class _Found:
    """The damage of a store: its partitions, by what has to be made anew."""

    def __init__(self) -> None:
        self.root: list[str] = []
        self.rows: list[PartitionRow] = []  # with a manifest
        self.labels: list[PartitionRow] = []
        self.features: list[PartitionRow] = []
        self.lost: list[str] = []


def _examine(storage: Storage, info: StoreInfo) -> _Found:
    found = _Found()
    found.root = damaged_root(storage, info)
    names = partitions(storage)
    keeps_cells = codecs.get(info.provenance.codec).keeps_cells
    with progress("verify", "partitions", len(names)) as counter:
        for name in names:
            try:
                row = read_manifest(storage, name)
            except CorruptStoreError:
                found.lost.append(name)
            else:
                found.rows.append(row)
                if any(record.kind == WAITING for record in row.skipped):
                    found.lost.append(name)
                parts = damaged_parts(storage, row, info)
                if parts.keys() == {"labels"} and keeps_cells:
                    found.labels.append(row)
                elif parts:
                    found.features.append(row)
            counter.advance()
    found.lost += lost_partitions(storage, info)
    return found


def _check_computable(storage: Storage, info: StoreInfo, found: _Found) -> None:
    """Features that were imported, or that a codec had lost something of, CLIP does not give.

    Raises:
        CorruptStoreError: such features are damaged or lost.
    """
    names = sorted({*(row.partition for row in found.features), *found.lost})
    if not names or maker_of(info.provenance) == PRECOMPUTE:
        return
    there = set(partitions(storage))
    manifests = [storage.at(manifest_key(name)) for name in names if name in there]
    delete = f"delete {', '.join(manifests)} and " if manifests else ""
    remedy = f"{delete}run {same_again(info.provenance)}: it makes what is missing"
    raise CorruptStoreError(
        f"what is damaged or lost cannot be repaired, because its features are of `{maker_of(info.provenance)}`, not of"
        f" images: partition {', '.join(names)}",
        path=storage.at(),
        remedy=remedy[0].upper() + remedy[1:],
    )


class _Work:
    """The data set and the tools of the store, each loaded when something first needs it."""

    def __init__(self, options: RepairOptions, storage: Storage, info: StoreInfo, found: _Found) -> None:
        self.storage, self.info = storage, info
        rows = found.rows
        self.taxonomy = Taxonomy.model_validate(info.taxonomy)
        about = info.provenance
        splits = tuple(dict.fromkeys(frame.subset for row in rows for frame in row.frames))
        usual = datasets.usual_subsets(datasets.get(about.dataset), about.dataset_version)
        asked = PrecomputeOptions(
            dataset=about.dataset,
            dataroot=options.dataroot,
            version=about.dataset_version,
            subsets=_in_order(splits, usual, every=bool(found.lost or found.root)),
            sweeps=about.sweeps,
            cameras=about.cameras or (),
            encoder=about.encoder,
            weights=options.weights or ("random" if about.weights_random else None),
            upscale=about.upscale,
            grid=about.grid,
            occlusion=about.occlusion is not None,
            workers=0,
            out=storage.at(),
            codec=about.codec,
            thumbnails=_thumbnail_width(storage, info, rows),
            on_error=options.on_error,
            device=options.device,
        )
        self.options: Resolved = resolved(asked)
        self._tokens = {frame.token for row in rows for frame in row.frames}
        self._frames: list[Frame] | None = None
        self._tools: Tools | None = None

    @property
    def dataset(self) -> Dataset:
        """The data set where it lies."""
        return datasets.at(self.options.dataset, self.options.dataroot)

    @property
    def frames(self) -> list[Frame]:
        """Frames of the data set.

        Raises:
            DatasetError: none, or none of those that the store has, or those of another drive.
        """
        if self._frames is None:
            try:
                found = frames_of(self.options)
            except DatasetError:  # it may lack a split that is usual, or the scenes of one have gone since
                there = tuple(split for split in self.options.subsets if self._has(split))
                if not there:
                    raise
                found = frames_of(self.options.model_copy(update={"subsets": there}))
            if self._tokens and self._tokens.isdisjoint(frame.token for frame in found):
                raise DatasetError(
                    f"none of the store's {counted(len(self._tokens), 'frame')} is in it",
                    path=self.options.dataroot,
                    frame=found[0].token,
                    remedy="Give the --dataroot that the store was made of",
                )
            check_order(found, _held(self.storage), self.storage, self.dataset)
            self._frames = found
        return self._frames

    def _has(self, split: str) -> bool:
        try:
            return bool(frames_of(self.options.model_copy(update={"subsets": (split,)})))
        except DatasetError:
            return False

    @property
    def tools(self) -> Tools:
        """Load CLIP and the rest, once it is known that they are those of the store."""
        if self._tools is None:
            job, provenance = prepare(self.options, self.frames)
            check_provenance(self.storage, provenance)
            self._tools = tools_of(job)
        return self._tools

    def of(self, records: Sequence[FrameRow]) -> tuple[list[Frame], list[SkippedRow]]:
        """Find frames of the store, as it has them: a label that came since is no repair.

        Returns:
            Those that there are, and records of those that the data set does not have any more, or not with labels.

        Raises:
            FrameError: one of the latter, where they are not skipped.
        """
        there = {frame.token: frame for frame in self.frames}
        found, gone = [], []
        for record in records:
            frame = there.get(record.token)
            if frame is not None and (frame.labels_path is not None or not record.labelled):
                labels = frame.labels_path if record.labelled else None
                found.append(replace(frame, labels_path=labels, subset=record.subset, index=record.index))
                continue
            error = FrameError(
                "the data set does not have the frame any more, or not its labels",
                path=self.options.dataroot,
                frame=record.token,
                remedy="Give the --dataroot that the store was made of",
            )
            if self.options.on_error != "skip":
                raise error
            gone.append(SkippedRow(token=record.token, kind=error.kind, reason=str(error)))
        return found, gone


def _in_order(splits: tuple[str, ...], usual: tuple[str, ...], every: bool) -> tuple[str, ...]:
    """Splits of a store in the order that they are usually asked for; the usual ones where nothing is known.

    Args:
        every: the usual ones too of which no readable manifest knows: all that was of them may be lost.
    """
    known = [split for split in usual if split in splits or every] + [split for split in splits if split not in usual]
    return tuple(known) or (USUAL,)


def _thumbnail_width(storage: Storage, info: StoreInfo, rows: Sequence[PartitionRow]) -> int | None:
    """The width in pixels of the store's thumbnails; None if it has none, or none that can be read."""
    for row in rows:
        with suppress(CorruptStoreError):
            width = Partition.open(storage, row, info.provenance).thumbnail_width()
            if width is not None:
                return width
    for folder in storage.children(PARTITIONS):  # of lost manifests
        content = first_thumbnail(storage, folder)
        if content is not None:
            return int(decode_thumbnail(content).shape[1])
    return None


def _renewed(before: PartitionRow, after: PartitionRow) -> list[str]:
    """The partition's name if the raw labels of its points are not those that there were, none if they are."""
    files = [
        {(file.path, file.sha256) for file in row.labels.files if file.path.startswith("points/label/c/")}
        for row in (before, after)
        if row.labels is not None
    ]
    return [before.partition] if files and files[0] != files[-1] else []


def _quarantined(storage: Storage, before: Sequence[PartitionRow]) -> tuple[SkippedRow, ...]:
    """Records of frames that were none of `before`."""
    known = {record for row in before for record in row.skipped}
    after = (_readable(storage, name) for name in partitions(storage))
    return tuple(r for row in after if row for r in row.skipped if r.kind != WAITING and r not in known)


def _warnings(storage: Storage, renewed: Sequence[str]) -> tuple[str, ...]:
    if not renewed:
        return ()
    others = command("ovps", "cache", "labels", storage.at())
    return (
        f"the data set has other labels now than the store had in {len(renewed)} of the partitions that were repaired,"
        f" {renewed[0]} first; `{others}` brings all others up to it",
    )


def _refilled(storage: Storage, again: Sequence[str]) -> tuple[str, ...]:
    """Tell that a partition which had a part of the data set's frames, as in a subset, has all of them now."""
    if not again:
        return ()
    frames = counted(sum(len(row.frames) for row in map(partial(_readable, storage), again) if row), "frame")
    return (
        f"no manifest said any more which frames {counted(len(again), 'partition')} had, {again[0]} first:"
        f" what was made has all that the data set has there, {frames}",
    )


def _repair_labels(work: _Work, row: PartitionRow) -> PartitionRow:
    """Labels of the data set, objects of the stored cells."""
    dataset = work.dataset
    check_label_classes(work.storage, work.taxonomy, dataset.taxonomy)
    with unless_replaced(work.storage, row.partition, row):
        sound = row.model_copy(update={"labels": None})
        partition = Partition.open(work.storage, sound, work.info.provenance)

        def labelled(frame: Frame) -> EncodedFrame:
            label = read_labels(frame, dataset)
            assert label is not None  # it has a path
            return with_labels(partition, frame.token, label, work.taxonomy, frame.labels_path)

        frames, gone = work.of([record for record in row.frames if record.labelled])
        made = (tried(frame, partial(labelled, frame)) for frame in frames)
        encoded, bad = sorted_out(frames, made, work.options.on_error)
        bad += gone
        known = {frame.row.token: frame for frame in encoded} | _sound(work, row, bad)
        skipped = _with(row.skipped, [record for record in bad if record.token not in known])
        bare = [record.model_copy(update={"labelled": False, "objects": 0}) for record in row.frames]
        if not known:
            after = sound.model_copy(update={"frames": tuple(bare), "skipped": tuple(skipped)})
            write_manifest(work.storage, after, row)
            return after
        together = [known.get(one.token) or EncodedFrame(one, partition.encoded(one.token)) for one in bare]
        return write_labels(work.storage, row, together, skipped)


def _repair_features(work: _Work, row: PartitionRow) -> PartitionRow:
    frames, gone = work.of(row.frames)
    with one_thread(), unless_replaced(work.storage, row.partition, row):
        with closing(computed(frames, work.tools, StageTimes(), threads_beside(work.options.device))) as made:
            encoded, bad = sorted_out(frames, made, work.options.on_error)
        bad += gone
        sound = _sound(work, row, bad)
        together = sorted([*encoded, *sound.values()], key=lambda frame: frame.row.index)
        skipped = _with(row.skipped, [record for record in bad if record.token not in sound])
        return write_partition(work.storage, row.partition, row.scene, together, skipped, before=row)


def _sound(work: _Work, row: PartitionRow, bad: Sequence[SkippedRow]) -> dict[str, EncodedFrame]:
    """Frames of a damaged partition that cannot be made anew, and need not be: what is stored of them can be read."""
    found: dict[str, EncodedFrame] = {}
    for record in bad:
        with suppress(CorruptStoreError):
            found |= {frame.row.token: frame for frame in stored_frames(work.storage, row, {record.token})}
    return found


def _with(before: Sequence[SkippedRow], now: Sequence[SkippedRow]) -> list[SkippedRow]:
    tokens = {record.token for record in now}
    return [*(record for record in before if record.token not in tokens), *now]


def _make_again(work: _Work, name: str, lost: Sequence[str]) -> int | None:
    """A partition of which nobody knows the frames: what the data set has from its first frame on, up to the next.

    Until they are computed the store has them as quarantined: who stops here finds them again.

    Returns:
        How many frames were made; None where the first one is in another partition, or none of the data set: what there
        is of the partition stays.
    """
    storage = work.storage
    held = _held(storage)
    known = [frame for frame, of in _by_lost(work.frames, lost) if of == name or frame.token in held]
    first = first_frame_of(name)
    task = next((task for task in plan(known, held, MAX_FRAMES) if first_frame_of(task.name) == first), None)
    if task is None:
        return None  # told by `left`
    tools = work.tools  # before anything is written: they may not be those of the store
    before = _readable(storage, name)
    if before is None:
        storage.delete(manifest_key(name))
        waiting = [SkippedRow(token=frame.token, kind=WAITING, reason="its manifest was lost") for frame in task.frames]
        before = write_partition(storage, name, task.scene, [], waiting)
    with one_thread(), closing(computed(task.frames, tools, StageTimes(), threads_beside(work.options.device))) as made:
        encoded, skipped = sorted_out(task.frames, made, work.options.on_error)
    write_partition(storage, name, task.scene, encoded, skipped, before=before)
    return len(encoded)


def _by_lost(frames: Sequence[Frame], lost: Sequence[str]) -> Iterator[tuple[Frame, str | None]]:
    """Each frame and the lost partition that it was of: the one that began last, if it is of that drive."""
    begun = {first_frame_of(name): name for name in lost}
    current: tuple[str, str] | None = None
    for frame in frames:
        name = begun.get(frame_key(frame.scene, frame.token))
        if name is not None:
            current = frame.scene, name
        yield frame, current[1] if current and current[0] == frame.scene else None


def _readable(storage: Storage, name: str) -> PartitionRow | None:
    try:
        return find_manifest(storage, name)
    except CorruptStoreError:
        return None


def _repair_root(work: _Work, keys: Sequence[str]) -> None:
    """The vocabulary, the codec's state: put back only if the bytes are those that there were.

    Raises:
        CorruptStoreError: they are not.
    """
    made = {VOCABULARY: _vocabulary, CODEC_STATE: _codec_state}
    wanted = {VOCABULARY: work.info.vocabulary_sha256, CODEC_STATE: work.info.provenance.codec_state_sha256}
    for key in keys:
        content = made[key](work)
        if hashlib.sha256(content).hexdigest() != wanted[key]:
            raise CorruptStoreError("cannot be made again as it was", path=work.storage.at(key), remedy=LOST)
        work.storage.put(key, content)


def _vocabulary(work: _Work) -> bytes:
    options = work.options
    encoder = encoder_of(options.encoder, options.weights, options.device, options.upscale)
    return vocabulary_bytes(build_vocabulary(encoder, entries_of(work.taxonomy)))


def _codec_state(work: _Work) -> bytes:
    """Fitted as for a new store, to the same training frames: those of a store that precompute has made."""
    nowhere = work.options.model_copy(update={"out": f"{work.options.out}.new"})  # where nothing is written
    job, _ = prepare(nowhere, work.frames)
    return state_bytes(job.state) or b""


def _held(storage: Storage) -> dict[str, Held]:
    """The frames that manifests name, of those that can be read."""
    held: dict[str, Held] = {}
    for row in (_readable(storage, name) for name in partitions(storage)):
        if row is not None:
            name = row.partition
            held |= {record.token: Held(name, row.scene, None, record) for record in row.skipped}
            held |= {frame.token: Held(name, row.scene, frame) for frame in row.frames}
    return held
