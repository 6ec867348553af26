"""Stores that have lost some manifests, by whoever reads them: what is left is used, and the loss is told."""

from __future__ import annotations

import pytest

from ovps.cache.info import store_info
from pipelines.export import export
from pipelines.options import (
    ArraysOptions,
    ConvertOptions,
    ExportOptions,
    MergeOptions,
    SubsetOptions,
)
from pipelines.stores.convert import convert
from pipelines.stores.plain import export_arrays
from pipelines.stores.select import merge, subset
from pipelines.train import TrainOptions, train
from pipelines.tune import tune
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.readers import READERS
from tests.pipelines.untrained import TINY


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A run, and its store of six frames a split in partitions of two, of which one of each split lost its manifest."""
    folder = tmp_path_factory.mktemp("lost")
    cache = write_synthetic_store(folder / "zarr", frames=6)
    train(TrainOptions(cache=cache, out=folder / "run", overrides=TINY))
    lost = sorted((cache / "manifest").iterdir())[::3]
    for file in lost:
        file.unlink()
    return folder / "run", cache, [file.stem for file in lost]


def merged(cache, out):
    """The store and a part of it."""
    subset(SubsetOptions(cache=cache, out=out / "part", limit=1))
    return merge(MergeOptions(caches=(str(cache), str(out / "part")), out=out / "all"))


ALL = READERS | {
    "info": lambda run, cache, out: store_info(cache).warnings,
    "tune": lambda run, cache, out: tune(run, cache).warnings,
    "export without a run": lambda run, cache, out: export(ExportOptions(cache=cache, out=out, npz=True)).warnings,
    "cache export": lambda run, cache, out: export_arrays(ArraysOptions(cache=cache, out=out)).warnings,
    "cache subset": lambda run, cache, out: subset(SubsetOptions(cache=cache, out=out)).warnings,
    "cache convert": lambda run, cache, out: convert(ConvertOptions(cache=cache, out=out, codec="dense")).warnings,
    "cache merge": lambda run, cache, out: merged(cache, out).warnings,
}


@pytest.mark.parametrize("reader", ALL.values(), ids=ALL)
def test_frames_that_nobody_can_read_are_told(damaged, tmp_path, reader):
    run, cache, lost = damaged
    told = [warning for warning in reader(run, cache, tmp_path / "out") if "lost the manifest" in warning]
    assert len(told) == 1
    assert f"{len(lost)} partitions of {cache}" in told[0]
    assert any(name in told[0] for name in lost)
    assert f"ovps cache verify {cache}" in told[0]


def test_so_does_a_training(damaged, tmp_path, capsys):
    _, cache, lost = damaged
    train(TrainOptions(cache=cache, out=tmp_path / "run", overrides=TINY))
    assert f"warning: {len(lost)} partitions of {cache} lost the manifest" in capsys.readouterr().err


def test_a_sound_store_has_lost_nothing(tmp_path):
    store = write_synthetic_store(tmp_path / "zarr", frames=4)
    assert not any("manifest" in warning for warning in store_info(store).warnings)
