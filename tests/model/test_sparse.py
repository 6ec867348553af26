"""The engines of sparse convolutions against each other, and against dense convolutions."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ovps.errors import ConfigError
from ovps.model import sparse
from ovps.model.config import EncoderConfig
from ovps.model.encoder import SparseUNet

SIDE = 8
needs_minkowski = pytest.mark.skipif(sparse.default() != "minkowski", reason="MinkowskiEngine is not installed")
BACKENDS = (pytest.param("minkowski", marks=needs_minkowski), "torch")


def some_voxels(seed: int, count: int, frames: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    cells = torch.randperm(frames * SIDE**3, generator=g)[:count]
    coords = torch.stack(torch.unravel_index(cells, (frames, SIDE, SIDE, SIDE)), dim=1).int()
    return coords, torch.randn(count, 5, generator=g, dtype=torch.float64)


def dense(coords: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    volume = features.new_zeros(2, features.shape[1], SIDE, SIDE, SIDE)
    frame, x, y, z = coords.long().T
    volume[frame, :, x, y, z] = features
    return volume


def torch_weight(kernel: torch.Tensor, side: int) -> torch.Tensor:
    """(side^3, in, out), x fastest, as torch's conv3d wants it: (out, in, x, y, z)."""
    return kernel.detach().reshape(side, side, side, *kernel.shape[-2:]).permute(4, 3, 2, 1, 0)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_is_the_dense_one_at_the_voxels(name, kernel):
    backend, (coords, features) = sparse.get(name), some_voxels(0, 90)
    layer = backend.convolution(5, 4, kernel).double()
    got = backend.features(layer(backend.voxels(coords, features)))
    weight = layer.kernel.detach()[None] if kernel == 1 else layer.kernel
    want = F.conv3d(dense(coords, features), torch_weight(weight, kernel), padding=kernel // 2)
    frame, x, y, z = coords.long().T
    torch.testing.assert_close(got, want[frame, :, x, y, z])


@pytest.mark.parametrize("name", BACKENDS)
def test_down_and_up_are_the_dense_ones_at_the_voxels(name):
    backend, (coords, features) = sparse.get(name), some_voxels(1, 120)
    down, up = backend.down(5, 6).double(), backend.up(6, 3).double()
    got = backend.features(up(down(backend.voxels(coords, features))))
    half = F.conv3d(dense(coords, features), torch_weight(down.kernel, 2), stride=2)
    occupied = F.max_pool3d(dense(coords, torch.ones(len(coords), 1, dtype=torch.float64)), 2)
    back = F.conv_transpose3d(half * occupied, torch_weight(up.kernel, 2).transpose(0, 1), stride=2)
    frame, x, y, z = coords.long().T
    torch.testing.assert_close(got, back[frame, :, x, y, z])


@needs_minkowski
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 150), norm=st.sampled_from(["batch", "layer"]))
def test_one_seed_gives_the_same_network_on_every_engine(seed, count, norm):
    coords, features = some_voxels(seed, count)
    features = features.float()
    found = []
    for name in sparse.BUILT_IN:
        torch.manual_seed(seed)
        network = SparseUNet(EncoderConfig(channels=(6, 8, 10), blocks=1, norm=norm, backend=name), 5, 7)
        moved = features.clone().requires_grad_()
        out = network(coords, moved)
        out.square().sum().backward()
        gradients = {n: p.grad for n, p in network.named_parameters()}
        found.append((network.state_dict(), out.detach(), moved.grad, gradients))
    (weights, out, grad, gradients), (other_weights, other, other_grad, other_gradients) = found
    assert list(weights) == list(other_weights)
    torch.testing.assert_close(other, out, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other_grad, grad, atol=1e-3, rtol=1e-3)
    for name, gradient in gradients.items():
        torch.testing.assert_close(other_gradients[name], gradient, atol=1e-3, rtol=1e-3)


def test_an_engine_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ConfigError, match=r"no sparse_backend named 'spconv'.*minkowski, torch"):
        SparseUNet(EncoderConfig(backend="spconv"), 5, 7)


@needs_minkowski
@pytest.mark.parametrize("threads", ["", "2,1"])
def test_what_openmp_takes_as_threads_is_no_reason_not_to_load(threads):
    """As of a job script whose scheduler has not said how many; and one for each level of nested threads."""
    script = "import os; import ovps.model.sparse.minkowski; print(repr(os.environ['OMP_NUM_THREADS']))"
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == repr(threads), done.stderr
