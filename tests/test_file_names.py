"""Files that are called after frames lie in the folder that they are meant for, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovps.errors import StorageError
from ovps.file_names import file_of
from pipelines.stores.plain import _folder_name


@given(st.text(st.characters(), max_size=250))
@example("..")
@example("../x")
@example("/x")
@example("a\0")
@example("\udc80")
@example("a" * 201)
def test_a_file_lies_in_its_folder(name):
    folder = Path("/somewhere/out")
    try:
        path = file_of(folder, name, ".npz")
    except StorageError:
        return
    assert Path(os.path.normpath(path)).parent == folder
    assert len(os.fsencode(path.name)) <= 255


@pytest.mark.parametrize(
    "token", ["08_000123", "9d9bf11fb0e144c8b446d54a8a00184f", "monday.000017", "r m ü.0-1", "2024-05-01T10:00", ".a"]
)
def test_tokens_of_the_data_sets_are_names(token):
    assert file_of(Path("out"), token, ".npz") == Path("out") / f"{token}.npz"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
@example("..")
@example(".")
@example("a/..")
def test_a_scene_is_a_folder_below(scene):
    assert Path(os.path.normpath(Path("/out") / _folder_name(scene) / "0-t.npz")).parent.parent == Path("/out")
