from pathlib import Path

import pytest
import torch

from ovps.cache.frame_data import CachedFrame
from ovps.cache.reader import Store
from tests.helpers.synthetic_store import write_synthetic_store


@pytest.fixture(autouse=True)
def _one_thread():
    """Bits depend on the number of threads; runs of the suite set it, so put it back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    return write_synthetic_store(tmp_path_factory.mktemp("training") / "store")


@pytest.fixture(scope="session")
def frame(store) -> CachedFrame:
    opened = Store.open(store)
    return opened.read(next(ref for ref in opened.frames if ref.subset == "train"))
