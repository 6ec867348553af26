"""Comparing stores on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ovps.cache.frame_data import CachedFrame
from ovps.cache.layout import LOCK, MANIFESTS, PARTITIONS, partition_key
from ovps.cache.manifest import read_manifests
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store as it lies there: has anything been touched?"""
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def written(store: Path) -> dict[str, object]:
    """Everything that a store holds but its lock and the names of its folders, which are drawn anew at each writing."""
    found: dict[str, object] = {
        name: content for name, content in contents(store).items() if not name.startswith((MANIFESTS, PARTITIONS, LOCK))
    }
    for row in read_manifests(storage_of(store)):
        found[row.partition] = row.model_dump(exclude={"features": {"folder"}, "labels": {"folder"}})
        for part, folder in row.parts.items():
            for name, content in contents(store / partition_key(folder.folder)).items():
                found[f"{row.partition}/{part}/{name}"] = content
    return found


def read_all(store: Path) -> dict[str, CachedFrame]:
    """Every frame by token, in the order of the store."""
    opened = Store.open(store)
    return {ref.token: opened.read(ref) for ref in opened.frames}


def same_frames(one: Path, other: Path) -> bool:
    """Do two stores hold the same frames, in the same order, whatever their partitions are?"""
    a, b = read_all(one), read_all(other)
    assert verify_store(one) == verify_store(other) == []
    assert list(a) == list(b)
    for token in a:
        for name, value in vars(a[token]).items():
            assert np.array_equal(value, getattr(b[token], name)), (token, name)
    return True
