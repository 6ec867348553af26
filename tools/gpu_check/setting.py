"""What every stage is told, and the small things that all of them do."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Setting:
    """Of a whole check; a stage gets one with its own deadline.

    Attributes:
        device: `cuda` or `cpu`.
        tiny: sizes at which everything runs in seconds on a CPU; the figures then mean nothing.
        out: results, log and what else is to be kept.
        work: scratch: worlds, caches, runs, and a MinkowskiEngine that had to be installed.
        wheels: folder of wheels, see `tools/gpu_wheels.py`.
        deadline: of the stage, by `time.monotonic`.
    """

    device: str
    tiny: bool
    out: Path
    work: Path
    wheels: Path
    deadline: float = float("inf")

    @property
    def left(self) -> float:
        """Seconds until the stage is ended."""
        return self.deadline - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def site(self) -> Path:
        """On the module path of every stage: where a stage installs what is missing."""
        return self.work / "site"

    @property
    def cores(self) -> int:
        return len(os.sched_getaffinity(0))

    def synchronise(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, action: Callable[[], object], *, rounds: int = 5, warm_up: int = 2, most: float = 10.0) -> float:
        """Median seconds of an action, the device's work included; fewer rounds if they take over `most` seconds."""
        for _ in range(warm_up):
            action()
        times: list[float] = []
        while len(times) < rounds and sum(times) < most:
            self.synchronise()
            begin = time.perf_counter()
            action()
            self.synchronise()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def free_memory(self) -> None:
        """Give back what is no longer used, and begin to count anew."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        """Of the GPU's memory since `free_memory`."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.on_gpu else None


def apart(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Length of the difference over length of the reference, in float64 on the CPU."""
    a, b = (t.detach().double().cpu() for t in (ours, reference))
    return float((a - b).norm() / b.norm().clamp(min=1e-12))
