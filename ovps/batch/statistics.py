"""The mean CLIP feature of the training frames: what `F_rec` has to be better than. Uses no label, no other subset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ovps.cache.frame_data import FrameRef
from ovps.cache.reader import Store
from ovps.errors import CacheError, CheckpointError
from ovps.files import safetensors_metadata, write_whole
from ovps.progress import progress
from ovps.shortage import faults


@dataclass(frozen=True, eq=False)
class ClipStatistics:
    """Statistics of the CLIP features of the training frames' valid voxels.

    Attributes:
        mean: (C,) float32.
        mean_l1: distance of a voxel's feature to `mean`, summed over channels, averaged over voxels: the unit
            of L_V. A reconstruction no better than the mean has L_V = 1.
    """

    mean: Tensor
    mean_l1: float


def measure(store: Store, frames: Sequence[FrameRef], limit: int) -> ClipStatistics:
    """Measure the CLIP features of at most `limit` frames, spread evenly over `frames`.

    Raises:
        CacheError: none of them has a CLIP feature.
    """
    chosen = [
        frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, min(limit, len(frames))).round().astype(int))
    ]
    total, voxels, distance = np.zeros(store.provenance.clip_dim), 0, 0.0
    with progress("statistics", "frames", 2 * len(chosen)) as counter:
        for ref in chosen:
            frame = store.read(ref)
            total += frame.clip[frame.valid].sum(axis=0, dtype=np.float64)
            voxels += int(frame.valid.sum())
            counter.advance()
        if voxels == 0:
            raise CacheError(
                "no voxel of the training frames has a CLIP feature", path=store.path, remedy="Precompute again"
            )
        mean = (total / voxels).astype(np.float32)
        for ref in chosen:
            frame = store.read(ref)
            distance += float(np.abs(frame.clip[frame.valid] - mean).sum(dtype=np.float64))
            counter.advance()
    return ClipStatistics(torch.from_numpy(mean), distance / voxels)


def save_statistics(statistics: ClipStatistics, path: Path) -> None:
    """Write statistics as safetensors; float64 keeps `mean_l1` exact."""
    tensors = {"mean": statistics.mean, "mean_l1": torch.tensor(statistics.mean_l1, dtype=torch.float64)}
    write_whole(path, save(tensors, metadata={"sha256": _sha256(tensors)}))


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256()
    for name in sorted(tensors):
        content.update(tensors[name].numpy().tobytes())
    return content.hexdigest()


def load_statistics(path: Path) -> ClipStatistics:
    """Read statistics that `save_statistics` wrote.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        content = path.read_bytes()
        tensors = load(content)
        if safetensors_metadata(content)["sha256"] != _sha256(tensors):
            raise KeyError("its content is not what was written")
        return ClipStatistics(tensors["mean"], float(tensors["mean_l1"]))
    except faults(OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"cannot read the statistics of the run: {error}",
            path=path,
            remedy="Restore it, or train again: ovps train --restart, with the options that it was trained with",
        ) from error
