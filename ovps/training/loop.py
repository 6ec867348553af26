"""The loop: batches in, updates of the weights, one report per update. Files and progress bars are the caller's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from ovps.batch.loader import Batches, iterate
from ovps.batch.sample import Batch
from ovps.errors import TrainingError
from ovps.losses.total import LossTerms, gradient_ratio
from ovps.training.config import TrainConfig
from ovps.training.distributed import Processes, average_gradients, keep_gradients
from ovps.training.optimiser import learning_rate, set_learning_rate


@dataclass(frozen=True)
class StepReport:
    """One update of the weights.

    Attributes:
        step: updates done, this one included.
        losses: means over the forward passes of the update and over processes; `total` is what was differentiated.
        gradient_norm: before clipping; like the ratio, of the gradient averaged over processes.
        gradient_ratio: norm of the gradient of L_V over the norm of the rest's; None: not measured.
        data_seconds: spent waiting for batches, by this process.
        step_seconds: all of it, waiting included.
    """

    step: int
    losses: dict[str, float]
    gradient_norm: float
    gradient_ratio: float | None
    learning_rate: float
    data_seconds: float
    step_seconds: float

    def scalars(self) -> dict[str, float]:
        """Return its numbers by their names in TensorBoard and `metrics.jsonl`."""
        values = {f"loss/{name}": value for name, value in self.losses.items()}
        values |= {"gradient_norm": self.gradient_norm, "learning_rate": self.learning_rate}
        values |= {"seconds/data": self.data_seconds, "seconds/step": self.step_seconds}
        return values if self.gradient_ratio is None else values | {"gradient_ratio": self.gradient_ratio}


# What to minimise: network, batch, number of the step; see `ovps.training.objective`
Objective = Callable[[nn.Module, Batch, int], LossTerms]


class Pass(nn.Module):
    """Network and objective as one module: batch and step to LossTerms.

    The classifier works inside the objective, so this, and not the network, is what reaches every parameter.
    """

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, batch: Batch, step: int) -> LossTerms:
        return self.objective(self.network, batch, step)


def train_steps(
    network: nn.Module,
    optimiser: AdamW,
    batches: Batches,
    objective: Objective,
    config: TrainConfig,
    *,
    start: int,
    stop: int,
    total: int,
    processes: Processes | None = None,
) -> Iterator[StepReport]:
    """Do updates number start..stop-1 of `total`, on the device of the network; yield after each.

    Of several `processes` each calls this with the same arguments, but for an objective that averages its normalisers
    with `Processes.mean`; all of them get the same weights.

    Raises:
        TrainingError: loss or gradient is not finite; the weights are those before this update. Another process has
            gone.
    """
    device = next(network.parameters()).device
    processes = processes or Processes(device)
    network.train()
    run_pass = average_gradients(Pass(network, objective), processes)
    passes = config.accumulate
    stream = iterate(batches, start * passes, stop * passes, rank=processes.rank, count=processes.count)
    for step in range(start, stop):
        begin, waited, ratio = time.perf_counter(), 0.0, None
        rate = learning_rate(config.optimiser, step, total)
        set_learning_rate(optimiser, rate)
        optimiser.zero_grad(set_to_none=True)
        processes.seed(config.seed, step)
        logs: list[dict[str, Tensor]] = []
        tokens: list[str] = []
        for number in range(passes):
            asked = time.perf_counter()
            batch = next(stream).to(device)
            waited += time.perf_counter() - asked
            tokens += batch.tokens
            with nullcontext() if number == passes - 1 else keep_gradients(run_pass):
                terms = run_pass(batch, step)
                asked_for = config.gradient_interval and step % config.gradient_interval == 0
                if number == 0 and asked_for and terms.supervised.requires_grad:
                    ratio = gradient_ratio(terms, network.parameters(), processes.mean)
                (terms.total / passes).backward()
            logs.append(terms.log())
        clipped = torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.clip_norm or float("inf"))
        losses, norm = _mean(logs, processes), float(clipped)
        _check_finite(losses, norm, step, tokens)
        optimiser.step()
        yield StepReport(step + 1, losses, norm, ratio, rate, waited, time.perf_counter() - begin)


def _mean(logs: list[dict[str, Tensor]], processes: Processes) -> dict[str, float]:
    values = processes.mean(torch.stack([torch.stack(list(log.values())) for log in logs]).mean(dim=0))
    return dict(zip(logs[0], values.tolist(), strict=True))


def _check_finite(losses: dict[str, float], norm: float, step: int, tokens: list[str]) -> None:
    values = losses | {"gradient norm": norm}
    wrong = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise not_finite(", ".join(wrong), step, tokens)


def not_finite(what: str, step: int, tokens: Sequence[str]) -> TrainingError:
    """Make the error of an update that is not finite; `tokens` are of the frames of its batch."""
    return TrainingError(
        f"step {step + 1} gave {what}",
        frame=", ".join(tokens),
        remedy="Lower optimiser.lr, or check these frames with `ovps cache verify`; checkpoints are as they were",
    )
