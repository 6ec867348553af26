"""docs/cache.md is true: its example reads a store without ovps, and its table is that of the schema."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from cache_schemas import ARRAYS, EARLIER
from ovps.cache import codecs
from ovps.cache.codecs.protocol import VoxelFeatures
from ovps.cache.codecs.state import state_sha256
from ovps.cache.reader import Store
from ovps.cache.where import storage_of
from ovps.cache.writer import create_store, encode_frame, write_partition
from ovps.taxonomy import load_taxonomy
from tests.cache.test_round_trip import CLIP_DIM, ragged_frame
from tests.helpers.synthetic_store import provenance, vocabulary

PAGE = (Path(__file__).parents[2] / "docs" / "cache.md").read_text(encoding="utf-8")
NAMES = ("xyz", "clip", "label", "intrinsics", "camera_from_lidar")


PLAIN, LOSSY, XARRAY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(store: Path, folder: Path, *examples: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What examples leave in these names, without ovps."""
    program = "import sys\nfor name in ('ovps', 'cache_schemas'):\n    sys.modules[name] = None\n" + "\n".join(examples)
    program += f"\nnp.savez('found.npz', {', '.join(f'{name}={name}' for name in names)})\n"
    (folder / "zarr").symlink_to(store)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)
    return dict(np.load(folder / "found.npz"))


def test_the_example_reads_a_store_with_zarr_and_pyarrow_alone(store, tmp_path):
    found = run(store, tmp_path, PLAIN, names=NAMES)
    opened = Store.open(store)
    ref = opened.frames[0]
    frame, camera = opened.read(ref), opened.cameras(ref)[0]
    for name in ("xyz", "label"):
        np.testing.assert_array_equal(found[name], getattr(frame, name))
    np.testing.assert_allclose(found["clip"], frame.clip, rtol=0, atol=1e-6)
    for name in ("intrinsics", "camera_from_lidar"):
        np.testing.assert_array_equal(found[name], getattr(camera, name))


def test_the_example_of_a_lossy_codec_takes_the_place_of_the_cells(tmp_path):
    """Its lines come in the place of those of the plain example that read cells."""
    cells = codecs.get("cells-pca")
    frame, features = ragged_frame(0, 0, 30, 12, 0, 0.8, False)
    weights = features.weights.multiply(1 / np.maximum(features.weights.sum(axis=1), 1e-9)[:, None])
    features = VoxelFeatures(features.cells, csr_array(weights, dtype=np.float32))
    state = cells.fit(features.cells)
    about = provenance(clip_dim=CLIP_DIM, codec=cells.name, codec_state_sha256=state_sha256(state))
    storage = storage_of(tmp_path / "s")
    create_store(storage, about, load_taxonomy("nuscenes"), vocabulary(clip_dim=CLIP_DIM), state)
    write_partition(storage, "scene.000000", "scene", [encode_frame(frame, features, cells, state)])
    start, end = PLAIN.index("cells = rows("), PLAIN.index("clip = np.zeros(")
    rest = PLAIN[end : PLAIN.index("label = ")]
    found = run(tmp_path / "s", tmp_path, PLAIN[:start], LOSSY, rest, names=("clip",))
    opened = Store.open(tmp_path / "s")
    np.testing.assert_allclose(found["clip"], opened.read(opened.frames[0]).clip, rtol=0, atol=1e-5)


def test_xarray_opens_a_store(store, tmp_path):
    extra = "xyz, dims = frame_points['xyz'].values, np.array(frame_points['xyz'].dims)"
    found = run(store, tmp_path, PLAIN, XARRAY, extra, names=("xyz", "dims"))
    opened = Store.open(store)
    np.testing.assert_array_equal(found["xyz"], opened.read(opened.frames[0]).xyz)
    assert found["dims"].tolist() == ["points", "size_3"]


def test_the_table_is_that_of_the_schema():
    rows = re.findall(r"^\| `(\w+/\w+)` \| \((.*?)\) \| (\w+) \|", PAGE, re.MULTILINE)
    written = {name: (tuple(d.strip() for d in dims.split(",") if d.strip()), dtype) for name, dims, dtype in rows}
    assert written == {spec.name: (tuple(map(str, spec.dims)), spec.dtype) for spec in (*ARRAYS, *EARLIER)}
