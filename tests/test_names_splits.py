"""Split files of the pseudo-novel protocol: what chooses for a split never scores, or trains on, its novel classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovps.taxonomy import load_split, load_taxonomy

FILES = sorted((Path(__file__).parent.parent / "docs/results/names/splits").glob("*.yaml"))
TAXONOMY = load_taxonomy("nuscenes")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_hidden_classes_are_base_classes_and_novel_ones_take_no_part(path):
    split, target = load_split(str(path)).of(TAXONOMY), load_split(path.stem.partition("_")[0])
    assert split.name == path.stem
    assert set(split.ignored) == set(target.novel)
    assert not set(split.novel) & set(target.novel)
    trained, _, by = path.stem.rpartition("_by_")
    if trained:
        assert set(split.novel) == set(load_split(by).novel) - set(target.novel)
    else:
        assert set(split.base_ids(TAXONOMY)) < set(target.base_ids(TAXONOMY))


@pytest.mark.parametrize("name", ["b12n4", "b10n6", "b11n5"])
def test_thirds_hide_each_base_class_once(name):
    parts = [load_split(str(path)) for path in FILES if path.stem.startswith(f"{name}_hidden")]
    hidden = [c for part in parts for c in part.novel]
    base = [TAXONOMY.by_id[i].name for i in load_split(name).base_ids(TAXONOMY)]
    assert sorted(hidden) == sorted(base)
