"""A store that is deleted in the middle of a command is told by a typed error that names it, whenever that is."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest

from ovps.cache.disk import LocalStorage
from ovps.cache.reader import Store
from ovps.errors import OvpsError
from pipelines.export import export
from pipelines.options import ExportOptions, QueryOptions, ViewOptions
from pipelines.query import query
from pipelines.view import write_html
from tests.helpers.fake_text import FakeText
from tests.helpers.synthetic_store import write_synthetic_store

COMMANDS = {
    "query": lambda at, to: query(QueryOptions.asked(text="bus", cache=at, html=to / "q.html", index=to / "index")),
    "query --of clusters": lambda at, to: query(
        QueryOptions.asked(text="bus", cache=at, of="clusters", html=to / "q.html", index=to / "index")
    ),
    "view --html": lambda at, to: write_html(ViewOptions(cache=at), to / "v.html"),
    "export": lambda at, to: export(ExportOptions(cache=at, npz=True, out=to / "out")),
}


@contextmanager
def deleted(path, at):
    """Delete a store before the reading of it with this number; yields what was read."""
    touched = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("get", "sha256", "children"):

            def asked(storage, *args, ask=getattr(LocalStorage, name), **options):
                if storage.root == path:
                    if len(touched) == at:
                        shutil.rmtree(path)
                    touched.append(args)
                return ask(storage, *args, **options)

            patch.setattr(LocalStorage, name, asked)
        yield touched


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_that_is_deleted_in_the_middle(command, tmp_path, monkeypatch):
    kept = write_synthetic_store(tmp_path / "kept", frames=2, points=1500)
    text = FakeText(Store.open(kept).vocabulary)
    monkeypatch.setattr("pipelines.query.question.text_of", lambda cache, weights: text)

    def run(at):
        folder = tmp_path / str(at)
        shutil.copytree(kept, folder / "zarr")
        with deleted(folder / "zarr", at) as touched:
            COMMANDS[command](folder / "zarr", folder)
        return len(touched)

    times = run(None)
    for at in sorted({2, 4, 5, times // 2}):
        with pytest.raises(OvpsError) as error:
            run(at)
        assert str(tmp_path / str(at) / "zarr") in str(error.value)
