from copy import deepcopy

import pytest
import torch

from ovps.model.network import Network
from ovps.training.config import load_config
from ovps.training.optimiser import OptimiserConfig, learning_rate, make_optimiser
from tests.training.small import SMALL


def test_rate_falls_to_a_fifth_twice():
    rates = [learning_rate(OptimiserConfig(), step, 90) for step in range(90)]
    assert rates[:60] == [8e-4] * 60
    assert rates[60:80] == pytest.approx([1.6e-4] * 20)
    assert rates[80:] == pytest.approx([3.2e-5] * 10)


def test_rate_rises_at_first_if_asked():
    config = OptimiserConfig(lr=1.0, warmup=0.1)
    assert [learning_rate(config, step, 50) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_only_matrices_and_kernels_decay():
    network = Network(load_config("driveworld", SMALL).model, 13, 16, 4)
    decayed, free = make_optimiser(network, OptimiserConfig(weight_decay=0.5)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    names = {id(p): n for n, p in network.named_parameters()}
    assert len(names) == len(decayed["params"]) + len(free["params"])
    assert {"classifier.bias", "queries.learned", "queries.stuff"} <= {names[id(p)] for p in free["params"]}
    assert all(p.ndim >= 2 for p in decayed["params"])


@pytest.mark.parametrize("fused", [False, True])
def test_it_goes_on_exactly_from_its_state(fused):
    def steps(optimiser, layer, numbers) -> None:
        for number in numbers:
            for i, parameter in enumerate(layer.parameters()):
                parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(10 * number + i))
            optimiser.step()

    def made(start=None):
        torch.manual_seed(0)
        layer = torch.nn.Linear(30, 20)
        optimiser = make_optimiser(layer, OptimiserConfig(), fused)
        if start is not None:
            layer.load_state_dict(start[0])
            optimiser.load_state_dict(start[1])
        return layer, optimiser

    straight, optimiser = made()
    steps(optimiser, straight, range(6))
    first, optimiser = made()
    steps(optimiser, first, range(3))
    second, optimiser = made(deepcopy((first.state_dict(), optimiser.state_dict())))
    steps(optimiser, second, range(3, 6))
    assert torch.equal(straight.weight, second.weight)
    assert optimiser.param_groups[0]["fused"] is (fused or None)
    plain, optimiser = made()
    optimiser.param_groups[0]["fused"] = None
    steps(optimiser, plain, range(6))
    torch.testing.assert_close(straight.weight, plain.weight, rtol=1e-5, atol=1e-7)
