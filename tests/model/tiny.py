"""Small made-up frames for the tests of the network and of the losses."""

from __future__ import annotations

import torch
from torch import Tensor

from ovps.losses.targets import Targets
from ovps.losses.total import loss_terms
from ovps.model.class_text import ClassText
from ovps.model.config import EncoderConfig, ModelConfig
from ovps.model.inputs import VoxelBatch

INPUT_DIM, CLIP_DIM, BASE_STUFF = 5, 12, 2
CLUSTERS = 4  # of a frame


def config(**changes) -> ModelConfig:
    small = {
        "encoder": EncoderConfig(channels=(8, 12, 16), blocks=1, norm="layer"),
        "width": 24,
        "queries": 10,
        "layers": 2,
        "heads": 3,
        "ffn": 32,
        "position_bands": 3,
        "position_range": 10.0,
    }
    return ModelConfig(**(small | changes))


def classes(text, index, is_thing, trained=None) -> ClassText:
    """Classes from lists or tensors; all of them trained on unless told otherwise."""
    is_thing = torch.as_tensor(is_thing)
    everything = torch.ones_like(is_thing)
    return ClassText(
        text, torch.as_tensor(index), is_thing, everything if trained is None else torch.as_tensor(trained)
    )


def base_classes(seed: int = 0) -> ClassText:
    """Two things (0, 3) and two stuff classes (1, 4), a thing between them (2): ids are not contiguous by kind."""
    text = torch.nn.functional.normalize(torch.randn(7, CLIP_DIM, generator=torch.Generator().manual_seed(seed)), dim=1)
    return classes(text, [0, 1, 2, 3, 4, 0, 4], [True, False, True, True, False])


def frame(voxels: int = 300, seed: int = 0) -> VoxelBatch:
    g = torch.Generator().manual_seed(seed)
    grid = torch.randint(0, 16, (4 * voxels, 3), generator=g).unique(dim=0)
    grid = grid[torch.randperm(len(grid), generator=g)[:voxels]]
    v = len(grid)
    valid = torch.rand(v, generator=g) < 0.7
    clip = torch.nn.functional.normalize(torch.randn(v, CLIP_DIM, generator=g), dim=1) * valid[:, None]
    return VoxelBatch(
        coords=torch.cat([torch.zeros(v, 1), grid], dim=1).int(),
        features=torch.randn(v, INPUT_DIM, generator=g),
        position=grid.float() - 8 + 0.1 * torch.rand(v, 3, generator=g),
        clip=clip,
        clip_valid=valid,
        voxel_offsets=torch.tensor([0, v]),
        point_voxel=torch.arange(v),
        point_offsets=torch.tensor([0, v]),
        cluster=torch.randint(-1, CLUSTERS, (v,), generator=g),
    )


def together(frames: list[VoxelBatch]) -> VoxelBatch:
    """What a collate function does."""
    lengths = [len(f.coords) for f in frames]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    coords = torch.cat([f.coords for f in frames])
    coords[:, 0] = torch.arange(len(frames), dtype=torch.int32).repeat_interleave(torch.tensor(lengths))

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(f, name) for f in frames])

    return VoxelBatch(
        coords, joined("features"), joined("position"), joined("clip"), joined("clip_valid"), offsets,
        torch.arange(len(coords)), offsets, joined("cluster"),
    )  # fmt: skip


def targets(batch: VoxelBatch, seed: int = 0) -> Targets:
    """Sectors around the sensor: three things, one stuff class (the other is absent), one sector unlabelled."""
    g = torch.Generator().manual_seed(seed)
    sector = ((torch.atan2(batch.position[:, 1], batch.position[:, 0]) / torch.pi + 1) / 2 * 5).long().clamp(0, 4)
    return Targets(
        voxel_segment=torch.where(sector == 4, -1, sector),
        segment_class=torch.tensor([3, 4, 0, 3]),
        segment_is_thing=torch.tensor([True, False, True, True]),
        object_embedding=torch.randn(4, CLIP_DIM, generator=g),
        object_valid=torch.tensor([True, True, False, True]),
    )


def total_loss(*arguments) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What a step differentiates, and what it logs; arguments as in `loss_terms`."""
    terms = loss_terms(*arguments)
    return terms.total, terms.log()


def segments(targets: Targets) -> torch.Tensor:
    """(S, V) bool, the voxels of each segment."""
    return targets.voxel_segment == torch.arange(len(targets.segment_class))[:, None]
