"""How much of a training step is waiting for data, drive world, config `driveworld`; every frame is read again.

python -m benchmarks.bench_trainer
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.rows import Row, table
from benchmarks.setting import options
from ovps.training.metrics import read_metrics
from pipelines.options import TrainOptions
from pipelines.precompute import precompute
from pipelines.train import train

STEPS, FIRST = 24, 4  # the first ones warm up


def rows() -> list[Row]:
    """Seconds of the steps that were spent waiting."""
    store = precompute(options()).out
    found = []
    for workers in (0, 1):
        changes = (f"steps={STEPS}", "log_interval=1", "data.keep_mb=0", f"data.workers={workers}")
        with tempfile.TemporaryDirectory() as folder:
            train(TrainOptions(cache=store, out=Path(folder) / "run", overrides=changes))
            steps = read_metrics(Path(folder) / "run")[FIRST:]
        waiting, whole = (sum(step[f"seconds/{name}"] for step in steps) / len(steps) for name in ("data", "step"))
        loader = f"{workers} loader process" if workers else "no loader process, as the config has it"
        found.append(Row(f"waiting for data, {loader}", "training step", 1e3 * waiting, 1e3 * whole, "ms", 0.02))
    return found


if __name__ == "__main__":
    print(table(rows()))
