"""MinkowskiEngine may be missing: the whole way runs in torch, and a run of one backend is used with another."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ovps import doctor
from ovps.cache.reader import Store
from ovps.errors import ConfigError, SetupError
from ovps.model import sparse
from ovps.training.run import load_run
from ovps.training.run_files import load_settings
from pipelines.evaluate import evaluate, load_result
from tests.helpers.synthetic_store import write_synthetic_store
from tests.training.small import SMALL, small_run

needs_minkowski = pytest.mark.skipif(sparse.default() != "minkowski", reason="MinkowskiEngine is not installed")
SAID = "sparse backend minkowski is not installed: torch is used"


@pytest.fixture
def missing(monkeypatch):
    """Call it, and it is as if MinkowskiEngine was not installed."""

    def uninstall() -> None:
        monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)
        monkeypatch.delitem(sys.modules, "ovps.model.sparse.minkowski", raising=False)
        sparse.tell.cache_clear()

    return uninstall


def without_minkowski(*commands: str) -> subprocess.CompletedProcess[str]:
    """Command lines one after another in a process that has no MinkowskiEngine."""
    code = (
        "import sys\n"
        "sys.modules['MinkowskiEngine'] = None\n"
        "from ovps.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv = ['ovps', *line.split()]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n"
        "        if end.code: raise\n"
    )
    return subprocess.run([sys.executable, "-c", code, *commands], capture_output=True, text=True, check=False)


def test_precompute_training_and_scores_without_minkowski(mini_nuscenes, tmp_path):
    small = " ".join(f"--set {setting}" for setting in (*SMALL, "steps=2") if setting != "steps=4")
    run = tmp_path / "run"
    done = without_minkowski(
        f"precompute --dataroot {mini_nuscenes} --encoder demo"
        f" --weights random --grid cylinder:60x45x8 --workers 0 --out {tmp_path}/zarr",
        f"train --cache {tmp_path}/zarr --out {run} {small}",
        f"eval --run {run} --cache {tmp_path}/zarr",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count(SAID) == 1
    assert load_settings(run)[0].model.encoder.backend == "torch"  # what it was trained with
    assert load_result(run / "eval").step == 2


@needs_minkowski
@pytest.mark.parametrize(("trained", "other"), [("minkowski", "torch"), ("torch", "minkowski")])
def test_a_run_of_one_backend_gives_the_same_with_the_other(tmp_path, trained, other):
    store = write_synthetic_store(tmp_path / "store", frames=2)
    small_run(store, tmp_path / "run", f"model.encoder.backend={trained}")
    own, lent = load_run(tmp_path / "run"), load_run(tmp_path / "run", backend=other)
    assert own.network.encoder.backend.name == trained
    assert lent.network.encoder.backend.name == other
    assert lent.config.model.encoder.backend == trained
    opened = Store.open(store)
    batch = own.batch(opened.read(opened.frames[-1]))
    with torch.inference_mode():
        wanted = own.network.encoder(batch.coords, batch.features)
        torch.testing.assert_close(lent.network.encoder(batch.coords, batch.features), wanted, atol=1e-4, rtol=1e-4)
        for ours, reference in zip(lent.network(batch), own.network(batch), strict=True):
            for name, value in vars(reference).items():
                if isinstance(value, torch.Tensor):
                    torch.testing.assert_close(getattr(ours, name), value, atol=1e-4, rtol=1e-4)
    reference = evaluate(tmp_path / "run", store).system.panoptic.groups["all"]
    found = evaluate(tmp_path / "run", store, backend=other).system.panoptic.groups["all"]
    assert found.pq == pytest.approx(reference.pq, abs=1e-4)
    assert found.miou == pytest.approx(reference.miou, abs=1e-4)


@needs_minkowski
def test_a_run_trained_with_minkowski_is_used_where_it_is_missing(tmp_path, missing, capsys):
    store = write_synthetic_store(tmp_path / "store", frames=2)
    small_run(store, tmp_path / "run", "model.encoder.backend=minkowski")
    capsys.readouterr()
    missing()
    for _ in range(2):
        assert load_run(tmp_path / "run").network.encoder.backend.name == "torch"
    assert capsys.readouterr().err.count(SAID) == 1
    with pytest.raises(SetupError, match=r"MinkowskiEngine is not installed.*make setup.*choose backend torch"):
        load_run(tmp_path / "run", backend="minkowski")
    with pytest.raises(ConfigError, match="no sparse_backend named 'spconv'"):
        load_run(tmp_path / "run", backend="spconv")


def test_doctor_says_that_torch_stands_in(missing, tmp_path):
    missing()
    report = doctor.examine(tmp_path)
    (check,) = [c for c in report.checks if c.name == "MinkowskiEngine"]
    assert check.status == "warning"
    assert "the sparse backend is torch" in check.found
    assert "make setup" in check.remedy
    assert report.healthy
