"""Files of a later version of ovps: told as that, and nothing is advised that would throw them away."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.numpy import load, save

from cache_schemas import content_sha256
from ovps import doctor
from ovps.cache.layout import INFO_SHA256
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.errors import CacheError, CheckpointError, ConfigError, CorruptStoreError, VocabularyError
from ovps.files import safetensors_metadata
from ovps.training.run import load_run
from ovps.training.run_files import load_settings
from ovps.vocabulary import load_vocabulary
from pipelines.evaluate import evaluate, load_result, save_result
from pipelines.experiment.collect import earlier
from pipelines.experiment.join import read_part
from pipelines.options import RepairOptions
from pipelines.stores.repair import repair
from tests.training.small import small_run

RESULTS = Path(__file__).parents[1] / "docs/results/worlds/102"


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("versions") / "run"
    small_run(store, out, "steps=1")
    return out


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def cache(store, tmp_path):
    return shutil.copytree(store, tmp_path / "store")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    if INFO_SHA256 in content:
        del content[INFO_SHA256]
        content[INFO_SHA256] = content_sha256(content)
    path.write_text(json.dumps(content))


def refused(kind, use, *words):
    """What `use` says of a later version's file."""
    with pytest.raises(kind) as caught:
        use()
    said = str(caught.value)
    assert "Use the ovps that wrote it" in said
    assert all(word in said for word in words)
    for wrong in ("damaged", "--restart", "pydantic", "train again", "Restore", "elete"):
        assert wrong not in said
    assert not isinstance(caught.value, CorruptStoreError)


def test_a_run_of_a_later_format(run, store):
    edit(run / "run.json", lambda content: content.update(format="ovps-run-2", new=1))
    for use in (lambda: load_run(run), lambda: small_run(store, run, "steps=1")):
        refused(CheckpointError, use, "has format ovps-run-2, this ovps reads ovps-run-1", "run.json")


def test_a_run_with_more_fields(run):
    edit(run / "run.json", lambda content: content.update(new=1) or content["split"].update(newer=2))
    refused(CheckpointError, lambda: load_run(run), "does not know: split.newer, new", "run.json")


def test_a_run_with_values_of_another_version_or_none(run):
    edit(run / "run.json", lambda content: content.update(frames="many"))
    with pytest.raises(
        CheckpointError, match=r"or of another version: frames: .*Restore it, or use the ovps"
    ) as caught:
        load_run(run)
    assert "pydantic" not in str(caught.value)


def test_a_run_with_more_settings(run, store):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["model"]["newer"] = settings["new_option"] = 1
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    for use in (lambda: load_settings(run), lambda: small_run(store, run, "steps=1")):
        refused(CheckpointError, use, "does not know: ", "model.newer", "new_option", "config.yaml")


def test_a_setting_with_a_value_of_a_later_version(run):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("precision: float32", "precision: fp8"))
    with pytest.raises(CheckpointError, match=r"precision: .*Restore it, or use the ovps that wrote it") as caught:
        load_settings(run)
    assert "restart" not in str(caught.value)


def test_a_checkpoint_of_a_later_format(run, store):
    path = run / "checkpoints/last.pt"
    content = torch.load(path, weights_only=True)
    torch.save(content | {"format": "ovps-checkpoint-2", "step": {"count": 1}}, path)
    for use in (lambda: load_run(run), lambda: small_run(store, run, "steps=1")):
        refused(CheckpointError, use, "has format ovps-checkpoint-2, this ovps reads ovps-checkpoint-1", "last.pt")


def later_vocabulary(path):
    metadata = {"ovps-vocabulary-2": next(iter(safetensors_metadata(path.read_bytes()).values()))}
    path.write_bytes(save(load(path.read_bytes()), metadata=metadata))


def test_a_vocabulary_of_a_later_format(run, cache):
    later_vocabulary(run / "vocabulary.safetensors")
    words = "has format ovps-vocabulary-2, this ovps reads ovps-vocabulary-1", "vocabulary.safetensors"
    refused(VocabularyError, lambda: load_vocabulary(run / "vocabulary.safetensors"), *words)
    refused(CheckpointError, lambda: load_run(run), *words)
    later_vocabulary(cache / "vocabulary.safetensors")
    sha256 = hashlib.sha256((cache / "vocabulary.safetensors").read_bytes()).hexdigest()
    edit(cache / "store.json", lambda content: content.update(vocabulary_sha256=sha256))
    refused(VocabularyError, lambda: Store.open(cache).vocabulary, *words)


def test_scores_of_a_later_format(trained, store, tmp_path):
    save_result(evaluate(trained, store, out=tmp_path), tmp_path)
    edit(tmp_path / "metrics.json", lambda content: content.update(new=1))
    refused(ConfigError, lambda: load_result(tmp_path), "does not know: new", "metrics.json")
    edit(tmp_path / "metrics.json", lambda content: content.update(format="ovps-eval-2"))
    refused(ConfigError, lambda: load_result(tmp_path), "has format ovps-eval-2, this ovps reads ovps-eval-1")


def test_results_of_an_experiment_of_a_later_format(tmp_path):
    out = shutil.copytree(RESULTS, tmp_path / "out")
    assert earlier(out) is not None
    edit(out / "results.json", lambda content: content["runs"][0]["config"].update(new=1))
    for use in (lambda: read_part(out), lambda: earlier(out)):
        refused(ConfigError, use, "does not know: runs.0.config.new", "results.json")
    edit(out / "results.json", lambda content: content.update(format="ovps-experiment-2"))
    for use in (lambda: read_part(out), lambda: earlier(out)):
        refused(ConfigError, use, "has format ovps-experiment-2, this ovps reads ovps-experiment-1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["provenance"].update(new=1), "does not know: provenance.new"),
        (lambda content: content.update(new=1), "does not know: new"),
        (lambda content: content.update(schema_version=3), "schema version 3, this ovps reads version 2"),
    ],
)
def test_a_store_of_a_later_version_and_what_doctor_says_of_it(cache, change, words):
    def place():
        return next(check for check in doctor.examine(str(cache)).checks if check.name.startswith("cache"))

    assert place().status == "ok"
    edit(cache / "store.json", change)
    refused(CacheError, lambda: Store.open(cache), words, "store.json")
    check = place()
    assert (check.status, words in check.found) == ("problem", True)
    assert "Use the ovps that wrote it" in check.remedy


def test_classes_of_a_store_with_more_fields(cache):
    def change(content):
        content["taxonomy"]["new"] = 1
        content["provenance"]["taxonomy_sha256"] = content_sha256(content["taxonomy"])

    edit(cache / "store.json", change)
    refused(CacheError, lambda: Store.open(cache).taxonomy, "does not know: new", "store.json")


def test_a_manifest_of_a_later_version_is_neither_damaged_nor_repaired(cache):
    path = next((cache / "manifest").iterdir())
    table = pq.read_table(path)
    table = table.append_column("new", [[1]])
    pq.write_table(table.replace_schema_metadata({b"ovps_schema_version": b"3"}), path)
    before = path.read_bytes()
    words = "schema version 3, this ovps reads version 2", path.name
    refused(CacheError, lambda: Store.open(cache), *words)
    refused(CacheError, lambda: verify_store(cache), *words)
    refused(CacheError, lambda: repair(RepairOptions(path=cache, dataroot=cache)), *words)
    assert path.read_bytes() == before
