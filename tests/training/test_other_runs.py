"""Files of another run in the folder of a run: nothing of them is taken for the run's own."""

from __future__ import annotations

import shutil

import pytest
import torch

from ovps.batch.statistics import load_statistics, save_statistics
from ovps.errors import CheckpointError
from ovps.inference.session import open_session
from ovps.training.run import load_run
from ovps.vocabulary import load_vocabulary, save_vocabulary
from pipelines.experiment.cell import trained as is_trained
from tests.training.small import same_bits, small_run, weights

LAST = "checkpoints/last.pt"
STEPS = "steps=2"
OTHERS = {
    "seed": (("seed=7",), r"seed: 7 there, 0 now"),
    "steps": (("steps=3",), r"steps: 3 there, 2 now; it is at step 3, the run ends at 2"),
    "loss": (("loss.proposals.gap=0.7",), r"loss\.proposals\.gap: 0\.7 there, 0\.5 now"),
}


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """A run, and others of its architecture."""
    folder = tmp_path_factory.mktemp("runs")
    small_run(store, folder / "own", STEPS)
    for name, (settings, _) in OTHERS.items():
        small_run(store, folder / name, STEPS, *settings)
    return folder


@pytest.fixture
def run(runs, tmp_path):
    return shutil.copytree(runs / "own", tmp_path / "run")


def as_of_before(run):
    """A checkpoint as it was written before it said which training it is of."""
    content = torch.load(run / LAST, weights_only=True)
    content.pop("origin", None)
    torch.save(content, run / LAST)


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(runs, run, store, other):
    shutil.copyfile(runs / other / LAST, run / LAST)
    for use in (lambda: open_session(run, store), lambda: small_run(store, run, STEPS), lambda: is_trained(run)):
        with pytest.raises(CheckpointError, match=f"a checkpoint of another run: .*{OTHERS[other][1]}") as caught:
            use()
        assert caught.value.path == str(run / LAST)
        assert "restart" not in str(caught.value)
    shutil.copyfile(runs / "own" / LAST, run / LAST)  # as the remedy says
    assert load_run(run).step == 2
    shutil.rmtree(run)
    shutil.copytree(runs / other, run)
    assert load_run(run).finished


@pytest.mark.parametrize("other", ["seed", "steps"])
def test_one_of_an_earlier_version_is_judged_by_its_seed_and_step(runs, run, store, other):
    shutil.copyfile(runs / other / LAST, run / LAST)
    as_of_before(run)
    named = r"seed: 7 there, 0 now" if other == "seed" else "it is at step 3, the run ends at 2"
    for use in (lambda: load_run(run), lambda: small_run(store, run, STEPS)):
        with pytest.raises(CheckpointError, match=f"of another run: {named}"):
            use()


@pytest.mark.parametrize("before", [False, True])
def test_a_run_goes_on_from_its_own_with_settings_that_may_change(runs, store, tmp_path, before):
    small_run(store, tmp_path / "run", STEPS, stop_after=1)
    if before:
        as_of_before(tmp_path / "run")
    small_run(store, tmp_path / "run", STEPS, "log_interval=2", "merge.score=0.2", "checkpoint_interval=3")
    assert load_run(tmp_path / "run").finished
    assert same_bits(weights(tmp_path / "run"), weights(runs / "own"))


def test_a_checkpoint_states_what_may_not_change_and_nothing_else(runs):
    stated = weights(runs / "own")["origin"]
    assert (stated["seed"], stated["steps"], stated["processes"]) == (0, 2, 1)
    assert "vegetation" in stated["hidden classes"]
    assert not [
        name for name in stated if name.startswith(("split", "merge.", "classifier.", "threads", "log_interval"))
    ]


def test_statistics_and_vocabulary_of_another_run_are_refused(run, store):
    path = run / "statistics.safetensors"
    own = path.read_bytes()
    found = load_statistics(path)
    save_statistics(type(found)(found.mean, 2 * found.mean_l1), path)
    with pytest.raises(CheckpointError, match=r"statistics of another run: .* the run was trained with .*own back"):
        small_run(store, run, STEPS)
    path.write_bytes(own)

    path = run / "vocabulary.safetensors"
    found = load_vocabulary(path)
    save_vocabulary(type(found)(*(vars(found) | {"embeddings": found.embeddings[::-1]}).values()), path)
    with pytest.raises(CheckpointError, match=r"the vocabulary of another run.*run\.json.*own back") as caught:
        load_run(run)
    assert caught.value.path == str(path)
    shutil.copyfile(store / "vocabulary.safetensors", path)  # as the remedy says
    assert load_run(run).finished
