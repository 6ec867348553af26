from pathlib import Path

import pytest

from tests.helpers.synthetic_store import write_synthetic_store


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    # not as many dimensions as classes: nobody shall mistake one for the other
    return write_synthetic_store(tmp_path_factory.mktemp("systems") / "store", frames=2, clip_dim=20)
