"""`ovps doctor` sees what is wrong, says what to do, and its exit code tells."""

import importlib.metadata
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ovps import doctor

ROOT = Path(__file__).parents[1]


def by_name(report):
    return {check.name: check for check in report.checks}


def test_this_installation_is_healthy(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "ovps.cli", "doctor", "--json", "--cache", str(tmp_path / "zarr")],
        capture_output=True,
        text=True,
        check=False,
    )
    report = doctor.Report.model_validate(json.loads(run.stdout))
    assert run.returncode == 0, run.stdout + run.stderr
    assert by_name(report)["MinkowskiEngine"].found.startswith("0.5.4+pt")
    assert by_name(report)["demo CLIP weights"].status == "ok"


@pytest.fixture
def installed(monkeypatch):
    """Pretend that packages have other versions, or are missing (None)."""
    real = importlib.metadata.version
    pretended = {}

    def version(name):
        if name not in pretended:
            return real(name)
        if pretended[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return pretended[name]

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    return pretended


@pytest.mark.parametrize(
    ("package", "version", "remedy"),
    [
        ("numpy", "1.25.0", "ovps needs >=1.26"),
        ("MinkowskiEngine", "0.5.4+pt2.13.0.cpu", "Build it again"),
        ("MinkowskiEngine", "0.5.4", "Build it again"),
        ("zarr", None, "make setup"),
    ],
)
def test_a_wrong_or_missing_package_is_a_problem_with_a_remedy(installed, tmp_path, package, version, remedy):
    installed[package] = version
    report = doctor.examine(tmp_path)
    assert by_name(report)[package].status == "problem"
    assert remedy in by_name(report)[package].remedy
    assert not report.healthy


def test_a_broken_build_costs_the_environment_and_nothing_else(monkeypatch, tmp_path):
    real = importlib.import_module

    def broken(name, *args):
        if name == "open_clip":
            raise ImportError("undefined symbol")
        return real(name, *args)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    check = by_name(doctor.examine(str(tmp_path)))["imports"]
    assert check.found == "open_clip: ImportError: undefined symbol"
    program = check.remedy.partition(": ")[2].partition(" && make")[0]
    assert shlex.split(program) == ["rm", "-rf", ".venv"]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_clean_leaves_what_people_have_put_there(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = ("data/nuscenes", "zarr", "runs/first", "results", "reports", "demo", "zarr.query")
    for name in (*kept, ".venv/bin", "build/wheels", ".pytest_cache"):
        (tmp_path / name).mkdir(parents=True)
    done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [name for name in (".venv", "build", ".pytest_cache") if (tmp_path / name).exists()] == []
    assert [name for name in kept if not (tmp_path / name).is_dir()] == []
    assert "nobody needs them: data zarr zarr.query demo runs results reports" in done.stdout


def test_a_user_without_a_home_has_no_weights_there(monkeypatch):
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    for name in ("HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    assert [check.found for check in doctor._clip_weights()] == ["shipped", "none"]


def test_a_cache_folder_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    check = by_name(doctor.examine(tmp_path / "new" / "zarr"))["cache folder"]
    assert check.status == "problem"
    assert "PermissionError" in check.found
