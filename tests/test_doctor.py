"""`ovps doctor` sees what is wrong, says what to do, and its exit code tells."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

from ovps import doctor


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


def test_a_cache_folder_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    check = by_name(doctor.examine(tmp_path / "new" / "zarr"))["cache folder"]
    assert check.status == "problem"
    assert "PermissionError" in check.found
