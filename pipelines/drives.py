"""Drives in a folder of results, by their points: those of another drive of the same names would take their place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ovps.cache.frame_data import FrameRef
from ovps.cache.reader import Store
from ovps.errors import DatasetError, FrameError
from ovps.frame import Frame, PointCloud
from ovps.geometry.same_sweep import same_sweep

DRIVES = "drives"  # in the record of a folder: a frame of each scene, and the hash of its points


def hashed(store: Store, refs: Iterable[FrameRef]) -> dict[str, str]:
    """Hash the points of frames: SHA-256 by token.

    Raises:
        CorruptStoreError: a frame that is damaged.
    """
    return {ref.token: hashlib.sha256(store.points(ref).tobytes()).hexdigest() for ref in refs}


def first_of_scenes(refs: Iterable[FrameRef], but: Collection[str] = ()) -> list[FrameRef]:
    """Choose the first of some frames of each scene, but for scenes that are named."""
    first: dict[str, FrameRef] = {}
    for ref in refs:
        if ref.scene not in but:
            first.setdefault(ref.scene, ref)
    return list(first.values())


def exchanged(there: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """List the frames of a record whose points are others now."""
    return [token for token, sha256 in now.items() if there.get(token, sha256) != sha256]


def check_drive(
    store: Store, refs: Iterable[FrameRef], frames: Iterable[Frame], read_points: Callable[[Frame], PointCloud]
) -> None:
    """Check that a data set has the drives of a store, by the first of some frames that it can read.

    Args:
        refs: of the store; frames: of the data set, matched by token.
        read_points: `Dataset.points`.

    Raises:
        DatasetError: the points are those of another sweep.
    """
    by_token = {frame.token: frame for frame in frames}
    for ref in refs:
        if ref.token not in by_token:
            continue
        frame = by_token[ref.token]
        try:
            now = read_points(frame).xyz
        except FrameError:  # pictures are all that is wanted
            continue
        if not same_sweep(store.points(ref), now):
            raise DatasetError(
                f"the store {store.path} holds another sweep as this frame of scene {ref.scene!r}",
                path=frame.points_path,
                frame=ref.token,
                remedy="Name the data set that the store was made of, or none",
            )
        return
