from __future__ import annotations

import logging
import os
import pickle
import re
import subprocess
import sys
import time

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from ovps import progress
from ovps.clip.activation import activation_warnings
from ovps.clip.demo import weights_path
from ovps.clip.loading import load_clip, state_sha256
from ovps.errors import ConfigError, WeightsError
from pipelines.vocabulary import encoder_of
from tests.helpers.synthetic_store import write_synthetic_store


@pytest.fixture
def clip():
    return load_clip("tiny-convnext-linear", "random")


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone(clip):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = load_clip("tiny-convnext-linear", "random")
    assert torch.equal(torch.get_rng_state(), before)
    assert again.weights_sha256 == clip.weights_sha256
    assert again.weights_random
    assert load_clip("tiny-convnext-linear", "random", seed=1).weights_sha256 != clip.weights_sha256


def test_model_is_frozen_float32_and_in_evaluation_mode(clip):
    assert not clip.model.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in clip.model.parameters())
    assert clip.dim == 24
    assert clip.tokenizer(["a car"]).shape == (1, 77)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_from_a_file_keep_their_hash(clip, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    state = clip.model.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_clip("tiny-convnext-linear", str(path))
    assert loaded.weights_sha256 == clip.weights_sha256 == state_sha256(state)
    assert not loaded.weights_random


def test_hash_depends_on_names_shapes_and_values():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    assert state_sha256(state) == state_sha256(dict(reversed(state.items())))
    others = [{"a": torch.zeros(3, 2), "b": torch.ones(1)}, {"a": torch.zeros(2, 3), "c": torch.ones(1)}]
    assert len({state_sha256(s) for s in [state, *others]}) == 3


def test_unknown_encoder_names_its_neighbours():
    with pytest.raises(ConfigError, match="convnext_large_d_320"):
        load_clip("convnext_large_d_32", "random")


def test_weights_must_be_chosen():
    with pytest.raises(WeightsError, match=r"no weights chosen.*laion2b_s34b_b88k.*--weights PATH.*random"):
        load_clip("ViT-B-16")


def test_unknown_tag_and_missing_file_are_told_apart(tmp_path):
    with pytest.raises(WeightsError, match="no weights tagged 'nonsense'"):
        load_clip("convnext_large_d_320", "nonsense")
    with pytest.raises(WeightsError, match=r"no such file of weights .*gone\.safetensors"):
        load_clip("convnext_large_d_320", str(tmp_path / "gone.safetensors"))


@pytest.mark.parametrize(
    ("encoder", "tag"), [("ViT-B-16", "openai"), ("RN50x16", "openai"), ("ViT-B-32", "laion400m_e32")]
)
def test_weights_of_another_activation_name_the_encoder_of_theirs(encoder, tag):
    with pytest.raises(WeightsError, match=rf"QuickGELU, and {encoder} is .*--encoder {encoder}-quickgelu"):
        load_clip(encoder, tag)
    assert open_clip.get_model_config(f"{encoder}-quickgelu")["quick_gelu"]  # as the remedy says


def test_a_store_of_another_activation_is_to_be_made_anew(tmp_path):
    """Whoever reads it takes the encoder from it, and has no option to name another."""
    store = write_synthetic_store(tmp_path / "zarr", frames=2, encoder="ViT-B-32")
    with pytest.raises(WeightsError, match=r"with the encoder ViT-B-32-quickgelu") as caught:
        encoder_of(store, "openai")
    assert caught.value.path == str(store)
    assert "--" not in caught.value.remedy


def test_files_do_not_tell_their_activation(tmp_path):
    (tmp_path / "a.safetensors").touch()
    (warning,) = activation_warnings("ViT-B-16", str(tmp_path / "a.safetensors"))
    assert "--encoder ViT-B-16-quickgelu" in warning
    for encoder, weights in (
        ("ViT-B-16", "laion2b_s34b_b88k"),
        ("convnext_large_d_320", str(tmp_path / "a.safetensors")),
    ):
        assert activation_warnings(encoder, weights) == []


def test_a_tag_without_network_names_model_tag_and_remedy(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", offline)
    with pytest.raises(WeightsError, match=r"laion2b_s29b_b131k_ft_soup of convnext_large_d_320.*no network.*PATH"):
        load_clip("convnext_large_d_320", "laion2b_s29b_b131k_ft_soup")


class _Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def test_weights_that_take_long_to_come_are_told_of(monkeypatch, capsys):
    def slow(*args, **kwargs):
        time.sleep(0.6)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(progress, "TELL_EVERY", 0.4)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", slow)
    with pytest.raises(WeightsError, match="cannot get the weights"):
        load_clip("convnext_large_d_320", "laion2b_s29b_b131k_ft_soup")
    told = capsys.readouterr().err
    assert "waiting for the weights of convnext_large_d_320 for" in told
    assert "laion2b_s29b_b131k_ft_soup, from the network where they are not here yet" in told


def test_a_large_file_of_weights_is_told_of(tmp_path, monkeypatch, capsys):
    def slow(*args, **kwargs):
        time.sleep(0.6)
        raise RuntimeError("cut short")

    path = tmp_path / "large.safetensors"
    path.write_bytes(b"")
    monkeypatch.setattr(progress, "TELL_EVERY", 0.4)
    monkeypatch.setattr(open_clip, "create_model", slow)
    with pytest.raises(WeightsError, match="cut short"):
        load_clip("tiny-vit", str(path))
    assert re.search(rf"waiting for the weights of tiny-vit for \d s: {path}$", capsys.readouterr().err, re.M)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_files_are_named(tmp_path, clip, suffix):
    path = tmp_path / f"damaged{suffix}"
    state = clip.model.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=f"damaged{suffix}") as caught:
        load_clip("tiny-convnext-linear", str(path))
    assert caught.value.path == str(path)


def test_another_architecture_is_refused(tmp_path, clip):
    path = tmp_path / "other.safetensors"
    save_file(clip.model.state_dict(), path)
    with pytest.raises(WeightsError, match=r"not weights of tiny-vit.*other\.safetensors"):
        load_clip("tiny-vit", str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, clip, value):
    """Every feature would be NaN, and the store would tell of it frames later."""
    state = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    name = next(name for name in state if name.startswith("visual") and state[name].ndim == 4)
    state[name].view(-1)[5] = value
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=f"NaN or infinity in 1 tensors, the first is {name}") as caught:
        load_clip("tiny-convnext-linear", str(path))
    assert caught.value.path == str(path)
    assert "--weights PATH" in caught.value.remedy


def test_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(WeightsError, match=r"evil\.pt"):
        load_clip("tiny-convnext-linear", "evil.pt")
    assert not (tmp_path / "evil").exists()
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(WeightsError, match="unknown kind"):
        load_clip("tiny-convnext-linear", "weights.npz")


def test_loading_leaves_logging_alone():
    handlers = list(logging.root.handlers)
    load_clip("tiny-resnet", "random")
    assert logging.root.handlers == handlers
    assert logging.root.manager.disable == logging.NOTSET


def test_loading_touches_no_network_and_sets_up_no_logging():
    """open_clip gives the root a handler where it has none, and a program's own set-up then does nothing."""
    code = (
        "import socket; socket.socket.connect = lambda *a: 1 / 0;"
        "import ovps.clip.dense, ovps.clip.text; from ovps.clip.loading import load_clip; load_clip('demo', 'random');"
        "import logging; assert not logging.root.handlers, logging.root.handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_demo_needs_no_weights_but_takes_them(tmp_path):
    demo = load_clip("demo")
    assert not demo.weights_random
    assert load_clip("demo", str(weights_path())).weights_sha256 == demo.weights_sha256
    assert load_clip("demo", "random").weights_random
