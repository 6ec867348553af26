"""`make reproduce CONFIG=nuscenes-mini` on tables that look like v1.0-mini: all but the size is as it is shipped."""

from __future__ import annotations

import pyarrow.parquet as pq
import yaml
from typer.testing import CliRunner

from ovps.cache.reader import Store
from ovps.cli import app
from ovps.datasets.nuscenes_tables import official_splits
from pipelines.experiment.schema import load_experiment
from tests.helpers.mini_nuscenes import as_official, write_mini_nuscenes

TINY = {
    "epochs": 1,
    "threads": 1,
    "model.encoder.channels": [8, 16],
    "model.encoder.blocks": 1,
    "model.width": 16,
    "model.queries": 8,
    "model.layers": 1,
    "model.heads": 2,
    "model.ffn": 16,
    "data.grid": "cylinder:60x45x8",
    "data.workers": 0,
    "merge.score": 0.0,
    "merge.overlap": 0.0,
    "merge.mask": 0.02,
}


def test_the_first_experiment_on_nuscenes_mini(tmp_path, monkeypatch):
    splits = official_splits()
    drives = (*splits["mini_train"], *splits["mini_val"])
    root = write_mini_nuscenes(tmp_path / "data" / "nuscenes", scenes=len(drives), frames=1, image_size=(96, 54))
    as_official(root, "v1.0-mini", drives)
    shipped = load_experiment("nuscenes-mini").model_dump(mode="json", exclude_none=True, exclude={"name"})
    small = {"clip": {"encoder": "demo", "workers": 0}, "set": TINY, "systems": ["ovps"], "show": ["ovps"]}
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(shipped | small))
    monkeypatch.chdir(tmp_path)  # data/nuscenes is where it is looked for

    done = CliRunner().invoke(app, ["experiment", "run", "mini.yaml", "--yes"])
    assert done.exit_code == 0, done.output
    said = [
        done.output.index(text)
        for text in ("60 images to encode, about", "== ovps precompute", "1 evaluations to do, about", "== ovps train")
    ]
    assert said == sorted(said), "projected time first"
    store = Store.open(tmp_path / "zarr" / "nuscenes-mini")
    scenes = {
        subset: {ref.scene for ref in store.frames if ref.subset == subset} for subset in ("mini_train", "mini_val")
    }
    assert scenes == {name: set(splits[name]) for name in scenes}
    assert (len(scenes["mini_train"]), len(scenes["mini_val"])) == (8, 2)
    table = pq.read_table(tmp_path / "results" / "nuscenes-mini" / "results.parquet")
    assert set(table["system"].to_pylist()) == {"ovps"}
    assert "mini_val" in (tmp_path / "reports" / "nuscenes-mini.html").read_text()
