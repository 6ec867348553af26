"""Objective of a run on a batch: the loss of its system. Only the network runs in the config's precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ovps.batch.sample import Batch
from ovps.errors import SetupError
from ovps.losses.total import LossTerms
from ovps.model.class_text import ClassText
from ovps.plugins import misgiven
from ovps.protocols import described
from ovps.systems.protocol import System
from ovps.training.config import TrainConfig
from ovps.training.loop import Objective, not_finite


def make_objective(
    system: System,
    config: TrainConfig,
    classes: ClassText,
    mean_l1: float,
    reduce: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Objective:
    """The objective of a run.

    Args:
        system: whose loss it is.
        classes: that it is supervised with, on the device of the batches.
        mean_l1: see `ovps.batch.statistics.ClipStatistics`.
        reduce: of normalisers over processes, see `ovps.losses.total.loss_terms`.
    """

    def objective(network: nn.Module, batch: Batch, step: int) -> LossTerms:
        device = batch.voxels.coords.device.type
        with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16"):
            outputs = network(batch.voxels)
        _check_finite(outputs, batch, step)
        terms: Any = system.loss(network, outputs, batch, classes, mean_l1, config.loss, reduce)
        fault = _terms_fault(terms)
        if fault:
            raise misgiven("system", system, "loss", fault, SetupError)
        return terms

    return objective


def _terms_fault(terms: Any) -> str | None:
    """Say what a loss gives that cannot be trained with; None if it can."""
    if not isinstance(terms, LossTerms):
        return f"{described(terms)}, expected LossTerms"
    parts: Any = terms.parts
    if not isinstance(parts, dict):
        return f"parts that are {described(parts)}, expected scalar tensors by name"
    for name, value in {"supervised": terms.supervised, "voxel": terms.voxel, **parts}.items():
        if not isinstance(value, Tensor) or value.ndim:
            return f"{name}: {described(value)}, expected a scalar tensor"
    if torch.is_grad_enabled() and not terms.total.requires_grad:
        return "a loss without gradients: it was detached, or depends on nothing that is learned"
    return None


def _check_finite(outputs: Any, batch: Batch, step: int) -> None:
    """The matching of queries to segments cannot take what is not finite.

    Raises:
        TrainingError: the outputs of the network are not finite.
    """
    if not torch.stack([t.detach().sum().float() for t in _tensors(outputs)]).isfinite().all():
        raise not_finite("outputs of the network that are not finite", step, batch.tokens)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """The tensors within lists and dataclasses."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, (list, tuple)):
        for item in outputs:
            yield from _tensors(item)
    elif is_dataclass(outputs):
        for field in fields(outputs):
            yield from _tensors(getattr(outputs, field.name))
