"""What a GPU would see, counted on the CPU: the stand-in tells what it claims to; a step seldom makes the host wait."""

from __future__ import annotations

import pytest
import torch

from ovps.cache.reader import Store
from ovps.model.panoptic import MergeConfig, merge
from ovps.training.config import load_config
from tests.helpers.synthetic_store import write_synthetic_store
from tests.training.small import SMALL
from tools.gpu_check.counts import PLAIN, counted_step
from tools.gpu_check.stand_in import DEVICE, StandIn, Tally, send, total


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store.open(write_synthetic_store(tmp_path_factory.mktemp("counts") / "store", subsets=("train",)))


def tallied(action) -> Tally:
    with StandIn() as seen:
        action(send(torch.arange(12.0).reshape(3, 4)))
    return seen.total


@pytest.mark.parametrize(
    ("action", "operations", "waits", "sends"),
    [
        (lambda x: (x + 1).T[0].sum(), 2, 0, 0),
        (lambda x: x.sum().item(), 1, 1, 0),
        (lambda x: x.cpu().numpy(), 0, 1, 0),
        (lambda x: x[0].tolist(), 0, 1, 0),
        (lambda x: x.nonzero(), 1, 1, 0),
        (lambda x: x[x > 3], 2, 1, 0),
        (lambda x: x[torch.tensor([0, 2])], 1, 0, 1),
        (lambda x: x * torch.tensor([2.0], device=x.device), 1, 0, 1),
        (lambda x: x * x.new_tensor(2.0), 1, 0, 1),
        (lambda x: torch.ones(3).to(x.device), 0, 0, 1),
    ],
)
def test_what_is_counted(action, operations, waits, sends):
    found = tallied(action)
    assert (found.operations, found.waits, found.sends) == (operations, waits, sends)


def test_bytes_are_those_in_and_out():
    assert tallied(lambda x: x + 1).bytes == 2 * 12 * 4


def test_a_tensor_of_the_cpu_among_those_of_the_device_is_an_error_as_on_a_gpu():
    with pytest.raises(RuntimeError, match="tensor of the CPU"):
        tallied(lambda x: x + torch.ones(3, 4))
    tallied(lambda x: x + torch.tensor(2.0))  # a number may come from anywhere


def test_gradients_are_those_of_the_cpu():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(4, 2), torch.randn(3, 4)
    (want,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    with StandIn():
        there = send(layer)
        there(send(x)).square().sum().backward()
        found = there.weight.grad.cpu()
    assert there.weight.device == DEVICE
    assert torch.equal(found, want)


def test_waits_of_a_step_do_not_grow_with_the_layers(store):
    waits = []
    for layers in (1, 3):
        settings = (*SMALL, *PLAIN, "model.encoder.channels=[8]", f"model.layers={layers}")
        places = counted_step(store, load_config("driveworld", settings))
        waits.append(total(t for place, t in places.items() if not place.startswith("model/sparse/")).waits)
    assert waits[0] == waits[1] <= 14  # four for each of two frames, outputs finite, two matchings, losses, gradient


def test_waits_of_the_merge_do_not_grow_with_the_queries():
    waits = []
    for queries in (5, 40):
        g = torch.Generator().manual_seed(0)
        probability, logits = torch.rand(queries, 4, generator=g), torch.randn(queries, 60, generator=g)
        is_thing, position = torch.tensor([True, True, False, True]), torch.randn(60, 3, generator=g)
        with StandIn() as seen:
            config = MergeConfig(score=0.1, overlap=0.1, duplicate=0.5)
            found = merge(*map(send, (probability, logits, is_thing, position)), config)
        assert torch.equal(
            found.voxel_instance.held, merge(probability, logits, is_thing, position, config).voxel_instance
        )
        waits.append(seen.total.waits)
    assert waits[0] == waits[1] <= 5
