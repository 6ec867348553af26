"""Drives in a folder of results, by their points: those of another drive of the same names would take their place."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ovps.cache.frame_data import FrameRef
from ovps.cache.reader import Store

DRIVES = "drives"  # in the record of a folder: a frame of each scene, and the hash of its points


def hashed(store: Store, refs: Iterable[FrameRef]) -> dict[str, str]:
    """Hash the points of frames: SHA-256 by token.

    Raises:
        CorruptStoreError: a frame that is damaged.
    """
    return {ref.token: hashlib.sha256(store.read(ref).xyz.tobytes()).hexdigest() for ref in refs}


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
