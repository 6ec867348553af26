"""Experiments in small: every stage, then once more for what is missing only; killed, failed, and several at a time."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ovps import progress, shipped
from ovps.cache.manifest import read_manifests, write_manifest
from ovps.cache.where import storage_of
from ovps.errors import CacheError, CheckpointError, ConfigError, DatasetError, StorageError, TrainingError
from ovps.evaluation.comparison import Scored, class_spread, group_spread, spread
from ovps.evaluation.console import SCORES
from ovps.evaluation.results import FrameScore
from ovps.taxonomy import load_taxonomy
from ovps.training.config import load_config
from ovps.training.metrics import last_step
from ovps.training.run import load_run
from pipelines import train as train_module
from pipelines.evaluate import load_result
from pipelines.experiment import cell as one
from pipelines.experiment import queue, stores
from pipelines.experiment import runner as run_module
from pipelines.experiment.cell import Job
from pipelines.experiment.collect import collect, read_results, warnings_of
from pipelines.experiment.comparison_page import _taught_all, _taught_none, choose_frames
from pipelines.experiment.projection import Estimate, confirm, estimate, makespan
from pipelines.experiment.provenance import CodeState, code_state
from pipelines.experiment.runner import run, run_experiment
from pipelines.experiment.schema import load_experiment, selected
from pipelines.experiment.stages import Stages, duration
from pipelines.experiment.table import result_table
from pipelines.experiment.trainings import located, plan, store_name, training_key
from pipelines.experiment.watch import watched
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.test_report import pictures
from tests.training.relabel import relabelled_store
from tests.training.small import same_bits, weights

TINY = {
    "steps": 4,
    "threads": 1,
    "log_interval": 1,
    "checkpoint_interval": 1,
    "model": {
        "encoder": {"channels": [8, 16], "blocks": 1},
        "width": 16,
        "queries": 8,
        "layers": 1,
        "heads": 2,
        "ffn": 16,
    },
    "data": {"batch_size": 1, "grid": "cylinder:60x90x8"},
    "merge": {"score": 0.0, "overlap": 0.0, "mask": 0.02},
}
SYSTEMS = ["pfc", "minus_head", "ovps"]  # minus_head differs from ovps at inference only


def write_experiment(folder, cache, **changes):
    """A YAML file like the shipped ones, on a cache that is there."""
    (folder / "train.yaml").write_text(yaml.safe_dump(TINY))
    values = {
        "cache": str(cache),
        "runs": str(folder / "runs"),
        "out": str(folder / "out"),
        "report": str(folder / "report.html"),
        "train": str(folder / "train.yaml"),
        "splits": ["b12n4"],
        "seeds": [0, 1],
        "systems": SYSTEMS,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (values | changes).items() if v is not None}))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_synthetic_store(tmp_path_factory.mktemp("experiment") / "zarr", frames=2)


@pytest.fixture(scope="module")
def made(store, tmp_path_factory):
    """Two trainings of two seeds, six evaluations; the experiment, its folder and the summary."""
    folder = tmp_path_factory.mktemp("made")
    path = write_experiment(folder, store)
    return load_experiment(str(path)), folder, run(str(path))


@pytest.fixture(autouse=True)
def _untimed(monkeypatch):
    """Projections train a few steps of every kind; the module's own experiment has had one."""
    monkeypatch.setattr(run_module, "estimate", lambda jobs, runs, processes: Estimate(0, 0, 0.0, ""))


@pytest.fixture
def spies(monkeypatch):
    """Which runs are trained and which folders of scores are written from now on, by the real functions."""
    calls = {"train": [], "evaluate": []}
    real_train, real_evaluate = one.train, one.evaluate

    def train(options):
        calls["train"].append(options.out.name)
        return real_train(options)

    def evaluate(run, cache, **options):
        calls["evaluate"].append(options["out"].name)
        return real_evaluate(run, cache, **options)

    monkeypatch.setattr(one, "train", train)
    monkeypatch.setattr(one, "evaluate", evaluate)
    return calls


def products(folder):
    kinds = (".pt", ".safetensors", ".jsonl")
    files = [f for f in folder.rglob("*") if f.suffix in kinds or f.name in ("metrics.json", "frames.parquet")]
    return {f: f.stat().st_mtime_ns for f in files}


def table(folder):
    return pq.read_table(folder / "out" / "results.parquet").to_pylist()


def results(folder):
    return json.loads((folder / "out" / "results.json").read_text())["runs"]


# What is shared, what is done again


def test_systems_that_learn_the_same_share_a_training(made):
    experiment, folder, summary = made
    assert (summary.done, summary.missing) == (6, [])
    runs = sorted(f.name for f in (folder / "runs").iterdir())
    assert [re.sub(r"-\w{8}$", "", name) for name in runs] == [
        *("ovps-b12n4-s0", "ovps-b12n4-s1", "pfc-b12n4-s0", "pfc-b12n4-s1"),
    ]
    shared = next(t for t in plan(experiment) if t.run.name == runs[0])
    assert [e.system for e in shared.evaluations] == ["minus_head", "ovps"]
    assert load_run(shared.run).config.classifier.classes == "per_mask"  # trained as the plainest of the two
    head, ours = (load_result(shared.folder(e)) for e in shared.evaluations)
    assert head.checkpoint_sha256 == ours.checkpoint_sha256
    assert (head.inference["classes"], ours.inference["classes"]) == ("ensemble", "per_mask")
    assert head.system.panoptic != ours.system.panoptic


def test_the_same_again_does_nothing(made, spies):
    _, folder, summary = made
    before, lines = products(folder), table(folder)
    assert len(before) > 20
    assert run(str(folder / "tiny.yaml")) == summary
    assert spies == {"train": [], "evaluate": []}
    assert products(folder) == before
    assert table(folder) == lines


def test_a_part_does_nothing_and_shows_the_whole(made, spies):
    _, folder, _ = made
    lines = table(folder)
    assert run(str(folder / "tiny.yaml"), systems=("ovps",), seeds=(1,)).done == 6
    assert spies == {"train": [], "evaluate": []}
    assert table(folder) == lines


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        ({"dataroot": "nowhere"}, "Give the folder of data set nuscenes by `data.dataroot` of experiment tiny$"),
        ({"cameras": ["CAM_NONE"]}, "`data.cameras` of experiment tiny"),
        ({}, "with --on-error skip; the other options are taken by the command itself: ovps precompute --dataroot"),
    ],
)
def test_remedies_of_precompute_name_what_the_file_calls_it(mini_nuscenes, tmp_path, data, remedy):
    root = tmp_path / "world"
    shutil.copytree(mini_nuscenes, root)
    next(root.glob("samples/LIDAR_TOP/*")).write_bytes(b"cut off")
    asked = {"dataset": "nuscenes", "dataroot": str(root)} | data
    path = write_experiment(tmp_path, tmp_path / "zarr", seeds=[0], data=asked, clip={"encoder": "demo", "workers": 0})
    with pytest.raises((ConfigError, DatasetError), match=remedy):
        run(str(path))


def test_a_command_in_a_remedy_stays_a_command(mini_nuscenes, tmp_path, monkeypatch):
    asked = {"dataset": "nuscenes", "dataroot": str(mini_nuscenes)}
    path = write_experiment(tmp_path, tmp_path / "zarr", seeds=[0], data=asked, clip={"encoder": "demo", "workers": 0})

    def fails(options):
        raise CacheError("damaged", remedy=f"{said}`ovps cache repair z --dataroot FOLDER` after `ovps precompute`")

    monkeypatch.setattr(stores, "estimate", fails)
    for said in ("Run ", "Give --dataroot, or run "):
        with pytest.raises(CacheError) as told:
            run(str(path))
        before = said.replace("--dataroot", "`data.dataroot` of experiment tiny")
        assert told.value.remedy == f"{before}`ovps cache repair z --dataroot FOLDER` after `ovps precompute`"


@pytest.mark.slow
def test_parts_one_after_another_are_all_in_the_results(store, tmp_path, capsys):
    path = write_experiment(tmp_path, store, seeds=[0], systems=["ovps"])
    for seed in (0, 1, 2):
        assert run(str(path), seeds=(seed,)).missing == []
    assert {line["seed"] for line in table(tmp_path)} == {0, 1, 2}
    run(str(path), systems=("pfc",))
    assert {(line["system"], line["seed"]) for line in table(tmp_path) if line["kind"] == "system"} == {
        *(("ovps", seed) for seed in (0, 1, 2)),
        ("pfc", 0),
    }
    other = tmp_path / "ours.yaml"
    other.write_text("settings: {}")
    run(str(path), systems=("ovps", str(other)))
    other.unlink()
    assert run(str(path), seeds=(3,)).missing == []
    assert f"results of {other} are left out: no system" in capsys.readouterr().err
    done = {(line["system"], line["seed"]) for line in table(tmp_path) if line["kind"] == "system"}
    assert done == {*(("ovps", seed) for seed in range(4)), ("pfc", 0)}


@pytest.mark.slow
def test_results_that_are_left_out_are_named(store, tmp_path, capsys):
    path = write_experiment(tmp_path, store, seeds=[0], systems=["ovps"])
    for seed in (0, 1):
        run(str(path), seeds=(seed,))
    assert "left out" not in capsys.readouterr().err
    runs = {record["seed"]: record["run"] for record in results(tmp_path)}
    write_experiment(tmp_path, store, seeds=[0], systems=["ovps"], set={"steps": 3})
    run(str(path), seeds=(2,))
    told = capsys.readouterr().err.replace("\n", " ")
    for seed in (0, 1):
        assert f"ovps, b12n4, seed {seed} in {runs[seed]}" in told
    assert {record["seed"] for record in results(tmp_path)} == {2}
    other = path.rename(tmp_path / "other.yaml")
    other.write_text(yaml.safe_dump(yaml.safe_load(other.read_text()) | {"set": {"steps": 5}}))
    run(str(other), seeds=(0,))
    assert "results of the experiment tiny, with other settings or data, whose runs stay" in capsys.readouterr().err
    assert {record["seed"] for record in results(tmp_path)} == {0}
    first = results(tmp_path)[0]["run"]
    other.write_text(yaml.safe_dump(yaml.safe_load(other.read_text()) | {"set": {"steps": 4}}))
    run(str(other), seeds=(0,))  # the same cell
    assert f"ovps, b12n4, seed 0 in {first}" in capsys.readouterr().err.replace("\n", " ")


def test_results_of_runs_that_are_gone_are_not_said_to_stay(made, tmp_path, capsys):
    _, folder, _ = made
    for place in ("runs", "out"):
        shutil.copytree(folder / place, tmp_path / place)
    cache = load_experiment(str(folder / "tiny.yaml")).cache
    path = write_experiment(tmp_path, cache, seeds=[0], systems=["pfc"], set={"steps": 3})
    content = json.loads((tmp_path / "out" / "results.json").read_text().replace(str(folder), str(tmp_path)))
    del content["written"]  # which would tell of the change
    (tmp_path / "out" / "results.json").write_text(json.dumps(content))
    gone, lost = (next((tmp_path / "runs").glob(f"{name}-*")) for name in ("pfc-*-s1", "ovps-*-s1"))
    shutil.rmtree(gone)
    (lost / "checkpoints/last.pt").unlink()
    experiment = load_experiment(str(path))
    before = read_results(tmp_path / "out" / "results.json")
    said = run_module._other_results(before.runs, before.experiment, experiment)
    reasons = ("whose runs stay", "not here any more", "do not have any more")
    stay, left, weights = (next(text for text in said if reason in text) for reason in reasons)
    assert f"ovps, b12n4, seed 1 in {lost}" in weights
    assert "results of other settings or data, whose runs stay (" in stay
    assert str(gone) not in stay
    assert left.endswith(f"results of runs that are not here any more (pfc, b12n4, seed 1 in {gone})")


@pytest.mark.parametrize("content", [b"", b'{"format": "ovps-experiment-1", "exp', b"[]"])
def test_results_that_were_cut_off_are_told_before_any_work_and_stay(store, tmp_path, spies, content):
    file = tmp_path / "out" / "results.json"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"damaged, or no results.*Restore it, or delete it") as told:
        run(str(write_experiment(tmp_path, store)))
    assert told.value.path == str(file)
    assert (spies["train"], file.read_bytes()) == ([], content)


@pytest.mark.parametrize("place", ["out", "runs"])
def test_a_place_that_cannot_be_written_is_told_before_any_work(store, tmp_path, spies, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Not a directory.*file"):
        run(str(write_experiment(tmp_path, store, **{place: str(tmp_path / "file" / "below")})))
    assert spies["train"] == []


def test_a_copy_of_a_run_is_not_taken_for_it(tmp_path):
    experiment = load_experiment(str(write_experiment(tmp_path, tmp_path / "zarr", seeds=[0])))
    planned = [training.run for training in plan(experiment)]
    for folder in planned:
        folder.mkdir(parents=True)
        folder.with_name(f"backup-{folder.name}").mkdir()
    assert [training.run for training in plan(experiment)] == planned
    # trained as, and named after, a system that shares the training
    for folder in planned:
        for prefix in ("", "backup-"):
            folder.with_name(prefix + folder.name).rename(folder.with_name(f"{prefix}other-{folder.name}"))
    assert [training.run.name for training in plan(experiment)] == [f"other-{folder.name}" for folder in planned]


@pytest.mark.slow
def test_more_systems_train_only_what_is_new(made, tmp_path, spies):
    """On runs that another experiment left: plus_head is plus_fusion, and no_synonyms is ovps."""
    _, folder, _ = made
    shutil.copytree(folder / "runs", tmp_path / "runs")
    path = write_experiment(
        tmp_path,
        load_experiment(str(folder / "tiny.yaml")).cache,
        seeds=[0],
        systems=["ovps", "no_synonyms", "plus_fusion", "plus_head"],
    )
    assert run(str(path)).done == 4
    assert [re.sub(r"-\w{8}$", "", name) for name in spies["train"]] == ["plus_fusion-b12n4-s0"]
    assert spies["evaluate"] == [
        *("no_synonyms-b12n4-val", "plus_fusion-b12n4-val", "plus_head-b12n4-val"),
    ]


def test_every_split_has_its_pictures(store, tmp_path):
    splits = ["b12n4", "b11n5"]
    path = write_experiment(tmp_path, store, systems=["openscene"], seeds=[0], splits=splits)
    assert run(str(path)).done == 2
    page = (tmp_path / "report.html").read_text()
    assert [page.count(f"<h2>Frames, split {split}</h2>") for split in splits] == [1, 1]
    assert len(pictures(page)) == 2 * 2  # two frames each


def test_tuned_thresholds_are_of_one_system_and_of_inference(tmp_path):
    cache = tmp_path / "zarr"
    plain = load_experiment(str(write_experiment(tmp_path, cache, systems=["ovps", "pfc"], seeds=[0])))
    tuned = plain.model_copy(update={"tuned": {"pfc": {"merge.score": 0.15}}})
    ours, theirs = plan(plain), plan(tuned)
    assert [t.key for t in ours] == [t.key for t in theirs]
    scores = {e.system: e.merge.score for t in theirs for e in t.evaluations}
    assert scores["pfc"] == 0.15 != scores["ovps"]
    with pytest.raises(ConfigError, match=r"tuned: loss\.class_weight is no setting of inference"):
        load_experiment(str(write_experiment(tmp_path, cache, tuned={"pfc": {"loss.class_weight": 1}})))


def test_tuned_thresholds_are_of_a_file_by_whatever_path_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: pfc\nsettings: {loss.class_weight: 0.5}\n")
    for system, tuned in product(("mine.yaml", "./mine.yaml", str(tmp_path / "mine.yaml")), repeat=2):
        changes = {"systems": ["pfc", system], "seeds": [0], "tuned": {tuned: {"merge.score": 0.15}}}
        trainings = plan(load_experiment(str(write_experiment(tmp_path, tmp_path / "zarr", **changes))))
        assert {e.system: e.merge.score for t in trainings for e in t.evaluations} == {"pfc": 0.0, system: 0.15}
    twice = {"mine.yaml": {"merge.score": 0.15}, "./mine.yaml": {"merge.score": 0.2}}
    with pytest.raises(ConfigError, match=r"tuned: \./mine\.yaml and mine\.yaml are one system.*keep one"):
        load_experiment(str(write_experiment(tmp_path, tmp_path / "zarr", systems=["mine.yaml"], tuned=twice)))


def test_scores_of_other_weights_splits_and_settings_are_not_taken(made, tmp_path, monkeypatch):
    experiment, _, _ = made
    training = plan(experiment)[-1]
    evaluation = training.evaluations[-1]
    assert one.found(training, evaluation) is not None
    for change in (
        {"split": "b11n5"},
        {"subset": "train"},
        {"vocabulary": "single"},
        {"merge": evaluation.merge.model_copy(update={"score": 0.5})},
        {"classifier": evaluation.classifier.model_copy(update={"novel_weight": 0.7})},
    ):
        other = evaluation.model_copy(update=change)
        copied = training.model_copy(update={"run": tmp_path / "run"})
        shutil.rmtree(copied.run, ignore_errors=True)
        shutil.copytree(training.run, copied.run)
        if copied.folder(other) != copied.folder(evaluation):
            copied.folder(evaluation).rename(copied.folder(other))
        # a synthetic vocabulary has one synonym per class: `single` is the same vocabulary
        assert (one.found(copied, other) is None) == (change.get("vocabulary") is None), change
    assert one.found(copied, evaluation) is not None
    with (copied.run / "checkpoints/last.pt").open("ab") as file:
        file.write(b"x")
    assert one.found(copied, evaluation) is None


def write_split(path, name, novel):
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"name": name, "taxonomy": "nuscenes", "novel": novel}))
    return str(path)


def test_two_splits_of_one_name_are_no_two_seeds_of_one(store, tmp_path, capsys):
    one = write_split(tmp_path / "one.yaml", "same", ["bus"])
    two = write_split(tmp_path / "two.yaml", "same", ["car", "manmade"])
    path = write_experiment(tmp_path, store, splits=[one, two], systems=["pfc"], seeds=[0])
    with pytest.raises(ConfigError, match=r"one\.yaml and .*two\.yaml are both called 'same'.*`name`") as told:
        load_experiment(str(path))
    assert told.value.path == str(path)
    path = str(write_experiment(tmp_path, store, systems=["pfc"], seeds=[0]))
    for split in (one, two):
        run(path, splits=(split,))
        assert {r.split for r in read_results(tmp_path / "out" / "results.json").runs} == {"same"}
        assert len(read_results(tmp_path / "out" / "results.json").runs) == 1
    assert f"results of {one} are left out: {two} has its name" in capsys.readouterr().err


def test_a_file_by_another_path_is_the_same_file(store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_split(tmp_path / "mine.yaml", "mine", ["bus"])
    (tmp_path / "weak.yaml").write_text("base: pfc\nsettings: {loss.class_weight: 0.5}\n")
    path = str(write_experiment(tmp_path, store, systems=["pfc"], seeds=[0]))
    for place in ("", "./", f"{tmp_path}/"):
        assert run(path, splits=(f"{place}mine.yaml",), systems=(f"{place}weak.yaml",)).done == 1
    assert "left out" not in capsys.readouterr().err
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_what_another_split_of_the_same_classes_was_trained_for_is_scored(store, tmp_path):
    """A split is what it hides: one training, whatever the name, the file and the order of the classes."""
    one = write_split(tmp_path / "one.yaml", "one", ["bus", "car"])
    two = write_split(tmp_path / "two.yaml", "two", ["car", "bus"])
    path = str(write_experiment(tmp_path, store, systems=["pfc"], seeds=[0]))
    run(path, splits=(one,))
    (folder,) = (tmp_path / "runs").iterdir()
    before = weights(folder)
    run(path, splits=(two,))
    assert list((tmp_path / "runs").iterdir()) == [folder]
    assert same_bits(before, weights(folder))
    assert {r.split for r in read_results(tmp_path / "out" / "results.json").runs} == {"one", "two"}


def test_nested_settings_of_an_experiment_change_no_others_and_not_what_a_system_is(store, tmp_path):
    nested = write_experiment(tmp_path, store, set={"model": {"queries": 4}, "loss": {"class_weight": 3.0}})
    configs = [train_module.resolve(t.options) for t in plan(load_experiment(str(nested)))]
    dotted = write_experiment(tmp_path, store, set={"model.queries": 4, "loss.class_weight": 3.0})
    assert configs == [train_module.resolve(t.options) for t in plan(load_experiment(str(dotted)))]
    assert {config.model.width for config in configs} == {16}
    with pytest.raises(ConfigError, match=r"model\.cluster_queries makes a system what it is"):
        load_experiment(str(write_experiment(tmp_path, store, set={"model": {"cluster_queries": 3}})))
    with pytest.raises(ConfigError, match="unknown setting stepz") as told:
        load_experiment(str(write_experiment(tmp_path, store, set={"stepz": 4})))
    assert told.value.path == str(tmp_path / "tiny.yaml")


def test_a_split_of_other_classes_is_told_before_anything_is_made(tmp_path):
    path = tmp_path / "e.yaml"
    world = {"world": {"scenes": 1, "frames": 1}, "data": {"dataset": "nuscenes", "dataroot": str(tmp_path / "world")}}
    places = {name: str(tmp_path / name) for name in ("cache", "runs", "out", "report")}
    other = {"train": "driveworld", "splits": ["b14n5"], "systems": ["pfc"], "clip": {"encoder": "demo"}}
    path.write_text(yaml.safe_dump(world | places | other))
    with pytest.raises(ConfigError, match="is of taxonomy semantickitti"):
        run(str(path), yes=True)
    assert not (tmp_path / "world").exists()

    (tmp_path / "mine.yaml").write_text("{name: mine, taxonomy: nuscenes, novel: [trafic_cone]}")
    path.write_text(yaml.safe_dump(world | places | other | {"splits": [str(tmp_path / "mine.yaml")]}))
    with pytest.raises(ConfigError, match="names trafic_cone") as told:
        run(str(path), yes=True)
    assert told.value.path == str(tmp_path / "mine.yaml")
    every = [c.name for c in load_taxonomy("nuscenes").classes]
    write_split(tmp_path / "mine.yaml", "mine", every)
    with pytest.raises(ConfigError, match="leaves no base class to train on"):
        run(str(path), yes=True)
    assert not (tmp_path / "world").exists()


def test_killed_in_the_middle_it_goes_on_to_the_same_weights_and_scores(made, store, tmp_path, monkeypatch, spies):
    experiment, folder, _ = made
    path = write_experiment(tmp_path, store)
    real, seen = train_module.train_steps, []

    def killed(*args, **kwargs):
        for report in real(*args, **kwargs):
            yield report
            seen.append(report.step)
            if len(seen) == TINY["steps"] + 3:  # in the second training
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train_steps", killed)
        with pytest.raises(KeyboardInterrupt):
            run(str(path))
    assert len(spies["train"]) == 2
    assert len(spies["evaluate"]) == 1  # of the first
    first = products(tmp_path / "runs" / spies["train"][0])
    spies["train"].clear(), spies["evaluate"].clear()

    assert run(str(path)).done == 6
    assert (len(spies["train"]), len(spies["evaluate"])) == (3, 5)
    assert first.items() <= products(tmp_path).items()
    for a, b in zip(plan(experiment), plan(load_experiment(str(path))), strict=True):
        assert a.run.name == b.run.name
        assert same_bits(weights(a.run), weights(b.run))

    def scores(where):
        return [{k: v for k, v in line.items() if k != "training_minutes"} for line in table(where)]

    assert scores(folder) == scores(tmp_path)


def test_a_store_with_other_frames_is_trained_on_and_what_was_trained_before_stays(store, tmp_path, spies, capsys):
    cache = shutil.copytree(store, tmp_path / "zarr")
    path = write_experiment(tmp_path, cache, seeds=[0], systems=["minus_head", "ovps"])
    run(str(path))
    (before,) = spies["train"]
    kept = products(tmp_path / "runs")
    shutil.rmtree(cache)
    write_synthetic_store(cache, frames=3)
    for calls in spies.values():
        calls.clear()
    trainings = located(plan(load_experiment(str(path))))
    expected = estimate([Job(t) for t in trainings], tmp_path / "runs", 1)
    assert (expected.trainings, expected.evaluations) == (1, 2)

    assert run(str(path)).done == 2
    (after,) = spies["train"]
    assert after.startswith(f"{before}-")
    assert f"{before} learned from other frames" in capsys.readouterr().err
    assert len(spies["evaluate"]) == 2
    assert kept.items() <= products(tmp_path / "runs").items()
    records = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert {Path(r["run"]).name for r in records} == {after}
    assert json.loads((tmp_path / "runs" / after / "run.json").read_text())["frames"] == 3

    for calls in spies.values():
        calls.clear()
    run(str(path))
    assert spies == {"train": [], "evaluate": []}


def test_scores_of_other_frames_are_not_taken_although_they_are_as_many(store, tmp_path):
    cache = shutil.copytree(store, tmp_path / "zarr")
    path = write_experiment(tmp_path, cache, seeds=[0], systems=["pfc"])
    run(str(path))
    (training,) = plan(load_experiment(str(path)))
    assert one.found(training, training.evaluations[0]) is not None
    storage = storage_of(cache)
    for row in read_manifests(storage):
        frames = tuple(f.model_copy(update={"token": f"{f.token}-x"}) if f.subset == "val" else f for f in row.frames)
        write_manifest(storage, row.model_copy(update={"frames": frames}), row)
    assert one.found(training, training.evaluations[0]) is None


def test_scores_that_may_not_be_read_are_not_scored_again(made, monkeypatch):
    experiment, _, _ = made
    (training, *_) = plan(experiment)
    evaluation = training.evaluations[0]
    scores = training.folder(evaluation) / "metrics.json"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != scores)
    real = Path.read_text

    def closed(path, *given, **more):
        if path == scores:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *given, **more)

    monkeypatch.setattr(Path, "read_text", closed)
    with pytest.raises(ConfigError, match=r"may not be read .*metrics\.json.*chmod u\+r"):
        one.found(training, evaluation)


def test_labels_that_were_mended_are_scored_and_who_learned_from_others_is_named(
    store, tmp_path, spies, capsys, monkeypatch
):
    monkeypatch.setattr(run_module, "write_report", lambda *content: None)
    cache = shutil.copytree(store, tmp_path / "zarr")
    path = write_experiment(tmp_path, cache, seeds=[0], systems=["pfc", "openscene"])
    run(str(path))
    taught, label_free = plan(load_experiment(str(path)))
    before = [load_result(t.folder(t.evaluations[0])).references for t in (taught, label_free)]
    mended = relabelled_store(store, tmp_path / "mended", lambda raw, semantic, rng: np.roll(raw, 300))
    shutil.rmtree(cache)
    mended.rename(cache)
    spies["train"].clear(), spies["evaluate"].clear(), capsys.readouterr()
    assert run(str(path)).done == 2
    assert (len(spies["train"]), len(spies["evaluate"])) == (0, 2)
    assert f"warning: labels of {cache} lie in other files than when {taught.run.name} began" in capsys.readouterr().err
    for training, scores in zip((taught, label_free), before, strict=True):
        assert load_result(training.folder(training.evaluations[0])).references != scores
        assert one.found(training, training.evaluations[0]) is not None
        forget = {"content": None}  # as an earlier version wrote it: what it is of is not known
        old = load_result(training.folder(training.evaluations[0])).model_copy(update=forget)
        with monkeypatch.context() as patched:
            patched.setattr(one, "load_result", lambda folder, old=old: old)
            assert one.found(training, training.evaluations[0]) is None


def test_what_a_store_lacks_is_told_before_anything_is_trained(tmp_path, spies, monkeypatch, capsys):
    cache = write_synthetic_store(tmp_path / "zarr", frames=2, partition_frames=1)
    with pytest.raises(ConfigError, match="no frames of test"):
        run(str(write_experiment(tmp_path, cache, subset="test")))
    assert spies["train"] == []
    min((cache / "manifest").iterdir()).unlink()  # of frames of train
    monkeypatch.setattr(run_module, "run_all", lambda *work: None)  # as with --jobs: its words are in logs
    run(str(write_experiment(tmp_path, cache)), jobs=2)
    assert f"warning: 1 partition of {cache} lost the manifest" in capsys.readouterr().err


def test_what_scores_warn_of_is_told_and_on_the_page(made, tmp_path):
    """But not what an upper bound is meant to be: trained with novel labels too."""
    _, folder, _ = made
    shutil.copytree(folder / "runs", tmp_path / "runs")
    cache = load_experiment(str(folder / "tiny.yaml")).cache
    path = write_experiment(tmp_path, cache, seeds=[0], systems=["pfc", "closed_set"], subset="train")
    warning = "2 of 2 frames are of scenes that the run was trained on: synthetic-0000"
    assert run(str(path)).warnings == [warning]
    assert f'<p class="warning">{warning}</p>' in (tmp_path / "report.html").read_text()
    cells, _ = collect(plan(load_experiment(str(path))))
    plain = replace(cells[1].scored, result=cells[1].scored.result.model_copy(update={"warnings": []}))
    assert warnings_of([cells[0], replace(cells[1], scored=plain)]) == [f"{warning} (pfc, b12n4, seed 0)"]
    curves = cells[0].training.run / "metrics.jsonl"
    curves.write_bytes(bytes(500))  # of a machine whose power failed
    assert f"the curves of {curves} end at step 0" in warnings_of(cells)[1]


def test_what_cannot_go_on_offers_what_an_experiment_has(store, tmp_path):
    path = write_experiment(tmp_path, store, seeds=[0], systems=["pfc"])
    run(str(path))
    (training,) = plan(load_experiment(str(path)))
    info = json.loads((training.run / "run.json").read_text())
    (training.run / "run.json").write_text(json.dumps(info | {"processes": 2}))
    with pytest.raises(ConfigError, match=r"processes: 2 there, 1 now") as caught:
        run(str(path))
    assert "--restart" not in str(caught.value)
    assert "Delete the run's folder" in str(caught.value)
    shutil.rmtree(training.run)
    assert run(str(path)).done == 1


def test_a_damaged_checkpoint_is_trained_again_as_the_error_says(store, tmp_path):
    path = write_experiment(tmp_path, store, seeds=[0], systems=["pfc"])
    assert run(str(path)).done == 1
    (training,) = plan(load_experiment(str(path)))
    last = training.run / "checkpoints" / "last.pt"
    weights = load_run(training.run).network.state_dict()
    cut = last.read_bytes()[:1000]
    last.unlink()
    with pytest.raises(CheckpointError, match="missing, and the run has been at step 4") as gone:
        run(str(path))
    last.write_bytes(cut)
    with pytest.raises(CheckpointError, match="damaged, or not a checkpoint") as caught:
        run(str(path))
    assert "--restart" not in f"{caught.value}{gone.value}"
    assert gone.value.remedy == caught.value.remedy
    command = caught.value.remedy[caught.value.remedy.index("rm -r ") :]
    subprocess.run(shlex.split(command), check=True)
    assert run(str(path)).done == 1
    again = load_run(training.run).network.state_dict()
    assert all(torch.equal(again[name], value) for name, value in weights.items())


@pytest.mark.parametrize("undone", ["checkpoints/last.pt", "evaluations"])
def test_another_process_at_the_same_run_is_noticed(made, tmp_path, undone):
    experiment, _, _ = made
    training = plan(experiment)[0].model_copy(update={"run": tmp_path / "run"})
    shutil.copytree(plan(experiment)[0].run, training.run)
    shutil.move(training.run / undone, tmp_path)
    with one.exclusive(training.run), pytest.raises(CheckpointError, match="another process"):
        one.do(Job(training), Stages(tmp_path / "s.json").stage)


# Results


def test_the_table_holds_the_evaluations(made):
    experiment, folder, _ = made
    lines = {(x["system"], x["seed"], x["row"], x["group"]): x for x in table(folder)}
    assert len(lines) == len(table(folder))
    expected = 0
    for training in plan(experiment):
        for evaluation in training.evaluations:
            metrics = json.loads((training.folder(evaluation) / "metrics.json").read_text())
            rows = [metrics["system"], *metrics["variants"], *metrics["parts"]]
            # references once per split: from the first seed of ovps
            rows += metrics["references"] if (evaluation.system, evaluation.seed) == ("ovps", 0) else []
            for row in rows:
                for group, values in row["panoptic"]["groups"].items():
                    line = lines[evaluation.system, evaluation.seed, row["name"], group]
                    expected += 1
                    for score in SCORES:
                        silent = row["name"] == "clip_argmax" and score != "miou" and not group.endswith("/stuff")
                        assert line[score] == (None if silent else values[score])
                    assert line["split"] == "b12n4"
                    if row["name"] == "system":
                        recall = metrics["mask_recall"]
                        assert line["mask_recall"] == recall["queries"]["groups"][group]["recall"]
                        assert line["mask_recall_merged"] == recall["merged"]["groups"][group]["recall"]
                        assert line["steps"] == TINY["steps"]
                        assert line["parameters"] == sum(p.numel() for p in load_run(training.run).network.parameters())
                        assert 0 < line["training_minutes"] < 1
                groups = row["panoptic"]["groups"]
                expected += 1
                line = lines[evaluation.system, evaluation.seed, row["name"], "harmonic"]
                for score in ("pq", "miou"):
                    base, novel = (groups[group][score] for group in ("base", "novel"))
                    known = line[score] is not None
                    assert known == (None not in (base, novel) and not (row["name"] == "clip_argmax" and score == "pq"))
                    assert not known or line[score] * (base + novel) == pytest.approx(2 * base * novel)
    assert expected == len(lines)


def test_results_json_says_where_everything_comes_from(made):
    _, folder, _ = made
    results = json.loads((folder / "out" / "results.json").read_text())
    assert {(r["system"], r["seed"]) for r in results["runs"]} == set(product(SYSTEMS, (0, 1)))
    assert len({r["training_key"] for r in results["runs"]}) == 4
    record = results["runs"][0]
    assert record["cache"]["encoder"] == "synthetic"
    assert len(record["checkpoint_sha256"]) == 64
    assert len(record["classes"]["system"]) == 16
    assert record["config"]["model"]["fusion"] is (record["system"] != "pfc")
    assert {"commit", "dirty"} == set(results["code"])
    assert any(command.startswith("ovps train --cache") for command in results["seconds"])


def test_code_outside_a_checkout_has_no_commit(tmp_path):
    assert code_state(tmp_path).commit is None
    assert str(code_state(tmp_path)) == "not a git checkout"
    assert str(CodeState(commit="0123456789abcdef", dirty=True)) == "0123456789ab, with uncommitted changes"


def test_mean_and_sample_deviation_over_seeds(made):
    experiment, _, _ = made
    cells = [
        Scored("ovps", "b12n4", e.seed, load_result(t.folder(e)))
        for t in plan(experiment)
        for e in t.evaluations
        if e.system == "ovps"
    ]
    values = [c.result.system.panoptic.groups["base/stuff"].miou for c in cells]
    found = group_spread(cells, "base/stuff", "miou")
    assert found.count == 2
    assert found.mean == pytest.approx(sum(values) / 2)
    assert found.sd == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    cars = [next(c.iou for c in cell.result.system.panoptic.classes if c.name == "car") for cell in cells]
    assert class_spread(cells, "car", "iou").mean == pytest.approx(np.mean(cars))

    three = spread([0.1, None, 0.4, 0.7])
    assert (three.mean, three.sd, three.count) == (pytest.approx(0.4), pytest.approx(0.3), 3)
    assert spread([0.25]).sd is None
    assert spread([None]) is None


def test_the_page_is_whole(made):
    _, folder, _ = made
    page = (folder / "report.html").read_text()
    assert [p.format for p in pictures(page)] == ["PNG"] * 2  # two frames, one of them the worst
    lines = [x for x in table(folder) if (x["system"], x["row"], x["group"]) == ("ovps", "system", "all")]
    values = 100 * np.array([x["pq"] for x in lines])
    assert f"{values.mean():.1f}<small> ± {values.std(ddof=1):.1f}</small>" in page
    for text in (
        "the frame on which ovps has its lowest PQ of novel classes",
        "random class",
        "ovps without the unified head",
        "ovps, filled",
        "ovps train --cache",
        "--set classifier.classes=ensemble",
        'class="error"',
        "prefers-color-scheme: dark",
        "What was not measured",
    ):
        assert text in page
    assert "Random CLIP weights" not in page


def test_only_who_has_seen_all_labels_is_out_of_the_comparison():
    """openscene and label_free are trained once for all splits, with no label."""
    assert _taught_all(("ovps", "closed_set", "closed_set_long", "openscene", "label_free")) == {
        "closed_set",
        "closed_set_long",
    }
    assert _taught_none(("ovps", "closed_set", "openscene", "label_free")) == {"openscene", "label_free"}


def test_frames_are_chosen_by_a_rule():
    class Ref:
        def __init__(self, token):
            self.token = token

    frames = [Ref(str(i)) for i in range(10)]
    scores = [
        FrameScore(token=str(i), scene="s", index=i, base=None, novel=v) for i, v in enumerate([None, 0.5, 0.1, 0.1])
    ]
    chosen, rule, worst = choose_frames(frames, scores, "ovps", 2)
    assert ([f.token for f in chosen], worst) == (["2", "7"], "2")
    assert "lowest PQ of novel" in rule
    assert choose_frames(frames, [], "ovps", 2)[2] is None


# A real data set, with cameras


@pytest.fixture(scope="module")
def from_world(tmp_path_factory):
    """The whole way of `make reproduce` on a tiny drive world, with a second cache of random CLIP weights."""
    folder = tmp_path_factory.mktemp("world")
    path = write_experiment(
        folder,
        folder / "zarr",
        world={"scenes": 2, "frames": 1, "seed": 3, "workers": 1},
        data={"dataset": "nuscenes", "dataroot": str(folder / "world"), "version": "v1.0-trainval"},
        clip={"encoder": "demo", "workers": 0},
        caches={"random_clip": {"weights": "random"}},
        seeds=[0],
        systems=["ovps", "random_clip"],
    )
    run(str(path))
    return path


def test_from_the_world_to_the_page(from_world):
    page = (from_world.parent / "report.html").read_text()
    assert "the cache holds no images" not in page
    assert [p.format for p in pictures(page)] == ["PNG", "JPEG", "JPEG"]
    assert "<b>Random CLIP weights</b> behind random_clip" in page
    for command in ("world build", "precompute", "train", "eval"):
        assert f"ovps {command}" in page
    lines = table(from_world.parent)
    pq_of = {x["system"]: x["pq"] for x in lines if (x["row"], x["group"]) == ("system", "all")}
    assert f"{100 * pq_of['ovps']:.1f}" in page
    random = next(t for t in plan(load_experiment(str(from_world))) if t.system == "random_clip")
    assert load_result(random.folder(random.evaluations[0])).weights_random


def test_a_second_run_makes_nothing_again(from_world, spies):
    folder = from_world.parent
    before = products(folder) | {f: f.stat().st_mtime_ns for f in (folder / "world").rglob("*.bin")}
    before |= {f: f.stat().st_mtime_ns for f in folder.glob("zarr*/**/*.parquet")}
    run(str(from_world))
    assert spies == {"train": [], "evaluate": []}
    assert {f: f.stat().st_mtime_ns for f in before} == before


# Several at a time, and failures


@pytest.mark.slow
def test_processes_give_the_same_weights(made, store, tmp_path, monkeypatch):
    _, folder, _ = made
    path = write_experiment(tmp_path, store, seeds=[0], systems=["pfc", "ovps"])
    console = Console(width=80, record=True, force_terminal=False)
    monkeypatch.setattr(progress, "console", console)
    assert run(str(path), jobs=2).done == 2
    line = [line for line in console.export_text().splitlines() if line.startswith("trainings: ")][-1]
    assert line.startswith("trainings: 8 of 8 steps")
    assert line.endswith("2 of 2 runs")
    for training in plan(load_experiment(str(path))):
        alone = folder / "runs" / training.run.name
        assert same_bits(weights(training.run), weights(alone))
        assert "== ovps train" in (tmp_path / "out" / "logs" / f"{training.run.name}.log").read_text()
    assert any("threads=1" in command for command in json.loads((tmp_path / "out" / "seconds.json").read_text()))


def test_a_run_that_fails_keeps_no_other_from_being_done(store, tmp_path, spies, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_text("settings: {optimiser.lr: 1.0e+30}")
    path = write_experiment(tmp_path, store, seeds=[0], systems=["ovps", str(bad), "pfc"])
    with pytest.raises(TrainingError, match="step 2"):
        run(str(path))
    assert [name.split("-")[0] for name in spies["train"]] == ["ovps", "bad", "pfc"]
    assert {line["system"] for line in table(tmp_path)} == {"ovps", "pfc"}
    missing = json.loads((tmp_path / "out" / "results.json").read_text())["missing"]
    assert missing == ["bad, b12n4, seed 0"]
    assert "failed: bad, b12n4, seed 0: " in "".join(capsys.readouterr())
    assert "bad, b12n4, seed 0" in (tmp_path / "report.html").read_text(), "what is missing stands on the page"


@pytest.mark.parametrize(
    ("error", "cause", "goes_on"),
    [
        (TrainingError("not finite"), None, True),
        (CheckpointError("damaged"), None, True),
        (CheckpointError("cannot write"), OSError(errno.ENOSPC, "No space left on device"), False),
        (ConfigError("no frames"), None, False),
        (CacheError("damaged"), None, False),
    ],
)
def test_what_would_end_the_other_runs_too_ends_the_queue(made, tmp_path, monkeypatch, capsys, error, cause, goes_on):
    experiment, _, _ = made
    jobs, done = [Job(t) for t in plan(experiment)], []

    def do(job, stage):
        done.append(job)
        if len(done) == 1:
            raise error from cause
        if len(done) == 3:
            for step in ("train it", "score it"):
                with stage(step):
                    pass

    monkeypatch.setattr(queue, "do", do)
    with pytest.raises(type(error)):
        queue.run_all(jobs, 1, tmp_path, Stages(tmp_path / "seconds.json"))
    assert len(done) == (len(jobs) if goes_on else 1)
    said = capsys.readouterr().err.splitlines()
    titles = [line for line in said if "run " in line and " of " in line]
    assert len(titles) == int(goes_on), "of a run that something is done for"
    assert all("run 3 of" in line for line in titles)


def test_trainings_in_other_processes_have_one_bar(store, tmp_path, monkeypatch):
    experiment = load_experiment(str(write_experiment(tmp_path, store, systems=["pfc"])))
    begun, waiting = [t.run for t in plan(experiment)]
    begun.mkdir(parents=True)
    (begun / "metrics.jsonl").write_text('{"step": 1}\n{"step": 3}\n{"st')  # as a training writes
    console = Console(width=80, record=True, force_terminal=False)
    monkeypatch.setattr(progress, "console", console)
    with watched([Job(t) for t in plan(experiment)]) as look:
        look("0 of 2 runs")
    assert "3 of 8 steps" in console.export_text()
    with watched([Job(t) for t in plan(experiment)]) as look:
        waiting.mkdir()
        (waiting / "metrics.jsonl").write_text('{"step": 4}\n')
        look("1 of 2 runs")
    line = console.export_text()
    assert "7 of 8 steps" in line
    assert "1 of 2 runs" in line


def test_processes_a_failure_cancels_those_that_wait(made, tmp_path, monkeypatch):
    experiment, _, _ = made
    jobs, started = [Job(t) for t in plan(experiment)], []

    def worker(job, log):
        started.append(job)
        if len(started) == 2:
            raise CacheError("it broke")
        return {job.training.command: 1.0}

    monkeypatch.setattr(queue, "_in_fresh_process", worker)
    monkeypatch.setattr(queue, "ThreadPoolExecutor", lambda processes: ThreadPoolExecutor(1))
    stages = Stages(tmp_path / "seconds.json")
    with pytest.raises(CacheError, match="it broke"):
        queue.run_all(jobs, 2, tmp_path, stages)
    assert 2 <= len(started) < len(jobs) + 1
    assert jobs[0].training.command in stages.seconds


def fated(job, log):
    """A worker, in a process of its own, whose fate a file beside its log says."""
    fate, begun = log.with_suffix(".fate").read_text(), log.parent / "begun"
    if fate == "dies":
        while not begun.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    begun.touch()
    time.sleep(3)
    return {"done": 1.0}


@pytest.mark.slow
def test_a_process_that_dies_takes_no_other_along(made, tmp_path, monkeypatch, capsys):
    experiment, _, _ = made
    jobs = [Job(t) for t in plan(selected(experiment, seeds=(7, 8, 9), systems=("ovps",)))]
    for job, fate in zip(jobs, ("dies", "is done", "is done"), strict=True):
        queue._log(tmp_path, job).with_suffix(".fate").write_text(fate)
    monkeypatch.setattr(queue, "_in_process", fated)
    stages = Stages(tmp_path / "seconds.json")
    with pytest.raises(TrainingError, match="seed 7 ended without a word"):
        queue.run_all(jobs, 2, tmp_path, stages)
    assert stages.seconds == {"done": 1.0}, "what was under way is finished"
    assert "seed 9" not in capsys.readouterr().out, "and nothing more is begun"


PARENT_AND_WORKER = """
import multiprocessing, os, time
from ovps.interrupt import end_with_parent

def work(pid):
    end_with_parent()
    pid.put(os.getpid())
    time.sleep(120)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pid = context.Queue()
    context.Process(target=work, args=(pid,), daemon=True).start()
    print(pid.get(), flush=True)
    time.sleep(120)
"""


def test_a_killed_experiment_takes_its_workers_along(tmp_path):
    (tmp_path / "main.py").write_text(PARENT_AND_WORKER)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        assert not ended(worker)
        parent.kill()
    end = time.monotonic() + 20
    while not ended(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert ended(worker)


def ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# Projected time


def test_the_projected_time_says_what_it_is_taken_from(made, store, tmp_path):
    experiment, _, _ = made
    nothing = estimate([Job(t) for t in plan(experiment)], experiment.runs, 1)
    assert (nothing.trainings, nothing.evaluations, nothing.seconds) == (0, 0, 0.0)
    assert str(nothing) == "all is done"

    more = selected(experiment, seeds=(7,), systems=("ovps", "pfc"))
    known = estimate([Job(t) for t in plan(more)], experiment.runs, 1)
    assert (known.trainings, known.evaluations) == (2, 2)
    assert known.source == f"speed of runs in {experiment.runs}"
    assert known.seconds > 0

    new = load_experiment(str(write_experiment(tmp_path, store, seeds=[0, 1], systems=["ovps"])))
    timed = estimate([Job(t) for t in plan(new)], new.runs, 2)
    assert timed.source == (
        "4 timed steps of each of 1 kinds of training, each alone on the machine, evaluations not counted"
    )
    assert not new.runs.exists()


@pytest.mark.parametrize(("file", "content"), [("config.yaml", "garbage: ["), ("metrics.jsonl", "[\n{}\n")])
def test_the_projected_time_needs_no_run_of_others_but_its_own(made, tmp_path, file, content):
    experiment, _, _ = made
    shutil.copytree(experiment.runs, tmp_path / "runs")
    first, *others = plan(experiment.model_copy(update={"runs": tmp_path / "runs"}))
    aside = shutil.copytree(first.run, tmp_path / "runs" / "aside")
    (aside / file).write_text(content)
    assert str(estimate([Job(t) for t in (first, *others)], tmp_path / "runs", 1)) == "all is done"
    (first.run / file).write_text(content)
    assert str(estimate([Job(t) for t in others], tmp_path / "runs", 1)) == "all is done"
    with pytest.raises(CheckpointError, match=r"is damaged|damaged:"):
        estimate([Job(first)], tmp_path / "runs", 1)


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 4))
def test_the_projected_time_of_several_processes_is_that_of_a_queue(seconds, processes):
    waiting, busy, now = list(seconds), [], 0
    while waiting or busy:  # second by second
        busy = [left for left in busy if left > 0]
        while waiting and len(busy) < processes:
            if took := waiting.pop(0):
                busy.append(took)
        if busy:
            now += 1
        busy = [left - 1 for left in busy]
    assert makespan(seconds, processes) == now


def test_three_trainings_on_two_processes_take_two_rounds(made, store, tmp_path):
    experiment, _, _ = made
    seeds = {n: selected(experiment, seeds=tuple(range(7, 7 + n)), systems=("ovps",)) for n in (1, 2, 3)}
    single, pair, triple = (estimate([Job(t) for t in plan(e)], e.runs, 2).seconds for e in seeds.values())
    assert single == pair > 0
    assert triple == pytest.approx(2 * pair)


def test_long_experiments_ask_on_a_terminal():
    long = Estimate(3, 3, 5 * 3600, "guess")
    with pytest.raises(ConfigError, match=r"5\.0 h.*--yes"):
        confirm(long, 4, yes=False, terminal=lambda: True)
    confirm(long, 4, yes=True, terminal=lambda: True)
    confirm(long, 4, yes=False, terminal=lambda: False)
    confirm(Estimate(3, 3, 3 * 3600, "guess"), 4, yes=False, terminal=lambda: True)
    assert (duration(42), duration(720), duration(36000)) == ("42 s", "12 min", "10.0 h")


# How it ends


def test_the_command_ends_with_its_table_and_its_page(made, monkeypatch, capsys):
    from ovps import cli

    _, folder, _ = made
    monkeypatch.setattr(sys, "argv", ["ovps", "experiment", "run", str(folder / "tiny.yaml")])
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().out
    for line in result_table(folder / "out").markdown().splitlines():
        assert line in shown
    assert "pq, %, split b12n4" in shown
    assert f"report: {folder / 'report.html'}" in shown


@pytest.mark.slow
def test_ctrl_c_lets_every_training_write_a_checkpoint(store, tmp_path):
    path = write_experiment(tmp_path, store, systems=["ovps"], set={"steps": 3000, "checkpoint_interval": 3000})
    folders = [t.run for t in plan(load_experiment(str(path)))]
    with subprocess.Popen(
        [sys.executable, "-m", "ovps.cli", "experiment", "run", str(path), "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        end = time.monotonic() + 100
        while not all(map(last_step, folders)) and time.monotonic() < end:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "interrupted: 0 of 2 runs are done, those begun are kept. Go on with: " in stderr
    for folder in folders:
        assert 0 < weights(folder)["step"] < 3000
        assert "Traceback" not in (tmp_path / "out" / "logs" / f"{folder.name}.log").read_text()


# Files


@pytest.mark.parametrize("name", shipped.names("experiments"))
def test_shipped_experiments_open_with_their_command_and_can_be_planned(name):
    from importlib import resources

    experiment = load_experiment(name)
    text = (resources.files("ovps") / "configs" / "experiments" / f"{name}.yaml").read_text()
    assert text.startswith(f"# ovps experiment run {name} ")
    assert (experiment.world is None) == name.startswith("nuscenes")
    cells = [e for t in plan(experiment) for e in t.evaluations]
    assert len(cells) == len(experiment.systems) * len(experiment.splits) * len(experiment.seeds)


def test_the_full_table_and_the_ablation_share_what_they_can():
    table1, ablation = (plan(load_experiment(name)) for name in ("table1", "ablation"))
    assert (len(table1), len(ablation)) == (27, 60)  # without sharing: 54 and 72
    assert len({t.run for t in (*table1, *ablation)}) == 27 + 60 - 6
    together = {frozenset(e.system for e in t.evaluations) for t in ablation}
    assert frozenset(("plus_fusion", "plus_head")) in together
    assert frozenset(("ovps", "unified_head", "minus_head", "no_synonyms")) in together


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wrold": {"scenes": 1}}, r"wrold.*tiny\.yaml.*Settings are"),
        ({"systems": ["pfcc"]}, r"no system 'pfcc'.*tiny\.yaml.*closed_set"),
        ({"systems": []}, r"systems.*tiny\.yaml"),
        ({"systems": ["ovps", "ovps"]}, r"twice.*tiny\.yaml"),
        ({"systems": ["ovps", "mine/ovps.yaml"]}, r"ovps and mine/ovps\.yaml have one name.*tiny\.yaml"),
        ({"show": ["pcf"]}, r"show: no system pcf .*tiny\.yaml.*pfc, minus_head, ovps"),
        ({"systems": ["no_occlusion"]}, r"no cache named 'no_occlusion'.*tiny\.yaml.*caches"),
        ({"splits": ["b99"]}, r"no split named 'b99'.*b12n4"),
        ({"seeds": [-1]}, r"seeds.*tiny\.yaml"),
        ({"world": {"scenes": 1, "frames": 1, "seed": 0}}, r"world.*data"),
        ({"train": "nowhere"}, r"no config 'nowhere'.*driveworld, driveworld-kitti, nuscenes"),
        ({"set": {"optimizer.lr": 1}}, r"optimizer\.lr.*optimiser\.lr"),
        (
            {"data": {}, "clip": {}, "caches": {"noocc": {"oclusion": False}}},
            r"caches\.noocc: oclusion: no such field; these may stand there: .*occlusion.*tiny\.yaml",
        ),
        ({"set": {"split": "b10n6"}}, r"set: split is of each run.*`splits`.*tiny\.yaml"),
        ({"set": {"seed": 3}}, r"set: seed is of each run.*`seeds`.*tiny\.yaml"),
        ({"set": {"loss.unlabelled": "ignore"}}, r"loss\.unlabelled makes a system.*tiny\.yaml"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        plan(load_experiment(str(write_experiment(tmp_path, tmp_path / "zarr", **change))))


@pytest.mark.parametrize("seed", ["a", -1])
def test_a_seed_that_is_none_is_one_fault(tmp_path, seed):
    with pytest.raises(ConfigError, match=r"seeds\.0: Input should be") as error:
        load_experiment(str(write_experiment(tmp_path, tmp_path / "zarr", seeds=[seed])))
    assert "at least" not in error.value.message


def test_files_that_are_no_experiment(tmp_path):
    with pytest.raises(ConfigError, match="ablation, driveworld, driveworld-kitti, nuscenes, nuscenes-mini, table1"):
        load_experiment("nothing")
    path = tmp_path / "bad.yaml"
    for text in ("- 1", "a: ["):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"(?s)not a valid experiment.*bad\.yaml"):
            load_experiment(str(path))


def test_systems_that_are_asked_for(tmp_path, store):
    path = str(write_experiment(tmp_path, store))
    with pytest.raises(ConfigError, match="no system 'nothing'") as told:
        run(path, systems=("ovps", "nothing"))
    assert told.value.path is None, "no file names it"
    with pytest.raises(ConfigError, match="at least one"):
        run(path, systems=())


def test_what_all_share_gives_way_to_what_makes_a_system(tmp_path, store):
    path = write_experiment(tmp_path, store, set={"loss.voxel_weight": 0.7, "steps": 9}, seeds=[5])
    by_system = {t.system: train_module.resolve(t.options) for t in plan(load_experiment(str(path)))}
    assert by_system["pfc"].loss.weight("voxel") == 0
    assert by_system["ovps"].loss.voxel_weight == 0.7
    assert {(c.steps, c.seed) for c in by_system.values()} == {(9, 5)}
    command = plan(load_experiment(str(path)))[0].command
    assert "--system pfc --split b12n4 --set loss.voxel_weight=0.7 --set steps=9 --set seed=5" in command


def test_without_a_cache_the_remedy_is_named(tmp_path):
    experiment = load_experiment(str(write_experiment(tmp_path, tmp_path / "zarr")))
    with pytest.raises(CacheError, match=r"no cache here.*ovps precompute"):
        run_experiment(experiment)


def test_an_evaluation_that_was_edited_is_told_and_done_again(made, spies, capsys):
    experiment, _, _ = made
    training = plan(experiment)[0]
    evaluation = training.evaluations[0]
    file = training.folder(evaluation) / "metrics.json"
    record = json.loads(file.read_text())
    record["system"]["panoptic"]["groups"]["all"]["pq"] = 0.99
    file.write_text(json.dumps(record))
    one.do(Job(training), Stages(experiment.out / "s.json").stage)
    assert spies == {"train": [], "evaluate": [training.folder(evaluation).name]}
    assert f"metrics.json changed after the evaluation: these are not the scores that were measured (file {file})" in (
        capsys.readouterr().err
    )
    assert one.found(training, evaluation) is not None


def test_an_experiment_that_is_stopped_while_its_processes_start_ends(made, tmp_path, monkeypatch):
    """A process that died of the signal while it starts would be no training that can be gone on with."""
    experiment, _, _ = made
    jobs, ended = [Job(t) for t in plan(experiment)] * 3, threading.Event()

    def stopped(*arguments, **more):
        monkeypatch.undo()
        time.sleep(0.2)
        raise KeyboardInterrupt

    def run_them():
        with pytest.raises(KeyboardInterrupt):
            queue.run_all(jobs, 2, tmp_path, Stages(tmp_path / "seconds.json"))
        ended.set()

    monkeypatch.setattr(queue, "wait", stopped)
    threading.Thread(target=run_them, daemon=True).start()
    assert ended.wait(60)


def test_a_store_below_the_working_folder_is_the_same_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("driveworld")
    ways = ("zarr/z", "./zarr/z", str(tmp_path / "zarr/z"), f"file://{tmp_path}/zarr/z")
    others = ("zarr/other", "/zarr/z", "s3://bucket/zarr/z")
    assert len({training_key(config, store_name(way)) for way in ways}) == 1
    assert len({training_key(config, store_name(way)) for way in (*ways, *others)}) == 4


def test_trainings_are_known_from_any_working_folder(made, store, tmp_path, monkeypatch):
    experiment, _, _ = made  # its store was named by its whole path
    expected = [(training.key, training.run) for training in plan(experiment)]
    monkeypatch.chdir(Path(store).parent)
    assert [(training.key, training.run) for training in plan(experiment)] == expected
    elsewhere = experiment.model_copy(update={"runs": tmp_path})
    for training in plan(elsewhere):  # as they are called that begin here
        assert training.key not in {key for key, _ in expected}
        training.run.mkdir()
        shutil.copy(expected[0][1] / "cache.json", training.run)
    begun = [(training.key, training.run) for training in plan(elsewhere)]
    monkeypatch.chdir("/")
    assert [(training.key, training.run) for training in plan(elsewhere)] == begun
    for training in plan(elsewhere):  # a store of another place that is called alike
        content = json.loads((training.run / "cache.json").read_text())
        (training.run / "cache.json").write_text(json.dumps(content | {"features_sha256": "0" * 64}))
    assert not {training.run for training in plan(elsewhere)} & {run for _, run in begun}


def test_times_of_an_experiment_that_were_cut_off_are_told(tmp_path):
    times = tmp_path / "seconds.json"
    for content in ("", '{"ovps train": 1', "[1]", '{"ovps train": "long"}'):
        times.write_text(content)
        with pytest.raises(ConfigError, match=r"no times by command.*Delete it") as told:
            Stages(times)
        assert told.value.path == str(times)
    times.unlink()
    assert Stages(times).seconds == {}
