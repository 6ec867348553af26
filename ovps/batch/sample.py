"""One cached frame becomes one training sample: augment its points, voxelise again, make targets of base labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ovps.batch.augment import draw_transform, generator
from ovps.batch.base_labels import ClassSplit, make_targets
from ovps.batch.order import Draw
from ovps.batch.proposals import make_proposals
from ovps.batch.settings import AugmentationConfig
from ovps.batch.voxels import collate, frame_batch
from ovps.cache.frame_data import CachedFrame
from ovps.geometry.grid import Grid
from ovps.losses.config import ProposalConfig
from ovps.losses.targets import Targets, no_segments
from ovps.model.clusters import ClusterConfig
from ovps.model.inputs import VoxelBatch


@dataclass
class Batch:
    """The input and the targets of one forward pass.

    Attributes:
        voxels: B frames.
        targets: of each; none where nothing is learned from labels.
        tokens: of the frames, for messages.
    """

    voxels: VoxelBatch
    targets: list[Targets]
    tokens: tuple[str, ...]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.voxels.to(device), [t.to(device) for t in self.targets], self.tokens)


def make_sample(
    frame: CachedFrame,
    draw: Draw,
    *,
    seed: int,
    grid: Grid,
    augmentation: AugmentationConfig,
    base: ClassSplit | None,
    proposals: ProposalConfig | None = None,
    clusters: ClusterConfig | None = None,
) -> Batch:
    """Make a batch of one frame, augmented by (seed, epoch, frame).

    Args:
        base: the classes whose labels are targets; None: labels are not looked at, and need not be there.
        proposals: such are among the targets; None: none are.
        clusters: such clusters are part of the input; None: none are.
    """
    transform = draw_transform(generator(seed, draw.epoch, draw.frame), augmentation)
    voxels = frame_batch(frame, grid, transform, clusters)
    if base is None and proposals is None:
        return Batch(voxels, [], (frame.token,))
    targets = (
        no_segments(len(voxels.coords), voxels.clip.shape[1])
        if base is None
        else make_targets(frame, voxels.point_voxel.numpy(), len(voxels.coords), base)
    )
    if proposals is not None:
        targets = replace(targets, proposals=make_proposals(voxels, targets.voxel_segment, proposals))
    return Batch(voxels, [targets], (frame.token,))


def join(samples: list[Batch]) -> Batch:
    """Join samples into one batch, in order."""
    return Batch(
        collate([s.voxels for s in samples]),
        [t for s in samples for t in s.targets],
        tuple(token for s in samples for token in s.tokens),
    )
