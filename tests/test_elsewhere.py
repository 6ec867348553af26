"""Nothing in training and inference mixes devices or counts on the CPU: on a GPU that is not there (forward only)."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ovps import systems
from ovps.batch.voxels import INPUT_DIM, frame_batch
from ovps.cache.reader import Store
from ovps.clip.dense import dense_encoder
from ovps.clip.loading import load_clip
from ovps.inference.predict_frame import predict_frame
from ovps.training.config import load_config
from ovps.training.network import make_network
from ovps.training.objective import make_objective
from ovps.training.system_files import load_system
from pipelines.train import deterministic_algorithms, plan
from tests.helpers.elsewhere import Elsewhere, LidarFeatures, gpu
from tests.helpers.synthetic_store import write_synthetic_store
from tests.training.small import SMALL

SYSTEMS = (
    "ovps",
    "published",
    "pfc",
    "openscene",
    "closed_set",
    "form_softmax",
    "form_normalised",
    "unlabelled_ignore",
)
DIFFERENT = ("ovps", "openscene", "closed_set")  # in what the network gives


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(write_synthetic_store(tmp_path_factory.mktemp("elsewhere") / "zarr", frames=2))


def made(store, system, *overrides):
    """Config, batches, and a network whose encoder is a linear layer."""
    chosen = load_system(system)
    split = (f"split={chosen.train_split}",) if chosen.train_split else ()
    config = load_config("driveworld", (*chosen.overrides, *SMALL, *split, *overrides))
    batches, info = plan(store, config)
    torch.manual_seed(0)
    network = make_network(config, info)
    network.encoder = LidarFeatures(INPUT_DIM, config.model.width)
    return config, info.classes, batches, network


@pytest.mark.parametrize(
    ("system", "precision"),
    [*((system, "float32") for system in SYSTEMS), *((system, "bf16") for system in DIFFERENT)],
)
def test_the_losses_of_a_step(store, system, precision):
    config, classes, batches, network = made(store, system, f"precision={precision}")
    kind = systems.get(config.system)
    base = kind.training_classes(store.vocabulary, classes)
    batch = batches[0]
    here = make_objective(kind, config, base, 1.0)(copy.deepcopy(network), batch, 0)
    with gpu():
        there = make_objective(kind, config, base.to("cuda"), 1.0)(network.to("cuda"), batch.to("cuda"), 0)
        assert isinstance(there.total, Elsewhere)
        total = float(there.total.detach())
    assert total == pytest.approx(float(here.total.detach()), rel=1e-4 if precision == "float32" else 5e-2)


@pytest.mark.parametrize("system", [*DIFFERENT, "pfc"])
def test_the_labels_of_a_frame(store, system):
    config, classes, batches, network = made(store, system)
    kind = systems.get(config.system)
    settings = config.merge.model_copy(update={"score": 0.0, "mask": 0.02, "overlap": 0.0})
    voxels = frame_batch(store.read(store.frames[0]), batches.grid, clusters=batches.clusters)

    def labels(device):
        known = kind.classes(store.vocabulary, classes.names).to(device)
        network_there = copy.deepcopy(network).to(device).eval()
        ways = (settings, config.classifier, kind.variants)
        with torch.no_grad():  # views of tensors of ours cannot be made in inference mode
            return predict_frame.__wrapped__(kind, network_there, voxels.to(device), known, *ways)

    here = labels("cpu")
    with gpu():
        there = labels("cuda")
    assert list(there.variants) == list(here.variants)
    for ours, reference in zip(
        (there.labels, *there.variants.values()), (here.labels, *here.variants.values()), strict=True
    ):
        assert isinstance(ours.entry, np.ndarray)
        assert np.mean(ours.entry == reference.entry) > 0.99


def test_where_frames_begin_is_asked_of_the_cpu(store):
    _, _, batches, _ = made(store, "ovps")
    with gpu():
        voxels = batches[0].to("cuda").voxels
        assert isinstance(voxels.coords, Elsewhere)
        assert voxels.voxel_offsets.device.type == voxels.point_offsets.device.type == "cpu"


def test_clip_features_of_images():
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    clip = load_clip("demo")
    reference = dense_encoder(clip, (96, 64)).encode(images)
    with gpu():
        clip.model.to("cuda")
        ours = dense_encoder(clip, (96, 64)).encode(images)
        assert isinstance(ours, Elsewhere)
        ours = ours.cpu()
    assert F.cosine_similarity(ours, reference, dim=-1).min() > 0.9999


@pytest.mark.parametrize(("before", "within"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_training_asks_cublas_to_be_deterministic(monkeypatch, before, within):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before or "")
    if before is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with deterministic_algorithms():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == within
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_would_tell():
    with gpu():
        there = torch.ones(3).to("cuda")
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="two devices"):
            torch.cat([there, torch.ones(1)])
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert (there + torch.tensor(1.0)).cpu().tolist() == [2.0] * 3
        with torch.autocast("cuda", torch.bfloat16):
            assert F.linear(there, torch.ones(2, 3).to("cuda")).dtype == torch.bfloat16
            assert F.layer_norm(there.bfloat16(), (3,)).dtype == torch.float32  # not so on a CPU
        assert there[torch.tensor([0])].cpu().tolist() == [1.0]
    assert isinstance(F.relu(torch.ones(1)), torch.Tensor)
