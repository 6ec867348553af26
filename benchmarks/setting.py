"""What the benchmarks share: a small drive world, its cache, and paired timing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from driveworld import build_world
from pipelines.precompute import PrecomputeOptions

ROOT = Path("data/bench")
FRAMES = 4


def options(codec: str = "cells", frames: int = FRAMES, **changes: Any) -> PrecomputeOptions:
    """Precompute of a drive world of one scene (made once) by the demo CLIP, in this process.

    Args:
        changes: of the encoder; name `out` too, and where there are other `frames`.
    """
    world = ROOT / ("world" if frames == FRAMES else f"world-{frames}")
    build_world(world, scenes=1, frames=frames, seed=5, workers=1)
    usual = {"encoder": "demo", "codec": codec, "out": ROOT / f"zarr-{codec}"}
    return PrecomputeOptions(dataroot=world, subsets=("train",), workers=0, **(usual | changes))


def paired(
    reference: Callable[[int], object], ours: Callable[[int], object], rounds: int
) -> tuple[float, float, float]:
    """Median seconds of both, and the median of the ratios reference / ours.

    The two run in turns, so that a noisy machine disturbs both; the first turn of each warms up and does not count.
    """
    times = [(_seconds(reference, i), _seconds(ours, i)) for i in range(rounds + 1)][1:]
    return median(r for r, _ in times), median(o for _, o in times), median(r / o for r, o in times)


def _seconds(action: Callable[[int], object], turn: int) -> float:
    begin = time.perf_counter()
    action(turn)
    return time.perf_counter() - begin
