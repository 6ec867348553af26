"""A synthetic store and a run of one step on it, for tests of what comes after training."""

from __future__ import annotations

from pathlib import Path

from ovps.model.panoptic import MergeConfig
from pipelines.train import TrainOptions, train
from tests.helpers.synthetic_store import write_synthetic_store

TINY = (
    *("steps=1", "threads=1", "model.width=16", "model.heads=2", "model.ffn=16", "model.layers=1", "model.queries=8"),
    *("model.encoder.channels=[8,16]", "model.encoder.blocks=1", "model.encoder.norm=layer", "data.batch_size=1"),
)

# an untrained network is sure of nothing: without thresholds it still labels points
LOOSE = MergeConfig(score=0.0, overlap=0.0, mask=0.02)


def untrained(folder: Path, **store) -> tuple[Path, Path]:
    """Run and store, both written into `folder`."""
    cache = write_synthetic_store(folder / "zarr", frames=2, **store)
    train(TrainOptions(cache=cache, out=folder / "run", overrides=TINY))
    return folder / "run", cache
