"""Writing a store that is made of others: partition by partition, each a commit; the same command again goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pydantic import BaseModel

from cache_schemas import FrameRow, PartitionRow, Provenance, SkippedRow
from ovps.cache.codecs.protocol import State
from ovps.cache.info import feature_warnings
from ovps.cache.layout import manifest_key
from ovps.cache.leftovers import lost_warnings, remove_leftovers
from ovps.cache.manifest import find_manifest, read_manifests
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.cache.where import Where, check_place, real_place, storage_of
from ovps.cache.writer import EncodedFrame, create_store, stored_frames, write_partition
from ovps.errors import CacheError, ConfigError, counted
from ovps.interrupt import kept
from ovps.progress import progress
from ovps.taxonomy import Taxonomy
from ovps.vocabulary import Vocabulary
from pipelines.precompute.task import bytes_of


class DerivedSummary(BaseModel, frozen=True):
    """Summary of a command that makes a store of others.

    Attributes:
        partitions: of the new store.
        frames: of it.
        frames_before: of them, there already, from the same command before.
        quarantined: that it does not have, or not with their labels, and why.
        voxels: of them; valid_voxels: those that have a CLIP feature.
        bytes: of all files of all partitions.
        bytes_before: of the stores that it was made of.
        warnings: of frames that these have lost, and of the features of the new one.
    """

    out: str
    codec: str
    partitions: int
    frames: int
    frames_before: int
    quarantined: tuple[SkippedRow, ...]
    voxels: int
    valid_voxels: int
    bytes: int
    bytes_before: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """A frame's token and place: they tell frames of a store apart, and from what they were before."""

    token: str
    subset: str
    index: int
    labelled: bool

    @classmethod
    def of(cls, row: FrameRow) -> Known:
        return cls(row.token, row.subset, row.index, row.labelled)


class Made(NamedTuple):
    """Frames of a partition in the form they are stored in, and those that it cannot have, with the reason."""

    frames: Sequence[EncodedFrame]
    skipped: Sequence[SkippedRow] = ()


@dataclass(frozen=True, eq=False)
class Piece:
    """A partition to write.

    Attributes:
        frames: what is known of its frames beforehand.
        make: the same frames as they are stored; called when their turn comes.
        changed: tokens of frames that a run before has committed in this partition of the new store, and that are not
            those that would be written now; it has one frame at least.
    """

    name: str
    scene: str
    frames: tuple[Known, ...]
    make: Callable[[], Made]
    changed: Callable[[Storage, PartitionRow], Sequence[str]]


def write_derived(
    out: Where,
    sources: Sequence[Storage],
    provenance: Provenance,
    taxonomy: Taxonomy,
    vocabulary: Vocabulary,
    state: State,
    pieces: Sequence[Piece],
    *,
    name: str,
    bytes_before: int,
) -> DerivedSummary:
    """Write pieces as a store of its own; what a run before has committed stays.

    But for partitions that lack something which there is now: frames that they have quarantined, or labels.

    Args:
        sources: none of which may be `out`.
        name: of the work, for people.
        bytes_before: see `DerivedSummary`.

    Raises:
        ConfigError: `out` is one of the sources, or among the files of something else.
        ProvenanceError, CacheError: there is a store already, of other settings, frames or versions of them.
        CorruptStoreError: a source is damaged; partitions before are committed.
        StorageError: the disk refuses; each partition is not there, or whole.
    """
    assert len({piece.name for piece in pieces}) == len(pieces), "one would be written over another"
    storage = storage_of(out)
    if real_place(storage) in map(real_place, sources):
        raise ConfigError("a store cannot be written onto itself", path=storage.at(), remedy="Give another --out")
    check_place(storage)
    with storage.exclusive():
        create_store(storage, provenance, taxonomy, vocabulary, state)
        remove_leftovers(storage)
        _check_no_more(storage, pieces)
        before = {piece.name: find_manifest(storage, piece.name) for piece in pieces}
        for piece in pieces:
            _check_same(storage, piece, before[piece.name])
        _check_source(storage, pieces, before)
        frames = sum(len(piece.frames) for piece in pieces)
        whole = {piece.name for piece in pieces if _holds_all(piece, before[piece.name])}
        rows = [row for row in before.values() if row and row.partition in whole]
        done = sum(len(row.frames) for row in rows)
        with (
            kept(lambda: f"{sum(len(row.frames) for row in rows)} of {frames} frames are in {storage.at()} and stay"),
            progress(name, "frames", frames, done=done) as counter,
        ):
            for piece in pieces:
                if piece.name not in whole:
                    rows.append(_written(storage, piece, before[piece.name]))
                    for _ in piece.frames:
                        counter.advance()
        remove_leftovers(storage)  # of partitions that were made anew
    written = [frame for row in rows for frame in row.frames]
    lost = (text for source in sources for text in lost_warnings(source, read_info(source)))
    return DerivedSummary(
        out=storage.at(),
        codec=provenance.codec,
        partitions=len(rows),
        frames=len(written),
        frames_before=done,
        quarantined=tuple(record for row in rows for record in row.skipped),
        voxels=sum(frame.voxels for frame in written),
        valid_voxels=sum(frame.valid_voxels for frame in written),
        bytes=sum(map(bytes_of, rows)),
        bytes_before=bytes_before,
        warnings=(*lost, *feature_warnings(written, provenance)),
    )


def _written(storage: Storage, piece: Piece, there: PartitionRow | None) -> PartitionRow:
    """The partition, which keeps frames that it has and that cannot be made any more."""
    frames, skipped = piece.make()
    lacking = {record.token for record in skipped} - {frame.row.token for frame in frames}
    kept_as_is = stored_frames(storage, there, lacking) if there is not None else []
    together = sorted([*frames, *kept_as_is], key=lambda frame: frame.row.index)
    return write_partition(storage, piece.name, piece.scene, together, skipped, before=there)


def _check_no_more(storage: Storage, pieces: Sequence[Piece]) -> None:
    """What is there besides would be in the new store, too.

    Raises:
        CacheError: a partition that is none of the pieces.
    """
    wanted = {piece.name for piece in pieces}
    more = sum(len(row.frames) for row in read_manifests(storage) if row.partition not in wanted)
    if more:
        raise CacheError(
            f"the store there holds {more} other frames than would be written",
            path=storage.at(),
            remedy="Give a new folder as --out, or delete this one",
        )


def _check_source(storage: Storage, pieces: Sequence[Piece], before: Mapping[str, PartitionRow | None]) -> None:
    """Check what is there of each piece: a command before may have made it of something else.

    Raises:
        CacheError: features or labels were made anew since, or are of something else altogether.
    """
    manifests, changed = [], list[str]()
    both = [(piece, there) for piece in pieces if (there := before[piece.name]) is not None and there.frames]
    if not both:
        return
    with progress("compare", "partitions", len(both)) as counter:
        for piece, there in both:
            if tokens := piece.changed(storage, there):
                manifests.append(storage.at(manifest_key(piece.name)))
                changed += tokens
            counter.advance()
    if changed:
        these = "this partition" if len(manifests) == 1 else "these partitions"
        raise CacheError(
            f"the store there has other features, labels, poses or cameras of {counted(len(changed), 'frame')} than"
            " would be written now",
            path=storage.at(),
            frame=changed[0],
            remedy=f"Give a new folder as --out, or delete {' and '.join(manifests)} to have {these} made anew",
        )


def _check_same(storage: Storage, piece: Piece, there: PartitionRow | None) -> None:
    """What is there is of the same command before, if for less: without quarantined frames, or without labels.

    Raises:
        CacheError: it holds other frames.
    """
    if there is None:
        return
    held = {frame.token: Known.of(frame) for frame in there.frames}
    quarantined = {record.token for record in there.skipped}
    expected = [
        held[frame.token] if held.get(frame.token) == replace(frame, labelled=False) else frame
        for frame in piece.frames
        if frame.token in held or frame.token not in quarantined
    ]
    if list(held.values()) != expected:
        raise CacheError(
            f"partition {piece.name} holds other frames, or other labels, than would be written",
            path=storage.at(),
            remedy="Give a new folder as --out, or delete this one",
        )


def _holds_all(piece: Piece, there: PartitionRow | None) -> bool:
    return there is not None and tuple(map(Known.of, there.frames)) == piece.frames
