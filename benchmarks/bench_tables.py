"""Reading the tables of nuScenes, against nuscenes-devkit (reference): CPU seconds and peak memory of a process.

The tables are as large as those of v1.0-trainval (benchmarks/trainval_tables.py), or a share of them: at full size the
devkit needs some 15 GB. They are made once, in data/bench.

    python -m benchmarks.bench_tables              # a tenth, both readers in turns
    python -m benchmarks.bench_tables --scenes 850 --without-devkit
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.rows import Row
from benchmarks.setting import ROOT
from benchmarks.trainval_tables import SCENES, VERSION, write_trainval_tables

_OURS = """
from ovps import datasets
begin = process_time()
frames = datasets.get("nuscenes").frames(Path(sys.argv[1]), sys.argv[2], ("train", "val"))
"""
_DEVKIT = """
from nuscenes.nuscenes import NuScenes
begin = process_time()
frames = NuScenes(sys.argv[2], sys.argv[1], verbose=False).sample
"""
_BEFORE = "import sys\nfrom pathlib import Path\nfrom time import process_time\n"
# the peak of this program alone: ru_maxrss begins with that of the process that started it
_AFTER = """
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(process_time() - begin, len(frames), int(peak) / 2**20)
"""


def measured(reader: str, root: Path) -> tuple[float, int, float]:
    """CPU seconds without imports, frames, and GiB, of a process of its own on one core."""
    done = subprocess.run(
        [sys.executable, "-c", _BEFORE + reader + _AFTER, str(root), VERSION],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, frames, memory = done.stdout.split()[-3:]
    return float(seconds), int(frames), float(memory)


def rows() -> list[Row]:
    """CPU seconds of opening the tables, a tenth of v1.0-trainval."""
    root = ROOT / f"trainval-{SCENES // 10}"
    if not (root / VERSION).is_dir():
        write_trainval_tables(root, SCENES // 10)
    (ours, _, memory), (theirs, _, more) = measured(_OURS, root), measured(_DEVKIT, root)
    return [
        Row("tables of nuScenes, a tenth", "nuscenes-devkit", ours, theirs, "s"),
        Row("memory at the peak with them", "nuscenes-devkit", memory, more, "GiB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=SCENES // 10)
    parser.add_argument("--root", type=Path, help="where the tables lie, or are made")
    parser.add_argument("--without-devkit", action="store_true")
    given = parser.parse_args()
    root = given.root or ROOT / f"trainval-{given.scenes}"
    if not (root / VERSION).is_dir():
        write_trainval_tables(root, given.scenes)
    seconds, frames, memory = measured(_OURS, root)
    speed = f"{frames / seconds:,.0f} frames/s"
    print(f"ovps:   {frames:,} frames in {seconds:.1f} s of CPU, {speed}, {memory:.2f} GiB at the peak")
    if given.without_devkit:
        return
    theirs, _, more = measured(_DEVKIT, root)
    print(f"devkit: opened in {theirs:.1f} s of CPU, {more:.2f} GiB at the peak")
    print(f"the devkit takes {theirs / seconds:.1f} times as long and {more / memory:.1f} times the memory")


if __name__ == "__main__":
    main()
