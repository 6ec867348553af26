"""What chooses among naming rules never sees a novel label, and hides what it says it hides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.naming_rules import FOLDS, RULES, folds, scope, scored
from ovps.inference.session import open_session
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.test_train import deleted, permuted, shuffled
from tests.training.relabel import relabelled_store
from tests.training.small import small_run


@pytest.fixture(scope="module", autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules")
    write_synthetic_store(folder / "zarr", frames=2)
    small_run(folder / "zarr", folder / "run", "steps=4", "merge.score=0", "merge.mask=0.02", "merge.overlap=0")
    return folder / "run", folder / "zarr"


def hidden_scores(run, store):
    session = open_session(run, store, device="cpu")
    return scored(session, "val", 0.0, 1, folds(session))[0]


@pytest.mark.parametrize("relabel", [deleted, permuted, shuffled])
def test_novel_labels_have_no_say_in_the_choice(made, tmp_path, relabel):
    run, store = made
    relabelled_store(store, tmp_path / "zarr", relabel, seed=1)
    ours, theirs = hidden_scores(run, store), hidden_scores(run, tmp_path / "zarr")
    assert ours == theirs
    assert any(result.groups["all"].miou > 0 for fold in ours for result in fold.values())


def test_each_base_class_is_hidden_once_and_novel_ones_are_nowhere(made):
    session = open_session(*made, device="cpu")
    found = folds(session)
    assert len(found) == FOLDS
    base = {c.name for c in session.taxonomy.classes} - set(session.split.novel)
    assert sorted(name for fold in found for name in fold.split.novel) == sorted(base)
    for fold in found:
        assert {c.name for c in fold.taxonomy.classes} == base
        assert len(fold.classes) == len(base)
        assert int((~fold.classes.trained).sum()) == len(fold.split.novel) == len(base) / FOLDS
        assert set(fold.class_of.tolist()) == {0, *(c.id for c in fold.taxonomy.classes)}


def test_the_true_scope_is_what_the_run_was_trained_for(made):
    session = open_session(*made, device="cpu")
    whole = scope(session, session.split, session.run.info.classes.names)
    assert whole.taxonomy is session.run.taxonomy
    assert int((~whole.classes.trained).sum()) == len(session.split.novel)
    (results,), accuracy = scored(session, "val", 0.0, 2, [whole])
    assert set(results) == set(RULES)
    assert next(iter(results.values())).frames == 1  # every second of two
    noisy = scored(session, "val", 3.0, 2, [whole])[1]
    assert accuracy > 0.8 > noisy > 0
    assert np.isfinite(noisy)
