"""All benchmarks with an aim or a reference, as one table and as JSON.

    python -m benchmarks
    python -m benchmarks flow stages --json build/bench.json

Each runs in a process of its own, one after another. One that fails is told, the others go on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

import ovps
from benchmarks.rows import Row, record, rows_of, table
from ovps import machine

NAMES = ("precompute", "flow", "stages", "codecs", "trainer", "evaluation", "scaling", "step", "sparse", "tables")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(NAMES)}; without any, all")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results.json"))
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    rows: dict[str, list[Row]] = {}
    failed: dict[str, str] = {}
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in asked.names or NAMES:
            begin = time.perf_counter()
            try:
                rows[name] = pool.submit(rows_of, name).result()
            except Exception as error:  # whatever it is, the others have something to say
                failed[name] = f"{type(error).__name__}: {error}"
            print(f"{name}: {failed.get(name, 'done')}, {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    print(table([row for some in rows.values() for row in some]))
    about = {
        "version": ovps.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {machine.cores()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rows": [{"benchmark": name} | record(row) for name, some in rows.items() for row in some],
        "failed": failed,
    }
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(about, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
