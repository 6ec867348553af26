"""Does precompute keep an accelerator busy? Its wall time beside the larger of what the accelerator and the CPU need.

    python -m benchmarks.bench_flow --frames 120 --milliseconds 15

The accelerator is simulated (`benchmarks.simulated`): it waits for every image and uses no CPU. The frame is a real one
of nuScenes where OVPS_REAL_DATA names some, else one of the drive world, again and again. The store lies in memory,
where there is room: a disk that takes less than the frames come to would be measured instead.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.rows import Row
from benchmarks.setting import options
from benchmarks.simulated import DEVICE, plugged
from ovps import machine
from pipelines.precompute import PrecomputeOptions, precompute

VERSION = "v1.0-trainval"
IN_MEMORY = Path("/dev/shm")
AIM = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--milliseconds", type=float, default=15.0, help="of the accelerator, for each image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="processes; without it what precompute takes by itself")
    asked = parser.parse_args()
    cores, ratios = machine.cores(), []
    for _ in range(asked.rounds):
        wall, cpu, images = measured(asked.frames, asked.milliseconds / 1000, asked.workers)
        device = images * asked.milliseconds / 1000
        ratios.append(wall / max(device, cpu / cores))
        print(
            f"{asked.frames} frames, {images} images, {cores} cores: accelerator {device:.2f} s, CPU {cpu:.2f} s"
            f" ({cpu / asked.frames * 1000:.0f} ms a frame), wall {wall:.2f} s: {ratios[-1]:.2f} of the larger"
        )
    print(f"least of {asked.rounds}: {min(ratios):.2f}; aim {AIM:.2f}")


def rows(frames: int = 120, seconds: float = 0.015) -> list[Row]:
    """Wall clock of the whole stage, start and last write included."""
    wall, cpu, images = measured(frames, seconds)
    cores = machine.cores()
    larger = max(images * seconds, cpu / cores)
    name = "the accelerator's time" if larger == images * seconds else f"CPU time on {cores} cores"
    return [Row(f"precompute beside a simulated accelerator, {frames} frames", name, wall, larger, "s", AIM)]


def measured(frames: int, seconds: float, workers: int | None = None) -> tuple[float, float, int]:
    """Wall seconds from the first task to the last, CPU seconds of all processes, start included, and images."""
    out = Path(tempfile.mkdtemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
    wanted = repeated_frame(out, device=DEVICE, workers=workers)
    try:
        with plugged(seconds, frames):
            before = _cpu_seconds()
            summary = precompute(wanted)
            return summary.seconds, _cpu_seconds() - before, summary.images
    finally:
        shutil.rmtree(out)


def repeated_frame(out: Path, **changes: Any) -> PrecomputeOptions:
    """Precompute of one frame again and again by the simulated encoder, into a folder."""
    usual = {"dataset": "repeated", "version": VERSION, "subsets": ("train",), "encoder": "simulated", "codec": "cells"}
    return PrecomputeOptions.model_validate({**usual, "dataroot": dataroot(), "out": str(out / "zarr"), **changes})


def dataroot() -> Path:
    """Of the real frame, else of a drive world."""
    real = os.environ.get("OVPS_REAL_DATA")
    return Path(real) / "nuscenes" if real else Path(str(options().dataroot))


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
