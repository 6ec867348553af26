"""Comparing stores on disk."""

from __future__ import annotations

from pathlib import Path

from ovps.cache.layout import MANIFESTS, PARTITIONS, partition_path
from ovps.cache.manifest import manifest_files, read_manifest


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store as it lies there: has anything been touched?"""
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def written(store: Path) -> dict[str, object]:
    """Everything that a store holds but the names of its folders, which are drawn anew at each writing."""
    found: dict[str, object] = {
        name: content for name, content in contents(store).items() if not name.startswith((MANIFESTS, PARTITIONS))
    }
    for manifest in manifest_files(store):
        row = read_manifest(manifest)
        found[row.partition] = row.model_dump(exclude={"folder"})
        for name, content in contents(partition_path(store, row.folder)).items():
            found[f"{row.partition}/{name}"] = content
    return found
