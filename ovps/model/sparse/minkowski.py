"""MinkowskiEngine as a backend [Choy et al. 2019]. The only file that knows it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ovps.extras import SET_UP, extra

_THREADS = "OMP_NUM_THREADS"


@contextmanager
def _one_number_of_threads() -> Iterator[None]:
    """Let OMP_NUM_THREADS be one number: MinkowskiEngine cannot be imported with others, which OpenMP takes.

    OpenMP passes over an empty one, and takes the first of a list, "4,2", for threads that start none themselves.
    """
    given = os.environ.get(_THREADS)
    try:
        int(given or "")
    except ValueError:
        os.environ.pop(_THREADS, None)
        first = (given or "").split(",")[0].strip()
        if first.isdecimal():
            os.environ[_THREADS] = first
    try:
        yield
    finally:
        if given is not None:
            os.environ[_THREADS] = given


with (
    extra("minkowski", f"Run: {SET_UP}, which builds it, or do without: choose backend torch"),
    _one_number_of_threads(),
):
    import MinkowskiEngine as ME


class Minkowski:
    """MinkowskiEngine, float32 or float64 only. Unique coordinates keep their order (a test says so)."""

    name = "minkowski"

    def voxels(self, coords: Tensor, features: Tensor) -> ME.SparseTensor:
        return ME.SparseTensor(features, coordinates=coords.int())

    def features(self, voxels: ME.SparseTensor) -> Tensor:
        return voxels.F

    def with_features(self, voxels: ME.SparseTensor, features: Tensor) -> ME.SparseTensor:
        key, manager = voxels.coordinate_map_key, voxels.coordinate_manager
        return ME.SparseTensor(features, coordinate_map_key=key, coordinate_manager=manager)

    def join(self, one: ME.SparseTensor, other: ME.SparseTensor) -> ME.SparseTensor:
        return ME.cat(one, other)

    def convolution(self, inputs: int, outputs: int, kernel: int) -> nn.Module:
        return ME.MinkowskiConvolution(inputs, outputs, kernel_size=kernel, bias=False, dimension=3)

    def down(self, inputs: int, outputs: int) -> nn.Module:
        return ME.MinkowskiConvolution(inputs, outputs, kernel_size=2, stride=2, bias=False, dimension=3)

    def up(self, inputs: int, outputs: int) -> nn.Module:
        return ME.MinkowskiConvolutionTranspose(inputs, outputs, kernel_size=2, stride=2, bias=False, dimension=3)


BACKEND = Minkowski()
