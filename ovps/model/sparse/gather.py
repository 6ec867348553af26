"""Sparse convolutions in plain torch: gather the inputs of an offset, multiply, add to the outputs.

It needs no compiler and runs wherever torch does; MinkowskiEngine is faster on a CPU (`benchmarks/bench_sparse.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise, product

import torch
from torch import Tensor, nn

Pairs = list[tuple[Tensor, Tensor]]  # for each offset of a kernel: rows of the input, rows of the output


@dataclass(eq=False)
class Level:
    """The voxels of one resolution, and what was found out about them.

    Attributes:
        coords: (V, 4) int64, unique: frame, then x, y, z in cells of this level.
        finer: the level that this one was made from, None for the first.
        parent: (V',) int64, of each voxel of `finer` the row of the voxel here that holds it.
    """

    coords: Tensor
    finer: Level | None = None
    parent: Tensor | None = None
    _coarser: Level | None = None
    _neighbours: dict[int, Pairs] = field(default_factory=dict)
    _children: Pairs | None = None

    def coarser(self) -> Level:
        """The level of cells twice as large."""
        if self._coarser is None:
            scale = torch.tensor([1, 2, 2, 2], device=self.coords.device)
            coarse = torch.div(self.coords, scale, rounding_mode="floor")
            unique, parent = torch.unique(coarse, dim=0, return_inverse=True)
            self._coarser = Level(unique, self, parent)
        return self._coarser

    def neighbours(self, kernel: int) -> Pairs:
        """Pairs of voxels for each offset of a cube of odd side, x fastest: the input lies at output + offset."""
        if kernel not in self._neighbours:
            reach = kernel // 2
            low = self.coords.amin(dim=0) - reach
            span = (self.coords.amax(dim=0) + reach + 1 - low)[1:]  # wide enough that no neighbour wraps around
            stride = torch.stack([span.prod(), torch.ones_like(span[0]), span[0], span[0] * span[1]])
            key = ((self.coords - low) * stride).sum(dim=1)
            sorted_key, row = key.sort()
            offsets = torch.tensor(list(product(range(-reach, reach + 1), repeat=3)), device=key.device)  # z, y, x
            wanted = key + (offsets * stride[[3, 2, 1]]).sum(dim=1, keepdim=True)
            place = torch.searchsorted(sorted_key, wanted).clamp(max=len(key) - 1)
            offset, output = (sorted_key[place] == wanted).nonzero(as_tuple=True)
            self._neighbours[kernel] = _by_offset(offset, row[place[offset, output]], output, len(offsets))
        return self._neighbours[kernel]

    def children(self) -> Pairs:
        """Pairs of a finer voxel and the voxel here that holds it, for each of the eight places in it, x fastest."""
        if self._children is None:
            assert self.finer is not None
            assert self.parent is not None
            place = (self.finer.coords[:, 1:] % 2 * torch.tensor([1, 2, 4], device=self.coords.device)).sum(dim=1)
            octant, rows = place.sort(stable=True)
            self._children = _by_offset(octant, rows, self.parent[rows], 8)
        return self._children


def _by_offset(offset: Tensor, source: Tensor, target: Tensor, offsets: int) -> Pairs:
    """Pairs that are sorted by their offset, offset by offset; the host reads where each ends, once."""
    ends = torch.searchsorted(offset, torch.arange(offsets, device=offset.device), right=True).tolist()
    bounds = [slice(begin, end) for begin, end in pairwise([0, *ends])]
    return [(source[part], target[part]) for part in bounds]


@dataclass(frozen=True, eq=False)
class Voxels:
    """Features (V, C) at the voxels of a level."""

    level: Level
    features: Tensor


class Convolution(nn.Module):
    """A kernel, applied where `step` says.

    Args:
        size: side of the kernel.
        step: 0: stays on the level; 1: to the coarser; -1: to the finer.
    """

    def __init__(self, inputs: int, outputs: int, size: int, step: int) -> None:
        super().__init__()
        volume = size**3
        shape = (inputs, outputs) if volume == 1 else (volume, inputs, outputs)
        bound = 1 / math.sqrt((outputs if step < 0 else inputs) * volume)  # as MinkowskiEngine draws them
        self.kernel = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.size, self.step = size, step

    def forward(self, x: Voxels) -> Voxels:
        if self.kernel.dim() == 2:
            return replace(x, features=x.features @ self.kernel)
        level, pairs = self._pairs(x.level)
        out = x.features.new_zeros(len(level.coords), self.kernel.shape[-1])
        for weight, (source, target) in zip(self.kernel, pairs, strict=True):
            if len(source):
                out.index_add_(0, target, x.features[source] @ weight)
        return Voxels(level, out)

    def _pairs(self, level: Level) -> tuple[Level, Pairs]:
        if self.step == 0:
            return level, level.neighbours(self.size)
        if self.step > 0:
            coarser = level.coarser()
            return coarser, coarser.children()
        if level.finer is None:
            raise ValueError("no finer level to go back to")
        return level.finer, [(coarse, fine) for fine, coarse in level.children()]


class Gather:
    """Plain torch."""

    name = "torch"

    def voxels(self, coords: Tensor, features: Tensor) -> Voxels:
        return Voxels(Level(coords.long()), features)

    def features(self, voxels: Voxels) -> Tensor:
        return voxels.features

    def with_features(self, voxels: Voxels, features: Tensor) -> Voxels:
        return replace(voxels, features=features)

    def join(self, one: Voxels, other: Voxels) -> Voxels:
        return replace(one, features=torch.cat([one.features, other.features], dim=1))

    def convolution(self, inputs: int, outputs: int, kernel: int) -> nn.Module:
        return Convolution(inputs, outputs, kernel, 0)

    def down(self, inputs: int, outputs: int) -> nn.Module:
        return Convolution(inputs, outputs, 2, 1)

    def up(self, inputs: int, outputs: int) -> nn.Module:
        return Convolution(inputs, outputs, 2, -1)


BACKEND = Gather()
