"""`make reproduce` in small: every stage, then once more for what is missing only."""

from __future__ import annotations

import json

import pytest
import yaml

from ovps.errors import ConfigError
from pipelines.reproduce import load_experiment, reproduce

TINY_TRAINING = {
    "steps": 2,
    "threads": 1,
    "model": {
        "encoder": {"channels": [8, 16], "blocks": 1},
        "width": 16,
        "queries": 8,
        "layers": 1,
        "heads": 2,
        "ffn": 16,
    },
    "data": {"batch_size": 1, "grid": "cylinder:60x90x8"},
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A YAML file like the shipped ones, with everything in a temporary folder."""
    root = tmp_path_factory.mktemp("reproduce")
    (root / "train.yaml").write_text(yaml.safe_dump(TINY_TRAINING))
    values = {
        "world": {"scenes": 2, "frames": 1, "seed": 3, "workers": 1},
        "data": {"dataset": "nuscenes", "dataroot": str(root / "world"), "version": "v1.0-trainval"},
        "clip": {"encoder": "demo", "workers": 0},
        "train": str(root / "train.yaml"),
        "split": "b12n4",
        "cache": str(root / "zarr"),
        "run": str(root / "run"),
        "report": str(root / "report.html"),
    }
    (root / "experiment.yaml").write_text(yaml.safe_dump(values))
    return load_experiment(str(root / "experiment.yaml"))


@pytest.fixture(scope="module")
def page(experiment):
    return reproduce(experiment).read_text()


def test_the_report_has_scores_cameras_and_the_commands(experiment, page):
    result = json.loads((experiment.run / "eval" / "metrics.json").read_text())
    assert result["frames"] == 1
    assert result["step"] == TINY_TRAINING["steps"]
    assert f"{100 * result['system']['panoptic']['groups']['all']['miou']:.1f}" in page
    assert "the cache holds no images" not in page
    for command in ("world build", "precompute", "train", "eval"):
        assert f"ovps {command}" in page


def test_a_second_run_makes_nothing_again(experiment, page):
    products = [experiment.data.dataroot / "v1.0-trainval", experiment.cache, experiment.run / "checkpoints"]
    files = [f for p in products for f in p.rglob("*") if f.is_file() and f.suffix in (".bin", ".parquet", ".pt")]
    files.append(experiment.run / "eval" / "metrics.json")
    before = {f: f.stat().st_mtime_ns for f in files}
    assert len(before) >= 4
    reproduce(experiment)
    assert {f: f.stat().st_mtime_ns for f in files} == before


def test_new_weights_are_evaluated_again(experiment, page, monkeypatch):
    """A run that was evaluated half-way and then trained on must not keep its old scores."""
    metrics = experiment.run / "eval" / "metrics.json"
    old = json.loads(metrics.read_text())
    metrics.write_text(json.dumps(old | {"step": 1}))
    reproduce(experiment)
    assert json.loads(metrics.read_text())["step"] == TINY_TRAINING["steps"]


@pytest.mark.parametrize("name", ["driveworld", "nuscenes"])
def test_shipped_experiments_are_valid(name):
    experiment = load_experiment(name)
    assert (experiment.world is None) == (name == "nuscenes")


def test_an_unknown_experiment_names_the_known_ones():
    with pytest.raises(ConfigError, match="driveworld, nuscenes"):
        load_experiment("nothing")


def test_a_mistyped_key_is_an_error(tmp_path):
    (tmp_path / "bad.yaml").write_text("wrold: {scenes: 1}")
    with pytest.raises(ConfigError, match="wrold"):
        load_experiment(str(tmp_path / "bad.yaml"))
