from __future__ import annotations

import os

import pytest

from tests.helpers.synthetic_store import write_synthetic_store


@pytest.fixture(scope="session", autouse=True)
def no_fsync():
    """Tests do not pull the plug; waiting for the disk would be most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def store(tmp_path):
    """Two subsets of two frames, one partition each."""
    return write_synthetic_store(tmp_path / "store", frames=2, points=200)
