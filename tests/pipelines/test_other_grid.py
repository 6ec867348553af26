"""A run on a store whose features are of other voxels than those that it learned from, or came about otherwise."""

from __future__ import annotations

import json

import pytest

from pipelines.predict import predict
from pipelines.train import TrainOptions, train
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.readers import READERS
from tests.pipelines.untrained import TINY

GRID, NETWORK, OTHER = "cylinder:60x45x8", "cylinder:30x20x4", "cylinder:12x9x2"


@pytest.fixture(scope="module", params=[None, NETWORK], ids=["the store's grid", "a grid of its own"])
def made(request, tmp_path_factory):
    """A run, and stores of the grid that it learned from, of its network's, and of another."""
    folder = tmp_path_factory.mktemp("grids")
    stores = {
        name: write_synthetic_store(folder / name, frames=1, grid=grid)
        for name, grid in (("same", GRID), ("network", request.param or GRID), ("other", OTHER))
    }
    overrides = (*TINY, f"data.grid={request.param or 'null'}")
    train(TrainOptions(cache=stores["same"], out=folder / "run", overrides=overrides))
    return folder / "run", stores


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_features_of_other_voxels_are_told(made, tmp_path, reader):
    run, stores = made
    (tmp_path / "out").mkdir()
    for name, cache in stores.items():
        told = [text for text in reader(run, cache, tmp_path / "out" / name) if "learned from those of" in text]
        assert len(told) == (name == "other"), name
        assert all(OTHER in text and GRID in text for text in told), told


ONE, BROUGHT = {"cameras": ("CAM_FRONT",)}, {"cameras": (), "occlusion": None}


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A run, the store that it learned from, and others whose features came about otherwise."""
    folder = tmp_path_factory.mktemp("features")
    about = {"same": {}, "one camera": ONE, "brought": BROUGHT, "larger": {"upscale": 2.0}}
    stores = {name: write_synthetic_store(folder / name, frames=1, grid=GRID, **more) for name, more in about.items()}
    train(TrainOptions(cache=stores["same"], out=folder / "run", overrides=TINY))
    return folder / "run", stores


def test_features_that_came_about_otherwise_are_told(features, tmp_path):
    run, stores = features
    words = {"same": None, "one camera": "of CAM_FRONT, with", "brought": "of another program", "larger": "by 2, and"}
    for name, cache in stores.items():
        told = [text for text in predict(run, cache, tmp_path / name).warnings if "learned from those of" in text]
        assert len(told) == (words[name] is not None), name
        assert all(words[name] in text for text in told), told


def test_of_a_run_of_before_nothing_is_said_that_is_not_known(made, tmp_path):
    run, stores = made
    path = run / "run.json"
    content = json.loads(path.read_text())
    before = path.read_text()
    path.write_text(json.dumps({name: value for name, value in content.items() if not name.startswith("cache_")}))
    try:
        told = predict(run, stores["other"], tmp_path / "out").warnings
    finally:
        path.write_text(before)
    assert any("learned from those of" in text for text in told) == (not content["grid"].startswith(NETWORK))
