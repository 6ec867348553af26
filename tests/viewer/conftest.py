from __future__ import annotations

import pytest

from ovps.cache.reader import Store
from ovps.inference.session import open_session
from ovps.viewer.answers import answer_of
from ovps.viewer.view import View
from tests.pipelines.untrained import LOOSE, untrained


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A run of one step, and its store."""
    return untrained(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="session")
def session(made):
    return open_session(*made, merge=LOOSE)


@pytest.fixture(scope="session")
def view(session):
    frame = session.store.read(session.store.frames[0])
    taxonomy = session.store.taxonomy
    return View(frame, taxonomy, session.vocabulary, frozenset(session.novel), answer_of(session, frame))


@pytest.fixture(scope="session")
def plain(made):
    """The same frame without a run."""
    store = Store.open(made[1])
    return View(store.read(store.frames[0]), store.taxonomy, store.vocabulary, frozenset(), None)
