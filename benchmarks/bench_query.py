"""A query over a million objects of 768 channels, against one copy of their vectors (reference: the bandwidth).

The vectors are random; the index is mapped from a file, as `ovps query` maps it. Wall and CPU seconds, two threads.

python -m benchmarks.bench_query
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.setting import ROOT
from ovps.viewer.index import BLOCK, search

CHANNELS, ROUNDS = 768, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    objects = parser.parse_args().objects
    torch.set_num_threads(2)
    file = ROOT / f"query-{objects}.npy"
    if not file.is_file():
        _write(file, objects)
    vectors = np.load(file, mmap_mode="c")
    rng = np.random.default_rng(1)
    text = rng.normal(size=(5, CHANNELS)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    print(f"{objects:,} objects, {CHANNELS} channels, {vectors.nbytes / 1e9:.2f} GB")
    for name, action in (
        ("a copy", lambda: [np.array(vectors[i : i + BLOCK]) for i in range(0, objects, BLOCK)]),
        ("the query", lambda: search(vectors, text[:1], text[1:], 50)),
    ):
        wall, cpu = _best(action)
        print(f"{name:10} {wall:6.2f} s, {cpu:6.2f} s of CPU")


def _write(file: Path, objects: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    out = np.lib.format.open_memmap(file, "w+", np.float16, (objects, CHANNELS))
    rng = np.random.default_rng(0)
    for start in range(0, objects, BLOCK):
        block = rng.standard_normal((min(BLOCK, objects - start), CHANNELS), np.float32)
        out[start : start + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()


def _best(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of the quickest round; the first reads the file and does not count."""
    times = []
    for _ in range(ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(times[1:])


if __name__ == "__main__":
    main()
