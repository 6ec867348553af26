"""Fewer frames of a store, or the frames of several, as a store: nothing is computed, arrays are copied.

ovps cache subset --cache ./zarr --out ./mini --split val --limit 10
ovps cache merge ./zarr-1 ./zarr-2 --out ./zarr
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache_schemas import FrameRow, PartitionRow
from ovps.cache.codecs.state import read_state
from ovps.cache.disk import LocalStorage
from ovps.cache.manifest import read_manifests
from ovps.cache.partition import Partition
from ovps.cache.reader import Store
from ovps.cache.storage import Storage
from ovps.cache.where import check_place, real_place, storage_of
from ovps.cache.writer import other_settings, stored_frames
from ovps.errors import CacheError, ConfigError, ProvenanceError, listed
from ovps.files import check_writable
from ovps.geometry.same_sweep import rows_correspond, share_points
from ovps.progress import progress
from pipelines.options import FramesOptions, LabelsOptions, MergeOptions, SubsetOptions
from pipelines.precompute.held import Place, other_drive
from pipelines.precompute.plan import partition_name
from pipelines.precompute.task import bytes_of
from pipelines.stores.derived import DerivedSummary, Known, Made, Piece, write_derived
from pipelines.stores.versions import Stored, other_versions, same_version

_DATA = Path("FOLDER-OF-THE-DATA-SET")  # which a store does not know


def subset(options: SubsetOptions) -> DerivedSummary:
    """Copy some frames of a store into a new one, bit for bit.

    Raises:
        ConfigError: a split, scene or frame that the store does not have, or nothing that fits all that was asked for.
        OvpsError: as `write_derived`.
    """
    source = Store.open(options.cache)
    rows = list(read_manifests(source.storage))
    tokens = chosen(options, source)
    pieces = [piece for row in rows if (piece := _piece(source, row, tokens))]
    return _written(options.out, [source], pieces, "subset", rows)


def merge(options: MergeOptions) -> DerivedSummary:
    """Copy the frames of several stores of one provenance into a new one. A frame that several hold is taken once.

    Raises:
        ProvenanceError: they were made with different settings; names both values of each.
        CacheError: two of them hold different versions of a frame.
        OvpsError: as `write_derived`.
    """
    if len(options.caches) < 2:
        raise ConfigError("one store alone cannot be merged", remedy="Name two or more")
    sources = [Store.open(cache) for cache in options.caches]
    places = [real_place(source.storage) for source in sources]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise ConfigError(f"{place} is named twice", remedy="Name each store once")
    first = sources[0]
    for other in sources[1:]:
        _check_alike(first, other)
    out = storage_of(options.out)
    check_place(out)
    if isinstance(out, LocalStorage):
        check_writable(out.root)  # before frames are compared, of which there may be many
    seen: dict[str, _Held] = {}
    pieces, rows = [], []
    for source in sources:
        before = dict(seen)
        own = list(read_manifests(source.storage))
        holds = [held for row in own for held in _of(source, row)]
        differing = _differing(before, holds)
        if differing:
            others = listed({before[held.frame.token].store.path: None for held in differing})
            raise CacheError(
                f"the stores hold different versions of frames ({len(differing)} here), the other ones are in {others}",
                path=source.path,
                frame=differing[0].frame.token,
                remedy=_another_name(differing, before)
                or _with_labels(differing, before)
                or _without(source, {held.scene for held in differing}, before),
            )
        scene = other_drive(_places(before.values()), _places(holds))
        if scene is not None:
            raise CacheError(
                f"scene {scene} has other frames here than in the stores before it, none in common",
                path=source.path,
                remedy="Leave one of them out: they are two drives of one name, or one drive with new tokens",
            )
        new = {held.frame.token for held in holds if seen.setdefault(held.frame.token, held) is held}
        for row in own:
            rows.append(row)
            piece = _piece(source, row, new)
            if piece:
                pieces.append(piece)
    return _written(options.out, sources, pieces, "merge", rows)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces of one name as one: a partition may be named after a frame that it has quarantined, and another holds."""
    by_name: dict[str, list[Piece]] = {}
    for piece in pieces:
        by_name.setdefault(piece.name, []).append(piece)
    held = {frame.token for parts in by_name.values() for part in parts for frame in part.frames}
    return [_union(parts, held) for parts in by_name.values()]


def _union(parts: Sequence[Piece], held: Collection[str]) -> Piece:
    def make() -> Made:
        made = [part.make() for part in parts]
        skipped = {record.token: record for one in made for record in one.skipped if record.token not in held}
        frames = (frame for one in made for frame in one.frames)
        return Made(sorted(frames, key=lambda frame: frame.row.index), tuple(skipped.values()))

    def changed(out: Storage, there: PartitionRow) -> list[str]:
        return [token for part in parts for token in part.changed(out, there)]

    frames = sorted((frame for part in parts for frame in part.frames), key=lambda frame: frame.index)
    return replace(parts[0], frames=tuple(frames), make=make, changed=changed)


def _with_labels(differing: Sequence[_Held], before: Mapping[str, _Held]) -> str | None:
    """How to merge stores of which one has labels that the other lacks; None if frames differ otherwise."""
    pairs = [(before[held.frame.token], held) for held in differing]
    if any(one.frame.labelled == other.frame.labelled for one, other in pairs):
        return None
    bare = dict.fromkeys((other if one.frame.labelled else one).store.path for one, other in pairs)
    add = [f"`{LabelsOptions(path=path, dataroot=_DATA).command_line()}`" for path in bare]
    return f"Frames of {listed(bare)} have no labels there, and have some elsewhere: add them with {' and '.join(add)}"


def _another_name(differing: Sequence[_Held], before: Mapping[str, _Held]) -> str | None:
    """What to do about two drives whose scenes and frames are called the same; None where it is one drive."""
    first = differing[0]
    clouds = before[first.frame.token].xyz(), first.xyz()
    if rows_correspond(*clouds) or share_points(*clouds):
        return None
    return (
        f"Give scene {first.scene} another name in one of the data sets (the folder of a recording), and precompute"
        " that one into a new store: they are sweeps of two drives"
    )


def _without(source: Store, differing: Collection[str], elsewhere: Collection[str]) -> str:
    """How to merge a store without the frames that other stores hold in another version.

    Args:
        differing: scenes that such frames are in.
        elsewhere: tokens of the frames that the others hold.
    """
    copy = f"{source.path.rstrip('/')}-rest"
    scenes = sorted({ref.scene for ref in source.frames} - set(differing))
    if scenes:
        subset = SubsetOptions(cache=source.path, scenes=tuple(scenes), out=copy)
        return f"Take the other scenes of this store, and merge that instead: `{subset.command_line()}`"
    tokens = [ref.token for ref in source.frames if ref.token not in elsewhere]
    if tokens:
        subset = SubsetOptions(cache=source.path, only=tuple(tokens), out=copy)
        return f"Take its other frames, and merge that instead: `{subset.command_line()}`"
    return "Leave this store out: the others hold all its frames"


@dataclass(frozen=True, eq=False)
class _Held:
    """A frame where it is held."""

    store: Store
    partition: Stored
    frame: FrameRow

    @property
    def scene(self) -> str:
        return self.partition.row.scene

    def xyz(self) -> NDArray[np.float32]:
        """Read its points (N, 3) float32, metres."""
        opened = Partition.open(self.store.storage, self.partition.row, self.store.provenance)
        return opened.points(self.frame.token)[0]


def _of(source: Store, row: PartitionRow) -> list[_Held]:
    partition = Stored(source.storage, row)
    return [_Held(source, partition, frame) for frame in row.frames]


def _places(held: Iterable[_Held]) -> list[Place]:
    return [(one.scene, one.frame.index, one.frame.token) for one in held]


def _differing(known: Mapping[str, _Held], holds: Sequence[_Held]) -> list[_Held]:
    """Those of a store's frames of which one before it holds another version."""
    both = [held for held in holds if held.frame.token in known]
    if not both:
        return []
    found = []
    with progress("compare", "frames", len(both)) as counter:
        for held in both:
            if not _same_frame(known, held):
                found.append(held)
            counter.advance()
    return found


def _same_frame(known: Mapping[str, _Held], other: _Held) -> bool:
    """Tell whether a store holds the same of a frame as one before it."""
    one = known[other.frame.token]
    return (
        one.scene == other.scene
        and one.frame.labelled == other.frame.labelled
        and same_version(one.partition, other.partition, other.frame.token)
    )


def chosen(options: FramesOptions, source: Store) -> set[str]:
    """Tokens of the frames of a store that are asked for.

    Raises:
        ConfigError: a split, scene or frame that it does not have, or nothing that fits all that was asked for.
        CorruptStoreError: it has no frame at all, because manifests are lost.
    """
    source.frames_of(None)  # or tell why there is none
    check_known("split", options.subsets, {ref.subset for ref in source.frames}, source)
    check_known("scene", options.scenes, {ref.scene for ref in source.frames}, source)
    check_known("frame", options.only, {ref.token for ref in source.frames}, source)
    count: Counter[str] = Counter()
    tokens = set()
    for ref in source.frames:
        wanted = all(
            not asked or value in asked
            for asked, value in (
                (options.subsets, ref.subset),
                (options.scenes, ref.scene),
                (options.only, ref.token),
            )
        )
        if wanted and (options.limit is None or count[ref.subset] < options.limit):
            count[ref.subset] += 1
            tokens.add(ref.token)
    if not tokens:
        raise ConfigError(
            "no frame fits all that was asked for",
            path=source.path,
            remedy="Ask for less: `ovps cache info` lists them",
        )
    return tokens


def check_known(what: str, asked: Iterable[str], there: Collection[str], source: Store) -> None:
    """Raise ConfigError for the first of some names that a store does not have.

    Args:
        what: they name, for people.
        there: the names that it has.
    """
    for name in asked:
        if name not in there:
            raise ConfigError(
                f"no {what} {name!r} in the store",
                path=source.path,
                remedy=f"There are {len(there)}: {listed(sorted(there))}",
            )


def _piece(source: Store, row: PartitionRow, tokens: Collection[str]) -> Piece | None:
    """What is to be copied of a partition, named after the first frame of it; None if that is nothing."""
    frames = tuple(frame for frame in row.frames if frame.token in tokens)
    if not frames:
        return None
    whole = len(frames) == len(row.frames)

    def make() -> Made:
        return Made(stored_frames(source.storage, row, tokens), row.skipped if whole else ())

    def changed(out: Storage, there: PartitionRow) -> list[str]:
        return other_versions(Stored(source.storage, row), Stored(out, there), [frame.token for frame in frames])

    name = row.partition if whole else partition_name(row.scene, frames[0].index, frames[0].token)
    return Piece(name, row.scene, tuple(map(Known.of, frames)), make, changed)


def _check_alike(first: Store, other: Store) -> None:
    if differing := other_settings(first.provenance, other.provenance, "here"):
        remedy = (
            "Leave it out, or make one of the two anew as the other was, where a codec was fitted with"
            " `ovps cache convert --like` or `ovps precompute --like`"
        )
        if first.provenance.converted_from != other.provenance.converted_from:
            remedy = "What another codec has lost does not come back: leave it out"
        raise ProvenanceError(
            f"made with other settings than {first.path}: {'; '.join(differing)}",
            path=other.path,
            remedy=remedy,
        )
    if first.info.vocabulary_sha256 != other.info.vocabulary_sha256:
        raise ProvenanceError(
            f"its vocabulary differs from that of {first.path}",
            path=other.path,
            remedy="Make both with the same version of the encoder",
        )


def _written(
    out: str, sources: list[Store], pieces: list[Piece], name: str, rows: list[PartitionRow]
) -> DerivedSummary:
    first = sources[0]
    return write_derived(
        out,
        [source.storage for source in sources],
        first.provenance,
        first.taxonomy,
        first.vocabulary,
        read_state(first.storage, first.provenance),
        _joined(pieces),
        name=name,
        bytes_before=sum(map(bytes_of, rows)),
    )
