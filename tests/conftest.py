"""Fixtures for every test. Real frames are never part of the project: OVPS_REAL_DATA says where they lie."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from ovps.cache.frame_data import CachedFrame
from ovps.cache.reader import Store
from ovps.clip import text
from ovps.clip.protocol import Encoder
from tests.helpers.kitti_world import write_kitti_world
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.synthetic_store import write_synthetic_store

# a shell that starts the suite in the background has it ignore Ctrl-C, and all that it starts; here Ctrl-C is tested
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup does to SIGHUP

settings.register_profile("ovps", deadline=None)  # a slow machine is no fault
settings.load_profile("ovps")

REAL_DATA = "OVPS_REAL_DATA"
REAL_FIXTURES = {"real_nuscenes", "real_kitti", "real_kitti_raw", "real_semantickitti"}


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if REAL_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("real_data")
            if not os.environ.get(REAL_DATA):
                item.add_marker(pytest.mark.skip(reason=f"{REAL_DATA} is not set: no real frames to test on"))


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[None]:
    """Tests do not pull the plug, and waited a sixth of their time for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def texts_embedded_once() -> Iterator[None]:
    """Most tests compute a small store of the same classes; a third of that time were the demo CLIP's texts."""
    known: dict[tuple[str, ...], NDArray[np.float32]] = {}
    embedded = text.embedded

    def remembered(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
        if encoder.name != "demo":
            return embedded(encoder, texts)
        key = (encoder.weights.sha256, *texts)
        if key not in known:
            known[key] = embedded(encoder, texts)
        return known[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "embedded", remembered)
        yield


@pytest.fixture(scope="session")
def real_nuscenes() -> Path:
    """A nuScenes dataroot with one real key frame, scene-0061 of v1.0-mini and v1.0-trainval. Read only."""
    return _real("nuscenes")


@pytest.fixture(scope="session")
def real_kitti() -> Path:
    """One real KITTI frame as sequence 08, with labels that were derived from boxes. Read only."""
    return _real("kitti")


@pytest.fixture(scope="session")
def real_kitti_raw() -> Path:
    """Ten consecutive real KITTI frames as sequence 00, without labels and poses. Read only."""
    return _real("kitti_raw")


@pytest.fixture(scope="session")
def real_semantickitti() -> Path:
    """Two real scans of sequence 08 with their real labels, without images. Read only."""
    return _real("semantickitti")


def _real(name: str) -> Path:
    root = Path(os.environ[REAL_DATA]) / name
    assert root.is_dir(), f"{REAL_DATA} is set, but {root} is not a folder"
    return root


@pytest.fixture(scope="session")
def mini_nuscenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default mini dataroot: scene mini-0001 in train, mini-0002 in val, two frames each. Read only."""
    return write_mini_nuscenes(tmp_path_factory.mktemp("mini_nuscenes"))


@pytest.fixture(scope="session")
def kitti_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drive world in SemanticKITTI's layout, see `tests.helpers.kitti_world`. Read only."""
    return write_kitti_world(tmp_path_factory.mktemp("kitti_world") / "world")


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
