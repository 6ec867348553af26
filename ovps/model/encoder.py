"""LiDAR features: a sparse-convolution U-Net over voxels, on any engine of `ovps.model.sparse`."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovps.model import sparse
from ovps.model.config import EncoderConfig, Norm
from ovps.model.sparse.protocol import SparseBackend, Voxels


class SparseUNet(nn.Module):
    """Voxel features (V, D_in) to (V, D), in the order of the coordinates.

    A residual U-Net in the manner of MinkUNet [Choy et al. 2019]: strided 2x2x2 convolutions down, transposed ones
    up, skips concatenated. phi does not wrap. Engines take float32, so autocast is switched off inside.
    """

    def __init__(self, config: EncoderConfig, input_dim: int, width: int) -> None:
        super().__init__()
        self.backend = backend = sparse.get(config.backend)
        c = config.channels
        self.stem = _convolution(input_dim, c[0], config, backend)
        self.levels = nn.ModuleList(_blocks(n, n, config, backend) for n in c)
        self.down = nn.ModuleList(
            nn.Sequential(
                backend.down(fine, coarse),
                _OnFeatures(_norm(coarse, config.norm), backend),
                _OnFeatures(nn.ReLU(), backend),
            )
            for fine, coarse in pairwise(c)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                backend.up(coarse, fine),
                _OnFeatures(_norm(fine, config.norm), backend),
                _OnFeatures(nn.ReLU(), backend),
            )
            for fine, coarse in pairwise(c)
        )
        self.merge = nn.ModuleList(_blocks(2 * fine, fine, config, backend) for fine in c[:-1])
        self.out = nn.Linear(c[0], width)

    def forward(self, coords: Tensor, features: Tensor) -> Tensor:
        """Encode voxels: coords (V, 4) int32 unique, frame number first; features (V, D_in) -> (V, D) float32.

        Voxels of different frames never meet.
        """
        with torch.autocast(features.device.type, enabled=False):
            x = self.stem(self.backend.voxels(coords, features.float()))
            skips = []
            for level, blocks in enumerate(self.levels):
                if level:
                    x = self.down[level - 1](x)
                x = blocks(x)
                skips.append(x)
            for level in reversed(range(len(self.merge))):
                x = self.merge[level](self.backend.join(skips[level], self.up[level](x)))
            return self.out(self.backend.features(x))


class _OnFeatures(nn.Module):
    """Applies an ordinary module to the features of voxels; torch's own norms then serve every engine."""

    def __init__(self, module: nn.Module, backend: SparseBackend) -> None:
        super().__init__()
        self.module = module
        self._backend = backend

    def forward(self, x: Voxels) -> Voxels:
        return self._backend.with_features(x, self.module(self._backend.features(x)))


class _Residual(nn.Module):
    """Two convolutions and a shortcut [He et al. 2016]."""

    def __init__(self, inputs: int, outputs: int, config: EncoderConfig, backend: SparseBackend) -> None:
        super().__init__()
        self._backend = backend
        self.first = _convolution(inputs, outputs, config, backend)
        self.second = _convolution(outputs, outputs, config, backend, activate=False)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Voxels) -> Voxels:
        y = self.second(self.first(x))
        features = self._backend.features
        return self._backend.with_features(y, torch.relu(features(y) + self.shortcut(features(x))))


class _BatchNorm(nn.BatchNorm1d):
    """Over the voxels of a batch. One voxel alone has no spread, and is normalised as at inference."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _norm(channels: int, norm: Norm) -> nn.Module:
    return _BatchNorm(channels) if norm == "batch" else nn.LayerNorm(channels)


def _convolution(
    inputs: int, outputs: int, config: EncoderConfig, backend: SparseBackend, activate: bool = True
) -> nn.Sequential:
    layers = [backend.convolution(inputs, outputs, config.kernel), _OnFeatures(_norm(outputs, config.norm), backend)]
    return nn.Sequential(*layers, _OnFeatures(nn.ReLU(), backend)) if activate else nn.Sequential(*layers)


def _blocks(inputs: int, outputs: int, config: EncoderConfig, backend: SparseBackend) -> nn.Sequential:
    sizes = [inputs, *[outputs] * (config.blocks - 1)]
    return nn.Sequential(*(_Residual(n, outputs, config, backend) for n in sizes))
