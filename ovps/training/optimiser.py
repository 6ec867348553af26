"""AdamW and its schedule, a pure function of the step: nothing of it needs saving."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field
from torch import nn
from torch.optim import AdamW

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class OptimiserConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """AdamW with a multi-step schedule.

    Attributes:
        lr: peak learning rate.
        weight_decay: of matrices and kernels; norms, biases, queries and scalars are not decayed.
        warmup: part of the schedule over which the rate rises linearly from zero.
        milestones: parts of the schedule after which the rate is multiplied by `decay`.
        clip_norm: largest gradient norm; 0 switches clipping off.
    """

    lr: float = Field(default=8e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: Fraction = 0.0
    milestones: tuple[Fraction, ...] = (2 / 3, 8 / 9)
    decay: float = Field(default=0.2, gt=0, le=1)
    clip_norm: float = Field(default=10.0, ge=0)


def make_optimiser(network: nn.Module, config: OptimiserConfig, fused: bool | None = None) -> AdamW:
    """AdamW in two groups: matrices and kernels decay; norms, biases, scalars and learned queries do not.

    Args:
        fused: all parameters of a group in one operation, which rounds otherwise than one after the other; None: where
            they are on a GPU.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (free if parameter.ndim < 2 or name.startswith("queries.") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    chosen = next(network.parameters()).is_cuda if fused is None else fused
    return AdamW([g for g in groups if g["params"]], lr=config.lr, fused=chosen or None)


def learning_rate(config: OptimiserConfig, step: int, total: int) -> float:
    """Rate of update `step` (from 0) of `total`."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    passed = sum(step >= round(part * total) for part in config.milestones)
    return config.lr * config.decay**passed


def set_learning_rate(optimiser: AdamW, rate: float) -> None:
    """Set the learning rate of every group of parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate
