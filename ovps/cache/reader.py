"""Reading a store. Safe to pickle: files are opened where and when a frame is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cache_schemas import PartitionRow, Provenance, StoreInfo
from ovps.cache.cameras import camera_of, decode_thumbnail, resized
from ovps.cache.codecs.protocol import Arrays, VoxelFeatures
from ovps.cache.frame_data import CachedFrame, FrameRef
from ovps.cache.layout import INFO, VOCABULARY
from ovps.cache.leftovers import lost_partitions, lost_warnings
from ovps.cache.manifest import read_manifest, read_manifests
from ovps.cache.object_embeddings import Objects
from ovps.cache.partition import Partition
from ovps.cache.remedies import again_lost
from ovps.cache.storage import LOST, Storage
from ovps.cache.store_info import read_info
from ovps.cache.where import Where, storage_of
from ovps.errors import CacheError, ConfigError, CorruptStoreError, command, counted, faults_of
from ovps.frame import Camera
from ovps.protocols import described
from ovps.taxonomy import Taxonomy
from ovps.versions import WROTE_IT, only_unknown
from ovps.vocabulary import Vocabulary, parse_vocabulary

T = TypeVar("T")
_ONE = "Give one of `frames` of the store, for example `next(ref for ref in store.frames if ref.token == token)`"


@dataclass(eq=False)
class Store:
    """A store and its committed frames.

    Attributes:
        storage: where it lies.
        info: version and provenance.
        frames: sorted by scene, then index.
    """

    storage: Storage
    info: StoreInfo
    frames: tuple[FrameRef, ...]

    def __post_init__(self) -> None:
        self._open: dict[str, Partition] = {}

    @classmethod
    def open(cls, path: Where) -> Store:
        """Read the manifests of a folder or URL; no array is touched.

        Raises:
            CacheError: no store, or of another version.
            CorruptStoreError: a manifest that cannot be read.
        """
        storage = storage_of(path)
        info = read_info(storage)
        refs = [ref for row in read_manifests(storage) for ref in _refs(row)]
        return cls(storage, info, tuple(sorted(refs, key=lambda ref: (ref.scene, ref.index))))

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "info": self.info, "frames": self.frames}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open = {}

    def frames_of(
        self, subsets: Collection[str] | None, remedy: str = "Name one of these, or precompute the missing frames"
    ) -> list[FrameRef]:
        """List the frames of some splits of the data set, in the store's order.

        Args:
            subsets: names of the splits; None: all frames.
            remedy: for a store that has other splits.

        Raises:
            ConfigError: there are none of one of them.
            CorruptStoreError: there is no frame at all, because manifests are lost.
        """
        found = [ref for ref in self.frames if subsets is None or ref.subset in subsets]
        there = sorted({ref.subset for ref in self.frames})
        lacking = [name for name in dict.fromkeys(subsets or ()) if name not in there]
        if found and not lacking:
            return found
        lost = lost_partitions(self.storage, self.info)
        if there and subsets:
            also = f", and {counted(len(lost), 'partition')} without a manifest, as {next(iter(lost))}" if lost else ""
            verify = command("ovps", "cache", "verify", self.path)
            raise ConfigError(
                f"the store has no frames of {', '.join(lacking)}; it has {', '.join(there)}{also}",
                path=self.path,
                remedy=f"{remedy}. `{verify}` tells of what was lost" if lost else remedy,
            )
        if lost:
            raise CorruptStoreError(
                f"the store has no frame, because manifests are lost, as that of partition {next(iter(lost))}",
                path=self.path,
                remedy=f"Restore them, or {again_lost(self.storage, self.provenance)}",
            )
        raise ConfigError("the store holds no frame yet", path=self.path, remedy="Run `ovps precompute` first")

    def warnings(self) -> tuple[str, ...]:
        """Warn of frames that nobody can read, because manifests are lost."""
        return lost_warnings(self.storage, self.info)

    @cached_property
    def _partitions(self) -> frozenset[str]:
        """Names of those that have frames."""
        return frozenset(ref.partition for ref in self.frames)

    @property
    def path(self) -> str:
        """Folder or URL."""
        return self.storage.at()

    @property
    def provenance(self) -> Provenance:
        return self.info.provenance

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The classes of the data set, as they were when the store was made.

        Raises:
            CorruptStoreError: it is none.
            CacheError: it is of another version.
        """
        try:
            return Taxonomy.model_validate(self.info.taxonomy)
        except ValidationError as error:
            file = self.storage.at(INFO)
            if unknown := only_unknown(error):
                raise CacheError(f"the taxonomy: {unknown}", path=file, remedy=WROTE_IT) from error
            raise CorruptStoreError(f"not a taxonomy: {faults_of(error)}", path=file, remedy=LOST) from error

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The data set's own classes.

        Raises:
            CorruptStoreError: not the bytes that were written.
        """
        file = self.storage.at(VOCABULARY)
        content = None
        with suppress(OSError):
            content = self.storage.get(VOCABULARY)
        if content is None or hashlib.sha256(content).hexdigest() != self.info.vocabulary_sha256:
            raise CorruptStoreError("not the vocabulary that was written", path=file, remedy=LOST)
        return parse_vocabulary(content, file)

    def read(self, ref: FrameRef) -> CachedFrame:
        """Read one frame, also if its partition has been replaced since the store was opened.

        Raises:
            CorruptStoreError: a file that is missing, of another size, or whose checksum is wrong.
            CacheError: the store does not hold the frame any more.
            ConfigError: `ref` is none of `frames`.
        """
        return self._of(ref, lambda partition: partition.read(ref.token))

    def factors(self, ref: FrameRef) -> tuple[Arrays, VoxelFeatures]:
        """The points, voxels and labels of one frame as they are stored, and its features as cells and their weights.

        Raises:
            CorruptStoreError, CacheError, ConfigError: as `read` does.
        """
        return self._of(ref, lambda partition: partition.factors(ref.token))

    def points(self, ref: FrameRef) -> NDArray[np.float32]:
        """The points of one frame, (N, 3) metres in the LiDAR frame, quicker than the whole frame.

        Raises:
            CorruptStoreError, CacheError, ConfigError: as `read` does.
        """
        return self._of(ref, lambda partition: partition.points(ref.token)[0])

    def objects(self, ref: FrameRef) -> Objects:
        """The labelled segments of one frame and their embeddings, quicker than the whole frame.

        Raises:
            CorruptStoreError, CacheError, ConfigError: as `read` does.
        """
        return self._of(ref, lambda partition: partition.objects(ref.token))

    def cameras(self, ref: FrameRef, dataroot: Path | None = None) -> tuple[Camera, ...]:
        """The cameras of a frame, of the images as they were; image paths are relative unless a data root is given.

        Raises:
            CorruptStoreError, CacheError, ConfigError: as `read` does.
        """
        rows = self._of(ref, lambda partition: partition.row.frames[partition.positions[ref.token]].cameras)
        return tuple(camera_of(row, dataroot) for row in rows)

    def pictures(self, ref: FrameRef) -> list[tuple[Camera, NDArray[np.uint8]]]:
        """The thumbnails (H, W, 3) uint8 of a frame, each with its camera at that size; none if it has none.

        Raises:
            CorruptStoreError, CacheError, ConfigError: as `read` does.
        """
        contents = self._of(ref, lambda partition: partition.thumbnails(ref.token))
        images = [decode_thumbnail(content) if content else None for content in contents]
        return [
            (resized(camera, image.shape[1], image.shape[0]), image)
            for camera, image in zip(self.cameras(ref), images, strict=True)
            if image is not None
        ]

    def _of(self, ref: FrameRef, look: Callable[[Partition], T]) -> T:
        """What `look` finds in the partition of a frame, as it is now if it has been replaced.

        Raises:
            ConfigError: no frame of this store.
        """
        if not isinstance(ref, FrameRef):
            raise ConfigError(f"`ref` is {described(ref)}", remedy=_ONE)
        if ref.partition not in self._partitions:
            raise ConfigError("a frame of another store", path=self.path, frame=ref.token, remedy=_ONE)
        opened = self._open.get(ref.partition)
        row = opened.row if opened else read_manifest(self.storage, ref.partition)
        while True:
            try:
                if opened is None:
                    opened = self._open[ref.partition] = Partition.open(self.storage, row, self.provenance)
                if ref.token not in opened.positions:
                    raise CacheError(
                        f"partition {ref.partition} does not hold the frame any more",
                        path=self.path,
                        frame=ref.token,
                        remedy="Start the command again: it sees the store as it is now",
                    )
                return look(opened)
            except CorruptStoreError:
                now = read_manifest(self.storage, ref.partition)
                if now.parts == row.parts:
                    raise
                opened, row = None, now  # it was replaced meanwhile: what is lost was of the folder before


def _refs(row: PartitionRow) -> list[FrameRef]:
    return [FrameRef(row.partition, f.token, row.scene, f.subset, f.index, f.labelled) for f in row.frames]
