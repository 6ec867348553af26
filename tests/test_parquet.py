"""Reading Parquet leaves nothing behind that could disturb the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.synthetic_store import write_synthetic_store

THREADS = """
import os, sys
from pathlib import Path
import pyarrow as pa
from ovps.parquet import read_parquet

before = len(os.listdir("/proc/self/task"))
for file in map(Path, sys.argv[1:]):
    read_parquet(file).to_pylist()
print(len(os.listdir("/proc/self/task")) - before)
"""

SHORT = """
import sys
from pathlib import Path
import torch
from ovps.cache.reader import Store

Store.open(Path(sys.argv[1]))
sys.exit(4)  # as a command does that is given another store
"""


def run(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_reading_starts_no_thread(tmp_path):
    store = write_synthetic_store(tmp_path / "store", frames=2)
    done = run(THREADS, *sorted((store / "manifest").glob("*.parquet")))
    assert done.stdout == "0\n", done.stderr


def test_a_short_command_that_reads_a_store_ends_with_its_exit_code(tmp_path):
    """With pyarrow's threads two of three aborted (SIGABRT): three runs all pass once in 27."""
    store = write_synthetic_store(tmp_path / "store", frames=2)
    assert [run(SHORT, store).returncode for _ in range(3)] == [4] * 3
