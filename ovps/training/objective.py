"""What a run minimises on a batch: the losses of the method on queries, or distillation alone on voxels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ovps.batch.sample import Batch
from ovps.losses.base_classes import BaseClasses
from ovps.losses.total import LossTerms, loss_terms
from ovps.model.inputs import LayerOutput
from ovps.model.network import Network
from ovps.systems.openscene import distillation_loss
from ovps.training.config import TrainConfig
from ovps.training.loop import Objective, not_finite


def make_objective(
    config: TrainConfig,
    base: BaseClasses,
    mean_l1: float,
    reduce: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Objective:
    """The objective of a run. Only the network runs in the config's precision.

    Args:
        base: the classes it is supervised with.
        mean_l1: see `ovps.losses.distillation.mean_l1`.
        reduce: of normalisers over processes, see `ovps.losses.total.loss_terms`.
    """

    def on_queries(network: nn.Module, batch: Batch, step: int) -> LossTerms:
        assert isinstance(network, Network)
        with _precision(batch, config):
            outputs: list[LayerOutput] = network(batch.voxels)
        _check_finite([t for o in outputs for t in (o.class_embedding, *o.mask_logits)], batch, step)
        classify = network.class_logits
        return loss_terms(outputs, batch.voxels, batch.targets, classify, base, mean_l1, config.loss, reduce)

    def on_voxels(network: nn.Module, batch: Batch, step: int) -> LossTerms:
        with _precision(batch, config):
            features = network(batch.voxels)
        _check_finite([features], batch, step)
        loss = distillation_loss(features, batch.voxels.clip, batch.voxels.clip_valid, reduce)
        return LossTerms(torch.zeros_like(loss), loss, {"distillation": loss.detach()})

    return on_voxels if config.model.head == "voxel" else on_queries


def _precision(batch: Batch, config: TrainConfig) -> torch.autocast:
    return torch.autocast(batch.voxels.coords.device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _check_finite(tensors: list[Tensor], batch: Batch, step: int) -> None:
    """The matching of queries to segments cannot take what is not finite.

    Raises:
        TrainingError: the outputs of the network are not finite.
    """
    if not torch.stack([t.detach().sum() for t in tensors]).isfinite().all():
        raise not_finite("outputs of the network that are not finite", step, batch.tokens)
