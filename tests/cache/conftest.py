from __future__ import annotations

import pytest

from tests.helpers.synthetic_store import write_synthetic_store


@pytest.fixture
def store(tmp_path):
    """Two subsets of two frames, one partition each."""
    return write_synthetic_store(tmp_path / "store", frames=2, points=200)
