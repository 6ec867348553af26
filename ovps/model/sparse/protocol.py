"""The contract of a backend: what the LiDAR encoder needs of an engine for sparse convolutions.

A backend's own tensor is opaque to the encoder: voxels with features, at some level of resolution. Weights are stored
alike by every backend, so that a run can be trained on one and used on another: a module that convolves has one
parameter `kernel` (K, in, out), K offsets with x fastest, then y, then z; (in, out) where K is 1.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

Voxels = Any  # of the backend


class SparseBackend(Protocol):
    """An engine. Its modules take and give the backend's own voxels, in float32."""

    name: str

    def voxels(self, coords: Tensor, features: Tensor) -> Voxels:
        """Voxels (V,) from `coords` (V, 4) int32, unique, frame number first, and `features` (V, C) float32."""
        ...

    def features(self, voxels: Voxels) -> Tensor:
        """Features (V, C), on the finest level in the order of the coordinates given to `voxels`."""
        ...

    def with_features(self, voxels: Voxels, features: Tensor) -> Voxels:
        """The same voxels with other features (V, C')."""
        ...

    def join(self, one: Voxels, other: Voxels) -> Voxels:
        """The channels of two tensors of the same voxels, one after the other."""
        ...

    def convolution(self, inputs: int, outputs: int, kernel: int) -> nn.Module:
        """A convolution with a cube of side `kernel`, odd, whose outputs are at the voxels of its input; no bias."""
        ...

    def down(self, inputs: int, outputs: int) -> nn.Module:
        """A 2 x 2 x 2 convolution of stride 2, to the next coarser level; no bias."""
        ...

    def up(self, inputs: int, outputs: int) -> nn.Module:
        """A transposed 2 x 2 x 2 convolution of stride 2, back to the voxels of the next finer level; no bias."""
        ...
