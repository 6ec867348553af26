"""Batches of a run, from any forward pass on, with or without loader processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from torch.utils.data import Dataset

from ovps.batch.base_labels import ClassSplit
from ovps.batch.loader_workers import from_workers
from ovps.batch.order import draws, share
from ovps.batch.sample import Batch, join, make_sample
from ovps.batch.settings import AugmentationConfig, DataConfig
from ovps.cache.frame_data import CachedFrame, FrameRef
from ovps.cache.reader import Store
from ovps.cache.remedies import relabelling
from ovps.errors import ConfigError
from ovps.geometry.grid import Grid
from ovps.losses.config import ProposalConfig
from ovps.machine import check_processes
from ovps.model.clusters import ClusterConfig
from ovps.recently_used import RecentlyUsed


def training_frames(
    store: Store, subsets: tuple[str, ...], unlabelled: Literal["error", "skip", "use"] = "error"
) -> list[FrameRef]:
    """List the frames to train on, in the store's order.

    Args:
        unlabelled: what is done with frames without labels.

    Raises:
        ConfigError: there are none, or some have no labels.
        CorruptStoreError: as `Store.frames_of`.
    """
    frames = store.frames_of(subsets, "Name its subsets with --set data.subsets=[...], or precompute the missing ones")
    labelled = [ref for ref in frames if ref.labelled]
    if unlabelled == "use" or len(labelled) == len(frames):
        return frames
    if unlabelled == "error" or not labelled:
        others = "" if not labelled else ", or train on the others: --set data.unlabelled_frames=skip"
        raise ConfigError(
            f"{len(frames) - len(labelled)} of {len(frames)} frames of {', '.join(subsets)} have no labels",
            path=str(store.path),
            frame=next(ref.token for ref in frames if not ref.labelled),
            remedy=f"Add their labels to the data set and run {relabelling(store.provenance)}{others}",
        )
    return labelled


@dataclass
class Batches(Dataset[Batch]):
    """Batch number i is a pure function of (seed, i). Pickled to loader processes, which open the store themselves.

    Attributes:
        frames: to draw from.
        grid: to voxelise on.
        base: the classes whose labels are targets; None: labels are not looked at, and need not be there.
        seed: of order and augmentation.
        proposals: such are among the targets; None: none are.
        clusters: such clusters are part of the input; None: none are.
    """

    store: Store
    frames: list[FrameRef]
    grid: Grid
    base: ClassSplit | None
    seed: int
    data: DataConfig
    augmentation: AugmentationConfig
    proposals: ProposalConfig | None = None
    clusters: ClusterConfig | None = None
    _kept: RecentlyUsed[int, CachedFrame] | None = field(default=None, repr=False)

    def __getitem__(self, number: int) -> Batch:
        size = self.data.batch_size
        samples = [
            make_sample(
                self._frame(draw.frame),
                draw,
                seed=self.seed,
                grid=self.grid,
                augmentation=self.augmentation,
                base=self.base,
                proposals=self.proposals,
                clusters=self.clusters,
            )
            for draw in draws(self.seed, len(self.frames), number * size, size)
        ]
        return join(samples)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}

    def _frame(self, index: int) -> CachedFrame:
        if self._kept is None:
            self._kept = RecentlyUsed(_bytes, self.data.keep_mb * 2**20)
        return self._kept.get(index, lambda: self.store.read(self.frames[index]))


def iterate(batches: Batches, start: int, stop: int, *, rank: int = 0, count: int = 1) -> Iterator[Batch]:
    """Make the batches of process `rank` of `count` in forward passes start..stop-1, in order, with any workers.

    Which these are says `ovps.batch.order`; alone, pass i sees batch i.

    Raises:
        OvpsError: of reading a frame, in whatever process.
        TrainingError: a worker cannot start, has died, or finds no room for a batch.
    """
    numbers = share(start, stop, rank, count)
    check_processes("data.workers", batches.data.workers)
    if batches.data.workers:
        return from_workers(batches, numbers, batches.data.workers)
    return (batches[number] for number in numbers)


def _bytes(frame: CachedFrame) -> int:
    return sum(getattr(value, "nbytes", 0) for value in vars(frame).values())
