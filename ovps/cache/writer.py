"""Writing a store: one partition at a time, committed by its manifest."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType

import numpy as np

from cache_schemas import (
    SCHEMA_VERSION,
    Array,
    FolderRow,
    FrameRow,
    Part,
    PartitionRow,
    Provenance,
    SkippedRow,
    StoreInfo,
    check_arrays,
    content_sha256,
    dims_of,
)
from ovps.cache import codecs
from ovps.cache.codecs.protocol import (
    Arrays,
    Codec,
    Encoded,
    State,
    VoxelFeatures,
    check_lossless,
    codec_error,
    encoded,
)
from ovps.cache.codecs.state import state_bytes
from ovps.cache.folder import SETTINGS, Rows, write_folder
from ovps.cache.frame_arrays import arrays_of, arrays_of_frame, row_of
from ovps.cache.frame_data import CachedFrame
from ovps.cache.layout import (
    CODEC_STATE,
    INFO,
    INFO_SHA256,
    LOCK,
    MANIFESTS,
    PARTITIONS,
    VOCABULARY,
    new_folder,
    partition_key,
)
from ovps.cache.manifest import find_manifest, read_manifests, write_manifest
from ovps.cache.partition import Partition, of_other_settings
from ovps.cache.remedies import maker_of
from ovps.cache.storage import SAME_COMMAND, Storage
from ovps.cache.store_info import read_info
from ovps.errors import CacheError, CorruptStoreError, ProvenanceError, StorageError, listed
from ovps.files import TEMPORARY
from ovps.taxonomy import Taxonomy
from ovps.vocabulary import Vocabulary, vocabulary_bytes

NO_STATE: State = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """A frame in the form it is stored in."""

    row: FrameRow
    arrays: Arrays


def create_store(
    storage: Storage, provenance: Provenance, taxonomy: Taxonomy, vocabulary: Vocabulary, state: State = NO_STATE
) -> StoreInfo:
    """Make an empty store, or check that the one that is there may be added to.

    A store that has lost `store.json` gets the same again.

    Args:
        provenance: names the others by their hashes.
        vocabulary: of the classes of the taxonomy.
        state: of the codec, see `Codec.fit`.

    Raises:
        ProvenanceError: the store was made with other settings; names both values of each, if they are known.
        CacheError: the store is of another schema version.
        StorageError: the disk refuses.
    """
    if is_store(storage):
        return check_provenance(storage, provenance)
    _check_ours(storage)
    if of_other_settings(storage, read_manifests(storage), provenance):
        raise ProvenanceError(
            f"{INFO} is missing, and the partitions that are there were made with other settings than these",
            path=storage.at(INFO),
            remedy=f"Restore it, or {SAME_COMMAND}; or choose another place for the store",
        )
    names = vocabulary_bytes(vocabulary)
    fitted = state_bytes(state)
    _put_first(storage, VOCABULARY, names)
    if fitted is not None:
        _put_first(storage, CODEC_STATE, fitted)
    info = StoreInfo(
        schema_version=SCHEMA_VERSION,
        provenance=provenance,
        taxonomy=taxonomy.model_dump(mode="json"),
        vocabulary_sha256=sha256(names).hexdigest(),
    )
    content = info.model_dump(mode="json")
    stated = json.dumps(content | {INFO_SHA256: content_sha256(content)}, indent=2, ensure_ascii=False) + "\n"
    if not storage.replace(INFO, stated.encode(), lambda there: there is None):
        return check_provenance(storage, provenance)  # another run has just made it
    return info


def _put_first(storage: Storage, key: str, content: bytes) -> None:
    """Put what belongs to a store that is not there yet.

    Raises:
        CacheError: another run that is making one here has put something else.
    """
    if not storage.replace(key, content, lambda there: there in (None, content)):
        raise CacheError(
            "another run with other settings is making a store here, or was stopped while it did",
            path=storage.at(key),
            remedy="Let it finish; if there is none, delete this file and run the same command again",
        )


def is_store(storage: Storage) -> bool:
    """Tell whether a store has been made here, complete or not."""
    return INFO in storage.children()


def check_provenance(storage: Storage, provenance: Provenance) -> StoreInfo:
    """Check that a store may be added to.

    Raises:
        ProvenanceError: it was made with other settings; names both values of each.
        CacheError: it is of another schema version.
    """
    info = read_info(storage)
    differing = other_settings(info.provenance, provenance)
    if differing:
        remedy = "Choose another place for the store, or the settings of this one"
        if info.provenance.converted_from != provenance.converted_from:
            remedy = (
                "What another codec has lost does not come back: go on in another place, or with what it was made of"
            )
        elif maker_of(info.provenance) != maker_of(provenance):
            remedy = f"Go on in another place: what is there is of `{maker_of(info.provenance)}`"
        raise ProvenanceError(
            f"the store was made with other settings: {'; '.join(differing)}", path=storage.at(), remedy=remedy
        )
    return info


def other_settings(there: Provenance, other: Provenance, other_is: str = "now") -> list[str]:
    """List the settings in which two provenances differ, each with both values: stores mix only if in none."""
    pairs = {name: (value, getattr(other, name)) for name, value in there}
    return [f"{name} {a!r} there, {b!r} {other_is}" for name, (a, b) in pairs.items() if a != b]


def check_label_classes(storage: Storage, there: Taxonomy, now: Taxonomy) -> None:
    """Check that a store may take labels of a data set as that is now.

    Args:
        there: the store's taxonomy.
        now: the data set's.

    Raises:
        ProvenanceError: raw labels mean other classes.
    """
    if not there.reads_labels_as(now):
        raise ProvenanceError(
            f"the taxonomy of the data set, {now.name}, reads labels otherwise than that of the store, {there.name}",
            path=storage.at(),
            remedy="Put the taxonomy back as it was, or precompute into a new folder",
        )


def _check_ours(storage: Storage) -> None:
    """A folder that holds anything else is none to make a store in."""
    ours = {VOCABULARY, CODEC_STATE, LOCK, MANIFESTS, PARTITIONS}
    others = [name for name in storage.children() if name not in ours and not name.startswith(TEMPORARY)]
    if others:
        raise CacheError(
            f"the folder is no store and holds other things: {listed(others)}",
            path=storage.at(),
            remedy="Give a new or empty folder",
        )


def encode_frame(
    frame: CachedFrame,
    features: VoxelFeatures,
    codec: Codec,
    state: State = NO_STATE,
    thumbnails: Sequence[bytes] = (),
    *,
    clip: Encoded | None = None,
) -> EncodedFrame:
    """Bring a frame into the form it is stored in.

    Args:
        frame: its `clip` is not looked at.
        features: what is stored in place of it.
        state: of the codec, see `Codec.fit`.
        thumbnails: encoded images of its cameras, as long as the cameras say; none: they say 0.
        clip: the features as the codec encodes them, where that has been done.

    Raises:
        FrameError: the codec makes other arrays than it says, none that can be read back, or loses what it says it
            does not.
    """
    clip = encoded(codec, features, state) if clip is None else clip
    error = codec_error(clip.stored, features)
    check_lossless(codec, error, features)
    row = row_of(frame, max_error=error.largest, mean_error=error.mean)
    pictures = np.frombuffer(b"".join(thumbnails), np.uint8)
    return EncodedFrame(row, arrays_of_frame(frame) | {"thumbnails/bytes": pictures} | clip.arrays)


def stored_frames(storage: Storage, row: PartitionRow, tokens: Container[str]) -> list[EncodedFrame]:
    """Some frames of a partition in the form they are stored in, to be written again.

    Raises:
        CorruptStoreError: bytes that are not those that were written.
    """
    frames = [frame for frame in row.frames if frame.token in tokens]
    if not frames:
        return []
    partition = Partition.open(storage, row, read_info(storage).provenance)
    return [EncodedFrame(frame, partition.encoded(frame.token)) for frame in frames]


def write_partition(
    storage: Storage,
    name: str,
    scene: str,
    frames: Sequence[EncodedFrame],
    skipped: Sequence[SkippedRow] = (),
    *,
    before: PartitionRow | None = None,
) -> PartitionRow:
    """Write and commit one partition, in place of one of that name. Until it is committed nobody sees it.

    Args:
        name: of the partition.
        frames: at least one frame, or none if all are in `skipped`.
        before: the partition as it is, and as it was when `frames` were computed; None: there is none.

    Raises:
        StorageError: the disk refuses; the store is as it was, unless it refused when the commit was done.
        CorruptStoreError: a partition of that name has a manifest that cannot be read.
        CacheError: another run has committed the partition meanwhile; the store is as that run left it.
    """
    provenance = read_info(storage).provenance
    old = _folders_of(storage, name)
    labelled = any(frame.row.labelled for frame in frames)
    folders = {part: new_folder(name) for part in (*(("labels",) if labelled else ()), "features")}
    try:
        written = {part: _write_part(storage, folder, part, frames, provenance) for part, folder in folders.items()}
        row = PartitionRow(
            partition=name,
            scene=scene,
            features=written["features"],
            labels=written.get("labels"),
            frames=tuple(f.row for f in frames),
            skipped=tuple(skipped),
        )
        write_manifest(storage, row, before)
    finally:
        _remove_unnamed(storage, name, {*old, *folders.values()})
    return row


def write_labels(
    storage: Storage, before: PartitionRow, frames: Sequence[EncodedFrame], skipped: Sequence[SkippedRow]
) -> PartitionRow:
    """Commit other labels of a partition; its features stay where they are.

    Args:
        before: the partition as it is.
        frames: all of its frames, in their order, some of them labelled.

    Raises:
        StorageError: the disk refuses; the store is as it was, unless it refused when the commit was done.
        CacheError: another run has committed the partition meanwhile; the store is as that run left it.
    """
    folder = new_folder(before.partition)
    old = _folders_of(storage, before.partition)
    try:
        labels = _write_part(storage, folder, "labels", frames, read_info(storage).provenance)
        row = PartitionRow(
            partition=before.partition,
            scene=before.scene,
            features=before.features,
            labels=labels,
            frames=tuple(frame.row for frame in frames),
            skipped=tuple(skipped),
        )
        write_manifest(storage, row, before)
    finally:
        _remove_unnamed(storage, before.partition, {*old, folder})
    return row


def _remove_unnamed(storage: Storage, partition: str, folders: set[str]) -> None:
    """Of these folders of a partition, delete those that its manifest does not name now.

    What it names decides, not how far the writer came: a disk may refuse after the commit. Folders that stay because
    the disk does not let go of them are leftovers.
    """
    with suppress(CorruptStoreError, StorageError, OSError):
        for folder in folders - _folders_of(storage, partition):
            storage.delete(partition_key(folder))


def _folders_of(storage: Storage, partition: str) -> set[str]:
    """The folders that the manifest of a partition names; none where there is no manifest."""
    row = find_manifest(storage, partition)
    return {part.folder for part in row.parts.values()} if row else set()


def _write_part(
    storage: Storage, folder: str, part: Part, frames: Sequence[EncodedFrame], provenance: Provenance
) -> FolderRow:
    specs = arrays_of(part, codecs.get(provenance.codec), provenance)
    arrays = _joined(frames, specs, provenance.clip_dim) if frames else {}
    attributes = {"ovps_schema_version": SCHEMA_VERSION, "part": part, "codec": provenance.codec}
    attributes[SETTINGS] = provenance.sha256()
    return write_folder(storage, folder, arrays, attributes, _dimension_names(specs))


def _dimension_names(specs: Sequence[Array]) -> dict[str, tuple[str, ...]]:
    """Names of the dimensions of the arrays and of their offsets; a plain number has the name of its size."""
    names = {spec.name: tuple(f"size_{dim}" if isinstance(dim, int) else dim for dim in spec.dims) for spec in specs}
    return names | {f"offsets/{dim}": (f"{dim}_bounds",) for dim in dims_of(specs)}


def _joined(frames: Sequence[EncodedFrame], specs: Sequence[Array], clip_dim: int) -> dict[str, np.ndarray | Rows]:
    """The arrays of a folder: those of its frames one after another, and the offsets."""
    lengths = {dim: [_length(frame, dim, specs) for frame in frames] for dim in dims_of(specs)}
    arrays: dict[str, np.ndarray | Rows] = {}
    for spec in specs:
        counts = lengths[str(spec.dims[0])]
        rows = [_array_of(f, spec, count, clip_dim) for f, count in zip(frames, counts, strict=True)]
        wrong = next((f.row.token for f, a, n in zip(frames, rows, counts, strict=True) if len(a) != n), None)
        if wrong is not None:
            raise ValueError(f"{spec.name} of frame {wrong} is not as long as the others of dimension {spec.dims[0]}")
        arrays[spec.name] = Rows(rows)
    for dim, counts in lengths.items():
        arrays[f"offsets/{dim}"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    check_arrays(arrays, specs, clip_dim=clip_dim)
    return arrays


def _length(frame: EncodedFrame, dim: str, specs: Sequence[Array]) -> int:
    if dim in ("points", "voxels"):
        return int(getattr(frame.row, dim))
    return next((len(frame.arrays[s.name]) for s in specs if s.dims[0] == dim and s.name in frame.arrays), 0)


def _array_of(frame: EncodedFrame, spec: Array, length: int, clip_dim: int) -> np.ndarray:
    if spec.part == "labels" and not frame.row.labelled:  # beside labelled frames; its row says that it has none
        return np.zeros((length, *(clip_dim if dim == "C" else int(dim) for dim in spec.dims[1:])), spec.dtype)
    return frame.arrays[spec.name]
