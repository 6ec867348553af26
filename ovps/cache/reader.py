"""Reading a store. Safe to pickle: files are opened where and when a frame is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cache_schemas.v1 import SCHEMA_VERSION, PartitionRow, Provenance, StoreInfo
from ovps.cache.frame_data import CachedFrame, FrameRef
from ovps.cache.layout import INFO, VOCABULARY
from ovps.cache.manifest import manifest_files, read_manifest
from ovps.cache.partition import Partition
from ovps.errors import CacheError, CorruptStoreError
from ovps.vocabulary import Vocabulary, load_vocabulary


def read_info(path: Path) -> StoreInfo:
    """`store.json` of a store.

    Raises:
        CacheError: no store there, or one of another schema version.
        CorruptStoreError: unreadable.
    """
    file = path / INFO
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise CacheError(
                f"the store has schema version {version}, this ovps reads version {SCHEMA_VERSION}",
                path=file,
                remedy="Use the ovps that wrote it, or run `ovps precompute` into a new folder",
            )
        return StoreInfo.model_validate(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CacheError("no cache here", path=path, remedy="Make one: ovps precompute --dataset nuscenes") from error
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise CorruptStoreError(
            f"not a valid {INFO}: {error}", path=file, remedy="Restore it, or precompute into a new folder"
        ) from error


@dataclass(eq=False)
class Store:
    """A store and its committed frames.

    Attributes:
        path: folder.
        info: version and provenance.
        frames: sorted by scene, then index.
    """

    path: Path
    info: StoreInfo
    frames: tuple[FrameRef, ...]

    def __post_init__(self) -> None:
        self._open: dict[str, Partition] = {}

    @classmethod
    def open(cls, path: Path) -> Store:
        """Read the manifests; no array is touched.

        Raises:
            CacheError: no store, or of another version.
            CorruptStoreError: a manifest that cannot be read.
        """
        info = read_info(path)
        refs = [ref for file in manifest_files(path) for ref in _refs(read_manifest(file))]
        return cls(path, info, tuple(sorted(refs, key=lambda ref: (ref.scene, ref.index))))

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "info": self.info, "frames": self.frames}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open = {}

    @property
    def provenance(self) -> Provenance:
        return self.info.provenance

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The data set's own classes."""
        return load_vocabulary(self.path / VOCABULARY)

    def read(self, ref: FrameRef) -> CachedFrame:
        """Read one frame.

        Raises:
            CorruptStoreError: a file that is missing, of another size, or whose checksum is wrong.
        """
        if ref.partition not in self._open:
            self._open[ref.partition] = Partition.open(self.path, ref.partition, self.provenance)
        return self._open[ref.partition].read(ref.position)


def _refs(row: PartitionRow) -> list[FrameRef]:
    return [
        FrameRef(row.partition, i, f.token, row.scene, f.subset, f.index, f.labelled) for i, f in enumerate(row.frames)
    ]
