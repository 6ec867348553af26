"""A run small enough for the suite: two seconds for ten steps on the synthetic store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ovps.batch.base_labels import ClassSplit
from ovps.taxonomy import load_split, load_taxonomy
from pipelines.train import TrainOptions, TrainSummary, train

SMALL = (
    "model.encoder.channels=[8,16]",
    "model.encoder.blocks=1",
    "model.width=32",
    "model.layers=2",
    "model.heads=4",
    "model.queries=16",
    "model.ffn=64",
    "data.batch_size=2",
    "data.grid=null",
    "data.keep_mb=50",
    "data.workers=0",
    "threads=1",
    "steps=4",
    "gradient_interval=3",
    "log_interval=1",
    "checkpoint_interval=2",
)


def small_run(store: Path, out: Path, *overrides: str, **options: Any) -> TrainSummary:
    """Train the small network on `store`."""
    return train(TrainOptions(cache=store, out=out, overrides=(*SMALL, *overrides), **options))


def weights(run: Path, name: str = "last") -> dict[str, Any]:
    """The content of a checkpoint."""
    return torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)


def same_bits(a: Any, b: Any) -> bool:
    """Whether two nested structures of tensors and plain values are equal bit by bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_bits(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same_bits(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def classes(split: str = "b12n4") -> ClassSplit:
    return ClassSplit(load_taxonomy("nuscenes"), load_split(split))
