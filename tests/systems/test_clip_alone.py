"""CLIP alone: predictions without a run are the nearest texts of the cached features, by slow and obvious code."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ovps import systems
from ovps.cache.reader import Store
from ovps.errors import ConfigError
from ovps.model.panoptic import MergeConfig
from ovps.vocabulary import Vocabulary, save_vocabulary
from pipelines.predict import predict
from pipelines.train import TrainOptions, train
from tests.helpers.synthetic_store import write_synthetic_store


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_synthetic_store(tmp_path_factory.mktemp("clip") / "zarr", frames=2)


def test_every_seen_point_takes_the_nearest_text_and_the_others_none(cache, tmp_path):
    store = Store.open(cache)
    vocabulary: Vocabulary = store.vocabulary
    save_vocabulary(vocabulary, tmp_path / "v.safetensors")
    summary = predict(None, cache, tmp_path / "found", vocabulary=tmp_path / "v.safetensors")
    assert (summary.format, summary.problems) == ("arrays", [])
    for ref in store.frames:
        if ref.subset != "val":
            continue
        frame = store.read(ref)
        found = np.load(tmp_path / "found" / "labels" / "val" / f"{ref.token}.npz")["entry"]
        for point in range(0, len(frame.xyz), 7):
            voxel = frame.point_voxel[point]
            if not frame.valid[voxel]:
                assert found[point] == -1
                continue
            best = max(
                range(len(vocabulary.embeddings)),
                key=lambda t, v=voxel: float(vocabulary.embeddings[t] @ frame.clip[v]),
            )
            assert found[point] == vocabulary.class_index[best]


def test_the_data_sets_own_classes_are_a_submission_and_say_where_they_come_from(cache, tmp_path):
    summary = predict(None, cache, tmp_path)
    assert (summary.format, summary.problems) == ("submission", [])
    about = json.loads((tmp_path / "about.json").read_text())
    assert (about["run"], about["step"]) == ("clip-alone", 0)


def test_pieces_of_a_thing_are_parted_by_the_gap_that_is_asked_for(cache, tmp_path):
    def instances(gap):
        predict(None, cache, tmp_path / str(gap), merge=MergeConfig(split_gap=gap))
        files = sorted((tmp_path / str(gap)).rglob("*_panoptic.npz"))
        return sum(len(np.unique(np.load(file)["data"])) for file in files)

    assert instances(0.2) > instances(1000.0)


def test_there_is_nothing_to_train(cache, tmp_path):
    assert "clip" in systems.names()
    with pytest.raises(ConfigError, match="without a run"):
        train(TrainOptions(cache=cache, out=tmp_path / "run", overrides=("system=clip", "steps=1")))
    with pytest.raises(ConfigError, match="fill"):
        predict(None, cache, tmp_path, fill=True)
