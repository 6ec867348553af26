"""Thresholds chosen by base PQ: what is tried is what an evaluation with that setting scores."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from ovps import systems
from ovps.cache.manifest import read_manifests
from ovps.cache.where import storage_of
from ovps.cache.writer import EncodedFrame, stored_frames, write_partition
from ovps.cli import app
from ovps.errors import ConfigError
from ovps.model.panoptic import MergeConfig
from ovps.taxonomy import load_split, load_taxonomy
from ovps.training.run_files import load_settings
from pipelines.evaluate import evaluate
from pipelines.tune import tune
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.untrained import TINY
from tests.training.small import small_run


def count(values):
    return math.prod(map(len, values.values()))


def test_every_kind_of_system_has_as_many_settings():
    tuned = [systems.get(name).tuning for name in systems.BUILT_IN if name != "clip"]  # which nobody trains
    assert {count(tuning) for tuning in tuned} == {12}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_synthetic_store(tmp_path_factory.mktemp("tune") / "zarr", frames=2)


@pytest.fixture(scope="module")
def hidden(store, tmp_path_factory):
    """The same store without the labels of what is novel in b12n4."""
    place = shutil.copytree(store, tmp_path_factory.mktemp("tune") / "hidden")
    taxonomy, storage = load_taxonomy("nuscenes"), storage_of(place)
    novel = load_split("b12n4").novel_ids(taxonomy)
    gone = 0
    for row in read_manifests(storage):
        frames = []
        for frame in stored_frames(storage, row, {frame.token for frame in row.frames}):
            label = frame.arrays["points/label"]
            keep = ~np.isin(taxonomy.decode(label)[0], novel)
            gone += int((~keep).sum())
            frames.append(EncodedFrame(frame.row, frame.arrays | {"points/label": label * keep}))
        write_partition(storage, row.partition, row.scene, frames, before=row)
    assert gone > 100
    return place


@pytest.mark.parametrize("system", ["ovps", "pfc", "openscene", "closed_set"])
def test_a_trial_is_an_evaluation_with_its_setting(store, hidden, tmp_path, system):
    run = tmp_path / "run"
    small_run(store, run, *TINY, "steps=2", "merge.mask=0.02", system=system)
    summary = tune(run, store, split="b12n4")
    assert len(summary.trials) == 12
    assert [t.base_pq for t in summary.trials] == sorted((t.base_pq for t in summary.trials), reverse=True)
    assert len(summary.base_classes) == 12
    merge = load_settings(run)[0].merge
    for trial in summary.trials[:1] + summary.trials[-1:]:
        with_it = MergeConfig.model_validate(merge.model_dump() | trial.setting)
        result = evaluate(run, hidden, split="b12n4", merge=with_it, out=tmp_path / "eval")
        assert result.system.panoptic.groups["base"].pq == pytest.approx(trial.base_pq)


def test_labels_of_novel_classes_have_no_say(store, hidden, tmp_path):
    """Neither which they are nor whether there are any."""
    small_run(store, tmp_path / "run", *TINY, "steps=2", system="openscene")
    trials = [tune(tmp_path / "run", place, split="b12n4").trials for place in (store, hidden)]
    assert trials[0] == trials[1]
    assert trials[0][0].base_pq > 0


@pytest.mark.parametrize("system", ["openscene", "ovps"])
def test_a_choice_by_labels_that_the_run_was_not_to_know_is_told(store, tmp_path, system):
    small_run(store, tmp_path / "run", *TINY, "steps=1", "split=b12n4", system=system)
    assert tune(tmp_path / "run", store).warnings == []
    (told,) = tune(tmp_path / "run", store, split="all").warnings
    novel = [c.name for c in load_taxonomy("nuscenes").classes if c.name in load_split("b12n4").novel]
    assert told.startswith(f"labels of {', '.join(novel)} take part in the choice, and split b12n4, by which")
    (seen, _) = tune(tmp_path / "run", store, split="all", subset="train").warnings
    assert "of scenes that the run was trained on" in seen


def test_the_best_is_said_as_set_takes_it(store, tmp_path):
    small_run(store, tmp_path / "run", *TINY, "steps=2", system="openscene")
    summary = tune(tmp_path / "run", store, split="b12n4")
    assert summary.trials[0].base_pq > 0
    assert summary.set == " ".join(f"--set merge.{name}={value}" for name, value in summary.trials[0].setting.items())


def test_where_nothing_is_found_no_setting_is_best(store, tmp_path):
    small_run(store, tmp_path / "run", *TINY, "steps=1")
    summary = tune(tmp_path / "run", store, split="b12n4")
    assert {trial.base_pq for trial in summary.trials} == {0.0}
    assert summary.set is None


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_the_terminal_is_told_of_frames_that_the_run_has_learned_from(store, tmp_path, more):
    small_run(store, tmp_path / "run", *TINY)
    words = ["tune", "--run", str(tmp_path / "run"), "--cache", str(store), "--subset", "train", *more]
    told = " ".join(CliRunner().invoke(app, words).stderr.split())
    assert "warning: 2 of 2 frames are of scenes that the run was trained on" in told


def test_frames_without_labels(tmp_path):
    bare, labelled = (
        write_synthetic_store(tmp_path / str(labels), frames=2, labelled=labels) for labels in (False, True)
    )
    small_run(labelled, tmp_path / "run", *TINY)
    with pytest.raises(ConfigError, match="no labels to score against"):
        tune(tmp_path / "run", bare)
