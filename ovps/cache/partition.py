"""One partition of a store, opened for reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from cache_schemas import Part, PartitionRow, Provenance
from ovps.cache import codecs
from ovps.cache.cameras import decode_thumbnail
from ovps.cache.codecs.protocol import Arrays, Codec, State, VoxelFeatures
from ovps.cache.codecs.state import read_state
from ovps.cache.folder import Folder, all_rows, is_whole, settings_of
from ovps.cache.frame_arrays import arrays_of, frame_of
from ovps.cache.frame_data import CachedFrame
from ovps.cache.layout import partition_key
from ovps.cache.object_embeddings import Objects, no_objects
from ovps.cache.remedies import again
from ovps.cache.storage import Storage
from ovps.errors import CorruptStoreError
from ovps.shortage import faults


@dataclass(frozen=True, eq=False)
class Partition:
    """One partition as one manifest names it, its folders open."""

    storage: Storage
    row: PartitionRow
    provenance: Provenance
    codec: Codec
    parts: Mapping[Part, Folder]

    @classmethod
    def open(cls, storage: Storage, row: PartitionRow, provenance: Provenance) -> Partition:
        """Open the folders that a manifest names.

        Raises:
            CorruptStoreError: a file that is missing, of another size or not of the schema.
            ConfigError: the store's codec is of a package that is not installed.
        """
        codec = codecs.get(provenance.codec)
        remedy, settings = again(storage, row.partition, provenance), provenance.sha256()
        parts = {
            part: Folder.open(
                storage, folder, arrays_of(part, codec, provenance), provenance.clip_dim, settings, remedy
            )
            for part, folder in row.parts.items()
        }
        return cls(storage, row, provenance, codec, parts)

    @cached_property
    def state(self) -> State:
        """Read the state of the codec.

        Raises:
            CorruptStoreError: not the bytes that were written.
        """
        return read_state(self.storage, self.provenance)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Positions of the frames in the arrays, by token."""
        return {frame.token: position for position, frame in enumerate(self.row.frames)}

    def encoded(self, token: str) -> Arrays:
        """All arrays of one frame as they are stored, without the offsets; of labels only if it has some.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        return self._arrays(token, tuple(name for part in self.parts.values() for name in part.arrays))

    def read(self, token: str) -> CachedFrame:
        """One frame.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        row = self.row.frames[self.positions[token]]
        names = tuple(name for part in self.parts.values() for name in part.arrays if name not in _NOT_OF_A_FRAME)
        arrays = self._arrays(token, names)
        with self._told_as_damage(token):
            clip = self.codec.decode(arrays, arrays["voxels/valid"], self.state)
            return frame_of(row, self.row.scene, arrays, clip)

    def factors(self, token: str) -> tuple[Arrays, VoxelFeatures]:
        """The points, voxels and labels of one frame as they are stored, and its features, not multiplied out.

        Of a codec that keeps no cells each voxel is its own cell.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        names = tuple(name for part in self.parts.values() for name in part.arrays)
        arrays = self._arrays(token, tuple(name for name in names if name.startswith(_OF_POINTS)))
        with self._told_as_damage(token):
            valid = arrays["voxels/valid"]
            if self.codec.keeps_cells:
                return arrays, self.codec.factors(arrays, valid, self.state)
            return arrays, VoxelFeatures.of_voxels(self.codec.decode(arrays, valid, self.state), valid)

    @contextmanager
    def _told_as_damage(self, token: str) -> Iterator[None]:
        try:
            yield
        except faults(ValueError, KeyError, IndexError, RuntimeError, OSError) as error:
            folder = self.parts["features"]
            raise CorruptStoreError(
                f"cannot read: {error}", path=folder.path, frame=token, remedy=folder.remedy
            ) from error

    def objects(self, token: str) -> Objects:
        """The labelled segments of one frame, without its points and features; none where it has no labels.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        if not self.row.frames[self.positions[token]].labelled:
            return no_objects(self.provenance.clip_dim)
        names = tuple(no_objects(self.provenance.clip_dim).arrays())
        arrays = self._arrays(token, names)
        return Objects(*(arrays[name] for name in names))

    def points(self, token: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The points of a frame: (N, 3) metres in the LiDAR frame, and their intensity (N,) in 0..1.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        arrays = self._arrays(token, ("points/xyz", "points/intensity"))
        return arrays["points/xyz"], arrays["points/intensity"]

    def label(self, token: str) -> NDArray[np.uint32]:
        """The raw labels (N,) of the points of a frame that has some.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        return self._arrays(token, ("points/label",))["points/label"]

    def thumbnail_width(self) -> int | None:
        """The width in pixels of the first thumbnail; None if it has none.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        for frame in self.row.frames:
            if any(camera.thumbnail_bytes for camera in frame.cameras):
                return max(decode_thumbnail(content).shape[1] for content in self.thumbnails(frame.token) if content)
        return None

    def thumbnails(self, token: str) -> list[bytes]:
        """The encoded images of a frame, camera after camera; empty where a camera has none.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
        """
        content = self._arrays(token, (_THUMBNAILS,))[_THUMBNAILS].tobytes()
        found, start = [], 0
        for camera in self.row.frames[self.positions[token]].cameras:
            found.append(content[start : start + camera.thumbnail_bytes])
            start += camera.thumbnail_bytes
        return found

    def _arrays(self, token: str, names: tuple[str, ...]) -> Arrays:
        position = self.positions[token]
        labelled = self.row.frames[position].labelled
        try:
            wanted = [
                (name, folder)
                for part, folder in self.parts.items()
                if labelled or part != "labels"
                for name in folder.arrays
                if name in names
            ]
            read = self.storage.each(lambda one: one[1].read(one[0], position), wanted)
            return {name: array for (name, _), array in zip(wanted, read, strict=True)}
        except CorruptStoreError as error:
            raise CorruptStoreError(error.message, path=error.path, frame=token, remedy=error.remedy) from error


def first_thumbnail(storage: Storage, folder: str) -> bytes | None:
    """The first encoded image of a folder of which no manifest tells, and what follows it; None where there is none."""
    content = all_rows(storage, folder, _THUMBNAILS)
    return content.tobytes() if content is not None and len(content) else None


def of_other_settings(storage: Storage, rows: Iterable[PartitionRow], provenance: Provenance) -> bool:
    """Tell whether all of some partitions, at least one, say that they were made with other settings than these."""
    folders = [partition_key(row.features.folder) for row in rows if row.frames]
    stated = list(storage.each(partial(settings_of, storage), folders))
    return bool(stated) and all(settings not in (None, provenance.sha256()) for settings in stated)


_THUMBNAILS = "thumbnails/bytes"
_OF_POINTS = ("points/", "voxels/", "clip/")
_NOT_OF_A_FRAME = (_THUMBNAILS,)  # most readers have no use for them


def is_complete(storage: Storage, folder: str, provenance: Provenance) -> bool:
    """Tell features that were written to their end from what a run that was killed has left."""
    specs = arrays_of("features", codecs.get(provenance.codec), provenance)
    return is_whole(storage, folder, (spec.name for spec in specs))
