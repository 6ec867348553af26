from dataclasses import asdict, replace

import pytest
import torch

from ovps.batch.loader import Batches, iterate, training_frames
from ovps.batch.order import draws
from ovps.batch.sample import Batch
from ovps.cache.reader import Store
from ovps.errors import ConfigError
from ovps.geometry.grid import Grid
from ovps.training.config import load_config
from pipelines.train import plan
from tests.training.small import SMALL, same_bits


def make(store, *overrides) -> Batches:
    config = load_config("driveworld", (*SMALL, "loss.proposal_weight=1", *overrides))
    opened = Store.open(store)
    batches, _ = plan(opened, config)
    return replace(batches, grid=Grid.parse("cylinder:60x45x8"))


def same(a: Batch, b: Batch) -> bool:
    pairs = [(a.voxels, b.voxels), *zip(a.targets, b.targets, strict=True)]
    return a.tokens == b.tokens and all(same_bits(asdict(x), asdict(y)) for x, y in pairs)


def test_every_epoch_sees_every_frame_once_in_another_order():
    epochs = [[d.frame for d in draws(0, 50, 50 * e, 50)] for e in range(3)]
    assert all(sorted(e) == list(range(50)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [d.epoch for d in draws(0, 50, 48, 4)] == [0, 0, 1, 1]


def test_the_stream_may_be_entered_anywhere():
    assert draws(3, 7, 0, 30)[11:20] == draws(3, 7, 11, 9)
    assert draws(3, 7, 0, 30) != draws(4, 7, 0, 30)


def test_a_batch_depends_on_its_number_only(store):
    batches = make(store)
    straight = list(iterate(batches, 0, 5))
    assert same(straight[3], next(iterate(make(store, "data.keep_mb=0"), 3, 4)))
    assert straight[0].targets[0].proposals is not None
    assert not torch.equal(straight[0].voxels.position[:10], straight[2].voxels.position[:10])


def test_what_is_proposed_is_a_setting_of_the_loss_and_not_of_inference(store):
    def proposed(*overrides):
        return [t.proposals for batch in iterate(make(store, *overrides), 0, 3) for t in batch.targets]

    plain, thresholds = proposed(), proposed("merge.split_gap=9", "merge.proposals.gap=9", "merge.proposals.smallest=9")
    assert all(torch.equal(a.voxel_proposal, b.voxel_proposal) for a, b in zip(plain, thresholds, strict=True))
    larger = proposed("loss.proposals.smallest=40")
    assert sum(len(p.valid) for p in larger) < sum(len(p.valid) for p in plain)
    assert set(proposed("loss.terms=[object, voxel]")) == {None}


def test_two_workers_give_the_batches_of_none(store):
    without = list(iterate(make(store), 1, 5))
    with_two = list(iterate(make(store, "data.workers=2"), 1, 5))
    assert len(with_two) == 4
    assert all(same(a, b) for a, b in zip(without, with_two, strict=True))


def test_only_frames_of_the_named_subsets(store):
    opened = Store.open(store)
    assert {ref.subset for ref in training_frames(opened, ("train",))} == {"train"}
    with pytest.raises(ConfigError, match="it has train, val"):
        training_frames(opened, ("test",))
