"""Precompute of ten times the frames, and by two workers instead of one.

    python -m benchmarks.bench_scaling

Every measurement is a process of its own. What starting takes is left out of the workers' times: they are those of a
long run less those of a short one.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.bench_flow import IN_MEMORY, repeated_frame
from benchmarks.rows import Row, table
from benchmarks.setting import ROOT
from benchmarks.simulated import plugged
from driveworld import build_world
from pipelines.precompute import PrecomputeOptions, precompute

FRAMES, PARTITION = 20, 10  # several partitions, so that memory is at its highest
LONG, SHORT = 16, 2  # frames that workers compute


def rows() -> list[Row]:
    """Seconds and bytes."""
    (one, low), (ten, high) = (_apart(repeated, times * FRAMES) for times in (1, 10))
    build_world(ROOT / "long-scene", scenes=1, frames=LONG, seed=5, workers=1)
    alone, both = (_apart(by_workers, workers, LONG) - _apart(by_workers, workers, SHORT) for workers in (1, 2))
    return [
        Row(f"precompute of {10 * FRAMES} frames", f"{FRAMES} frames", ten, one, "s", 10.5),
        Row(f"memory with {10 * FRAMES} frames", f"with {FRAMES}", high / 1e9, low / 1e9, "GB", 1.1),
        Row("precompute by 2 workers", "by 1, starting left out", both, alone, "s", 0.6),
    ]


def _apart(measure: Callable[..., Any], *given: int) -> Any:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, *given).result()


def repeated(frames: int) -> tuple[float, int]:
    """Seconds of so many frames without an encoder, and bytes of memory at the peak."""
    out = Path(tempfile.mkdtemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
    wanted = repeated_frame(out, workers=0, partition_frames=PARTITION)
    try:
        with plugged(0.0, frames):
            seconds = precompute(wanted).seconds
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    finally:
        shutil.rmtree(out)


def by_workers(workers: int, frames: int) -> float:
    """Seconds of the demo CLIP on some frames, the start of the workers included."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = PrecomputeOptions(
            dataroot=ROOT / "long-scene",
            subsets=("train",),
            encoder="demo",
            codec="cells",
            out=Path(folder) / "zarr",
            workers=workers,
            partition_frames=SHORT // 2,
            limit=frames,
        )
        return precompute(wanted).seconds


if __name__ == "__main__":
    print(table(rows()))
