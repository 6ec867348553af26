"""LiDAR features: a sparse-convolution U-Net over voxels. The only file that knows MinkowskiEngine."""

from __future__ import annotations

from itertools import pairwise

import MinkowskiEngine as ME
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovps.model.config import EncoderConfig, Norm


class SparseUNet(nn.Module):
    """Voxel features (V, D_in) to (V, D), in the order of the coordinates.

    A residual U-Net in the manner of MinkUNet [Choy et al. 2019]: strided 2x2x2 convolutions down, transposed ones
    up, skips concatenated. phi does not wrap. ME takes float32 or float64 only, so autocast is switched off inside.
    """

    def __init__(self, config: EncoderConfig, input_dim: int, width: int) -> None:
        super().__init__()
        c = config.channels
        self.stem = _convolution(input_dim, c[0], config)
        self.levels = nn.ModuleList(_blocks(n, n, config) for n in c)
        self.down = nn.ModuleList(
            nn.Sequential(
                ME.MinkowskiConvolution(fine, coarse, kernel_size=2, stride=2, bias=False, dimension=3),
                _OnFeatures(_norm(coarse, config.norm)),
                _OnFeatures(nn.ReLU()),
            )
            for fine, coarse in pairwise(c)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                ME.MinkowskiConvolutionTranspose(coarse, fine, kernel_size=2, stride=2, bias=False, dimension=3),
                _OnFeatures(_norm(fine, config.norm)),
                _OnFeatures(nn.ReLU()),
            )
            for fine, coarse in pairwise(c)
        )
        self.merge = nn.ModuleList(_blocks(2 * fine, fine, config) for fine in c[:-1])
        self.out = nn.Linear(c[0], width)

    def forward(self, coords: Tensor, features: Tensor) -> Tensor:
        """coords (V, 4) int32 unique, frame number first; features (V, D_in) -> (V, D) float32.

        Voxels of different frames never meet. Unique coordinates keep their order in ME (a test says so).
        """
        with torch.autocast(features.device.type, enabled=False):
            x = self.stem(ME.SparseTensor(features.float(), coordinates=coords.int()))
            skips = []
            for level, blocks in enumerate(self.levels):
                if level:
                    x = self.down[level - 1](x)
                x = blocks(x)
                skips.append(x)
            for level in reversed(range(len(self.merge))):
                x = self.merge[level](ME.cat(skips[level], self.up[level](x)))
            return self.out(x.F)


class _OnFeatures(nn.Module):
    """Applies an ordinary module to the features of a sparse tensor; torch's own norms then serve both kinds."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: ME.SparseTensor) -> ME.SparseTensor:
        return _with_features(x, self.module(x.F))


class _Residual(nn.Module):
    """Two convolutions and a shortcut [He et al. 2016]."""

    def __init__(self, inputs: int, outputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, config)
        self.second = _convolution(outputs, outputs, config, activate=False)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: ME.SparseTensor) -> ME.SparseTensor:
        y = self.second(self.first(x))
        return _with_features(y, torch.relu(y.F + self.shortcut(x.F)))


def _with_features(x: ME.SparseTensor, features: Tensor) -> ME.SparseTensor:
    return ME.SparseTensor(features, coordinate_map_key=x.coordinate_map_key, coordinate_manager=x.coordinate_manager)


class _BatchNorm(nn.BatchNorm1d):
    """Over the voxels of a batch. One voxel alone has no spread, and is normalised as at inference."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _norm(channels: int, norm: Norm) -> nn.Module:
    return _BatchNorm(channels) if norm == "batch" else nn.LayerNorm(channels)


def _convolution(inputs: int, outputs: int, config: EncoderConfig, activate: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        ME.MinkowskiConvolution(inputs, outputs, kernel_size=config.kernel, bias=False, dimension=3),
        _OnFeatures(_norm(outputs, config.norm)),
    ]
    return nn.Sequential(*layers, _OnFeatures(nn.ReLU())) if activate else nn.Sequential(*layers)


def _blocks(inputs: int, outputs: int, config: EncoderConfig) -> nn.Sequential:
    return nn.Sequential(*(_Residual(inputs if i == 0 else outputs, outputs, config) for i in range(config.blocks)))
