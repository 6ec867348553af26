from pathlib import Path

import pytest
import torch

from tests.helpers.synthetic_store import write_synthetic_store


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    # not as many dimensions as classes: nobody shall mistake one for the other
    return write_synthetic_store(tmp_path_factory.mktemp("baselines") / "store", frames=2, clip_dim=20)
