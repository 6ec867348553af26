"""Versions of a frame: what two stores hold of it may be of other images, labels or poses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cache_schemas import FrameRow, PartitionRow
from ovps.cache.partition import Partition
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info


@dataclass(frozen=True, eq=False)
class Stored:
    """A partition in a store; opened when something asks for its arrays."""

    storage: Storage
    row: PartitionRow

    @cached_property
    def opened(self) -> Partition:
        return Partition.open(self.storage, self.row, read_info(self.storage).provenance)

    @cached_property
    def frames(self) -> dict[str, FrameRow]:
        """Records of the frames by token."""
        return {frame.token: frame for frame in self.row.frames}

    @cached_property
    def label_files(self) -> tuple[object, ...]:
        """Hashes of the files of raw labels: where two partitions have the same, their labels are the same."""
        files = self.row.labels.files if self.row.labels else ()
        hashes = {(file.path, file.sha256) for file in files if file.path.startswith(("points/label/", "offsets/"))}
        return tuple(self.frames), frozenset(hashes)


def same_version(one: Stored, other: Stored, token: str, *, converted: bool = False) -> bool:
    """Tell whether two partitions hold the same of a frame, its labels if both have some.

    What was measured of the codec may differ: only then arrays of features are read, as it tells that they are equal.

    Args:
        converted: codecs differ, and features are not compared.

    Raises:
        CorruptStoreError: bytes that are not those that were written.
    """
    ours, theirs = one.frames[token], other.frames[token]
    if _placed(ours) != _placed(theirs):
        return False
    comparable = ours.labelled and theirs.labelled and one.label_files != other.label_files
    if comparable and not np.array_equal(one.opened.label(token), other.opened.label(token)):
        return False
    if converted or _measured(ours) == _measured(theirs):
        return True
    a, b = one.opened.encoded(token), other.opened.encoded(token)
    return all(np.array_equal(a[name], b[name]) for name in a.keys() & b.keys())


def other_versions(one: Stored, other: Stored, tokens: Iterable[str], *, converted: bool = False) -> list[str]:
    """List those of some frames that both partitions hold, and not the same of them: see `same_version`."""
    both = [token for token in tokens if token in one.frames and token in other.frames]
    return [token for token in both if not same_version(one, other, token, converted=converted)]


_MEASURED = ("codec_max_error", "codec_mean_error")


def _placed(frame: FrameRow) -> FrameRow:
    """A frame's record without what is made of its labels, and what was measured of the codec."""
    return frame.model_copy(update={"labelled": False, "objects": 0, **dict.fromkeys(_MEASURED, 0.0)})


def _measured(frame: FrameRow) -> tuple[float, float]:
    return frame.codec_max_error, frame.codec_mean_error
