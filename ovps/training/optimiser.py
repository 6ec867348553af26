"""AdamW and its schedule, a pure function of the step: nothing of it needs saving."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from ovps.training.settings import OptimiserConfig


def make_optimiser(network: nn.Module, config: OptimiserConfig) -> AdamW:
    """AdamW in two groups: matrices and kernels decay; norms, biases, scalars and learned queries do not."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (free if parameter.ndim < 2 or name.startswith("queries.") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return AdamW([g for g in groups if g["params"]], lr=config.lr)


def learning_rate(config: OptimiserConfig, step: int, total: int) -> float:
    """Rate of update `step` (from 0) of `total`."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    passed = sum(step >= round(part * total) for part in config.milestones)
    return config.lr * config.decay**passed


def set_learning_rate(optimiser: AdamW, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
