"""docs/cache.md is true: its example reads a store without ovps, and its table is that of the schema."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from cache_schemas import ARRAYS, EARLIER
from ovps.cache.reader import Store

PAGE = (Path(__file__).parents[2] / "docs" / "cache.md").read_text(encoding="utf-8")
NAMES = ("xyz", "clip", "label", "intrinsics", "camera_from_lidar")


def test_the_example_reads_a_store_with_zarr_and_pyarrow_alone(store, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    program = "import sys\nfor name in ('ovps', 'cache_schemas'):\n    sys.modules[name] = None\n" + example
    program += f"\nnp.savez('found.npz', {', '.join(f'{name}={name}' for name in NAMES)})\n"
    (tmp_path / "zarr").symlink_to(store)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    found = np.load(tmp_path / "found.npz")
    opened = Store.open(store)
    ref = opened.frames[0]
    frame, camera = opened.read(ref), opened.cameras(ref)[0]
    for name in ("xyz", "label"):
        np.testing.assert_array_equal(found[name], getattr(frame, name))
    np.testing.assert_allclose(found["clip"], frame.clip, rtol=0, atol=1e-6)
    for name in ("intrinsics", "camera_from_lidar"):
        np.testing.assert_array_equal(found[name], getattr(camera, name))


def test_the_table_is_that_of_the_schema():
    rows = re.findall(r"^\| `(\w+/\w+)` \| \((.*?)\) \| (\w+) \|", PAGE, re.MULTILINE)
    written = {name: (tuple(d.strip() for d in dims.split(",") if d.strip()), dtype) for name, dims, dtype in rows}
    assert written == {spec.name: (tuple(map(str, spec.dims)), spec.dtype) for spec in (*ARRAYS, *EARLIER)}
