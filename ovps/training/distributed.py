"""Several processes train one network. Everything that knows torch.distributed is here.

torchrun --nproc-per-node 4 -m ovps train --cache ./zarr --config nuscenes --out runs/nuscenes

Each process has one device and every process has the same weights. N processes of batch size B do what one process of
batch size N x B does: normalisers and gradients are averaged over processes, batch norm sees all of their voxels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ovps.errors import ConfigError, TrainingError
from ovps.shortage import faults

# How long a process waits for the others. The first one alone measures the statistics and writes checkpoints.
TIMEOUT = timedelta(minutes=15)


@dataclass(frozen=True)
class Processes:
    """Processes that train the network together, seen from this one; by default there is no other.

    Attributes:
        device: its own.
        rank: its number, from 0.
        count: N.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Tell whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes, of the same shape; without gradient. Alone: `value` itself.

        Raises:
            TrainingError: another process has gone.
        """
        if self.count == 1:
            return value
        total = value.detach().to(self.device, copy=True)
        with _others_answer():
            dist.all_reduce(total)
        return (total / self.count).to(value.device)

    def any(self, answer: bool) -> bool:
        """Tell whether any process answers yes.

        Raises:
            TrainingError: another process has gone.
        """
        return bool(self.mean(torch.tensor(float(answer), device=self.device)) > 0)

    def as_first(self, answer: bool) -> bool:
        """Take the answer of the first process; the others wait for it, and so for what it did before.

        Raises:
            TrainingError: another process has gone.
        """
        if self.count == 1:
            return answer
        value = torch.tensor(int(answer), device=self.device)
        with _others_answer():
            dist.broadcast(value, src=0)
        return bool(value)

    def meet(self) -> None:
        """Wait until every process is here."""
        self.mean(torch.zeros((), device=self.device))

    def seed(self, seed: int, step: int) -> None:
        """Seed torch's generators (dropout) by (seed, step, rank), so that processes differ and a run resumes exactly.

        Alone, they go on as they are: a checkpoint has their state, which of several processes it has not.
        """
        if self.count > 1:
            torch.manual_seed(int(np.random.default_rng([seed, step, self.rank]).integers(2**63)))


def first_process() -> bool:
    """Tell whether this process speaks for the run: the first of torchrun's, or one that it did not start."""
    return not _launched() or os.environ["RANK"] == "0"


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process where torchrun started several; otherwise `device`.

    Raises:
        ConfigError: the machine has fewer GPUs than processes.
    """
    if not _launched() or device.type != "cuda":
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise ConfigError(
            f"process {number} of this machine has no GPU: torch sees {there}",
            remedy=f"Start as many processes as GPUs: torchrun --nproc-per-node {there}",
        )
    return torch.device("cuda", number)


@contextmanager
def join(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, with `device` (`own_device`) for its own.

    A process group that is there already is used and left as it is.

    Raises:
        TrainingError: the others do not answer.
    """
    if dist.is_initialized():
        yield Processes(device, dist.get_rank(), dist.get_world_size())
        return
    if not _launched():
        yield Processes(device)
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    with _others_answer():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(device, dist.get_rank(), dist.get_world_size())
    except BaseException:
        # gloo closes its connections, and the others notice at once. nccl would wait for the others, who wait for this
        # one: it is the end of the process that frees them
        if not on_gpu:
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def synchronise_norms(network: nn.Module, processes: Processes) -> nn.Module:
    """Make batch norms see the voxels of all processes. Names in the state dict stay.

    Raises:
        ConfigError: there are some, and torch synchronises them on GPUs only.
    """
    if processes.count == 1 or not any(isinstance(m, _BatchNorm) for m in network.modules()):
        return network
    if processes.device.type != "cuda":
        raise ConfigError(
            f"batch norm over {processes.count} processes needs GPUs: each process would normalise by its own frames",
            remedy="Use a norm that depends on no other frame: --set model.encoder.norm=layer",
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def average_gradients(module: nn.Module, processes: Processes) -> nn.Module:
    """The module, with gradients that are means over processes after each backward pass. Alone: the module itself.

    Every parameter is reached in every pass, whatever a batch lacks, so no unused ones need finding. torch is told to
    look for them all the same (and warns that there are none), because it then keeps the layout of its buckets.
    Otherwise it rearranges them after the first step, sums of three and more processes round differently from then on,
    and a resumed run, whose first step comes later, ends in other bits.
    """
    if processes.count == 1:
        return module
    with _others_answer():
        return DistributedDataParallel(module, find_unused_parameters=True)


def keep_gradients(module: nn.Module) -> AbstractContextManager[None]:
    """Passes in here only add to the gradients of this process; the next pass outside averages the sum."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def _launched() -> bool:
    """Whether torchrun started this process, and others."""
    return dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


def alone() -> list[str]:
    """Warn of a process of several, by the variables that PyTorch's own launchers set, which trains alone."""
    count = os.environ.get("WORLD_SIZE", "")
    if not count.isdecimal() or int(count) < 2 or dist.is_torchelastic_launched() or dist.is_initialized():
        return []
    return [
        f"WORLD_SIZE is {count}, but torchrun did not start this process: it trains alone. Several train together by"
        " `torchrun --nproc-per-node N -m ovps train ...`"
    ]


@contextmanager
def _others_answer() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except faults(RuntimeError) as error:  # of gloo and nccl alike, DistError among them
        raise TrainingError(
            f"another process of the run ended or did not answer: {str(error).strip().splitlines()[0]}",
            remedy="See its own message; the same command goes on from the last checkpoint, if there is one",
        ) from error
