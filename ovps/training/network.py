"""The network of a run, as its system builds it."""

from __future__ import annotations

from inspect import Parameter
from typing import Any

from torch import nn

from ovps import systems
from ovps.batch.voxels import INPUT_DIM
from ovps.errors import SetupError
from ovps.plugins import misgiven
from ovps.protocols import can_be_called, described, line_of
from ovps.systems.protocol import Shape
from ovps.training.config import TrainConfig
from ovps.training.run_files import RunInfo


def make_network(config: TrainConfig, info: RunInfo, backend: str | None = None) -> nn.Module:
    """Build the network of a run, weights drawn from torch's generator.

    Args:
        backend: engine of the sparse convolutions, instead of the config's.

    Raises:
        ConfigError: no such system or backend.
        SetupError: the backend is not installed, or what the system builds is no network.
    """
    shape = Shape(INPUT_DIM, info.clip.clip_dim, len(info.classes.names), len(info.classes.stuff))
    model = config.model
    if backend is not None:
        model = model.model_copy(update={"encoder": model.encoder.model_copy(update={"backend": backend})})
    system = systems.get(config.system)
    network: Any = system.build(model, shape)
    if not isinstance(network, nn.Module):
        fault = f"{described(network)}, expected a torch module"
    elif not any(parameter.requires_grad for parameter in network.parameters()):
        fault = f"{type(network).__name__} without parameters: there is nothing to train"
    elif not can_be_called(network.forward, [Parameter("batch", Parameter.POSITIONAL_ONLY)]):
        where = line_of(network.forward) or "a module of torch"
        fault = f"{type(network).__name__} whose `forward` cannot be called with (batch), {where}"
    else:
        return network
    raise misgiven("system", system, "build", fault, SetupError)
