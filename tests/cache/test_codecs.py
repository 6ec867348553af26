"""Codecs are found by name, inside and outside of ovps; one may have state, which is part of the store."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest
from scipy.sparse import csr_array

from ovps import plugins
from ovps.cache import codecs
from ovps.cache.codecs.state import state_sha256
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.cache.writer import create_store, encode_frame, write_partition
from ovps.errors import ConfigError, CorruptStoreError, ProvenanceError
from ovps.taxonomy import load_taxonomy
from tests.cache.test_round_trip import CLIP_DIM, ragged_frame
from tests.helpers import toy_codec
from tests.helpers.synthetic_store import provenance, vocabulary

TAXONOMY = load_taxonomy("nuscenes")


@pytest.fixture
def installed(monkeypatch):
    """The toy codec, as if its package were installed."""
    point = EntryPoint("projected", "tests.helpers.toy_codec:CODEC", codecs.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == codecs.GROUP else [])


def fitted(frames):
    return toy_codec.CODEC.fit(np.concatenate([features.dense()[features.valid] for _, features in frames]))


def stored(path, frames, state):
    about = provenance(clip_dim=CLIP_DIM, codec="projected", codec_state_sha256=state_sha256(state))
    create_store(storage_of(path), about, TAXONOMY, vocabulary(clip_dim=CLIP_DIM), state)
    encoded = [encode_frame(*frame, toy_codec.CODEC, state) for frame in frames]
    write_partition(storage_of(path), "scene.000000", "scene", encoded)
    return Store.open(path)


def test_a_codec_with_state(installed, tmp_path):
    frames = [ragged_frame(i, i, 30, 12, 2, 0.8, True) for i in range(3)]
    state = fitted(frames)
    store = stored(tmp_path / "s", frames, state)
    assert verify_store(tmp_path / "s") == []
    for ref, (frame, _) in zip(store.frames, frames, strict=True):
        centred = frame.clip[frame.valid] - state["mean"]
        nearest = centred @ state["basis"].T @ state["basis"] + state["mean"]
        np.testing.assert_allclose(store.read(ref).clip[frame.valid], nearest, atol=5e-3)
        assert not store.read(ref).clip[~frame.valid].any()


def test_the_state_is_checked_and_part_of_the_provenance(installed, tmp_path):
    path, frames = tmp_path / "s", [ragged_frame(0, 0, 30, 12, 2, 0.8, True)]
    store = stored(path, frames, fitted(frames))
    other = fitted([ragged_frame(9, 0, 30, 12, 2, 0.8, True)])
    about = store.provenance.model_copy(update={"codec_state_sha256": state_sha256(other)})
    with pytest.raises(ProvenanceError, match="codec_state_sha256"):
        create_store(storage_of(path), about, TAXONOMY, vocabulary(clip_dim=CLIP_DIM), other)

    file = path / "codec.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    assert [(p.kind, p.path) for p in verify_store(path)] == [("content", str(file))]
    with pytest.raises(CorruptStoreError, match="not the state of the codec"):
        store.read(store.frames[0])
    file.unlink()
    assert [(p.kind, p.path) for p in verify_store(path)] == [("missing", str(file))]


def test_a_lossy_codec_or_one_of_another_package_is_never_chosen_unasked(installed, monkeypatch):
    weights = csr_array(np.eye(4, dtype=np.float32))
    assert "projected" in codecs.names()
    assert codecs.smallest(weights, 8) == "dense"
    monkeypatch.setitem(codecs.BUILT_IN, "projected", "tests.helpers.toy_codec:CODEC")
    assert codecs.smallest(weights, 8) == "dense"
    monkeypatch.setattr(toy_codec.Projected, "lossless", True)
    assert codecs.smallest(weights, 8) == "projected"


def test_a_codec_that_is_not_installed(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no codec named 'projected'.*dense, cells"):
        codecs.get("projected")


def test_arrays_of_one_dimension_are_of_one_length(tmp_path):
    frame = encode_frame(*ragged_frame(0, 0, 30, 12, 2, 0.8, True), codecs.get("cells"))
    create_store(storage_of(tmp_path / "s"), provenance(clip_dim=CLIP_DIM), TAXONOMY, vocabulary(clip_dim=CLIP_DIM))
    frame.arrays["clip/indices"] = frame.arrays["clip/indices"][:-1]
    with pytest.raises(ValueError, match=r"clip/weights of frame token-0 is not as long"):
        write_partition(storage_of(tmp_path / "s"), "scene.000000", "scene", [frame])
