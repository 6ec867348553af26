"""Which wheels travel to a GPU machine, and that they can be installed there without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

from tools import gpu_wheels
from tools.gpu_wheels import ALONE, CARRIED, INSTALL, Machine, dependencies, lacking, minkowski

MACHINE = Machine(python="3.12", torch="2.11.0", cuda="13.0", arch="9.0")


def test_the_projects_dependencies_are_asked_for_without_their_caps(tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[project]\ndependencies = ["torch>=2.15", "numpy>=1.26,<2", "open_clip_torch>=3",'
        '"nuscenes-devkit>=1.2", "zarr>=3.1.5"]\n'
    )
    assert dependencies(file) == ["numpy", "open-clip-torch", "zarr"]
    assert {"zarr", "pydantic", "distributed", "trimesh"} < set(dependencies())


def test_what_the_machine_has_stays_at_home(monkeypatch):
    """What is brought: what ours need and theirs do not, and what is brought in any case."""

    def resolved(machine, requirements):
        names = set(requirements)
        if names == {f"{name}==1" for name in CARRIED}:
            return dict.fromkeys((*CARRIED, "typing-extensions"), "1")
        theirs = {"torch": "2.11.0", "numpy": "2.5", "typing-extensions": "1", "sympy": "1"}
        ours = theirs | dict.fromkeys(CARRIED, "1") | {"zarr": "3.4.2", "msgspec": "0.22"}
        return ours if "zarr" in names else theirs

    monkeypatch.setattr(gpu_wheels, "resolved", resolved)
    brought = lacking(MACHINE)
    assert {"zarr==3.4.2", "msgspec==0.22", "typing-extensions==1", *ALONE} <= set(brought)
    assert not [name for name in brought if name.startswith(("torch", "numpy", "sympy"))]


def test_a_minkowskiengine_that_was_built_is_not_built_again(tmp_path, monkeypatch):
    monkeypatch.setenv("OVPS_CACHE", str(tmp_path))
    built = []

    def build(machine, python, out):
        built.append(python)
        out.mkdir(parents=True)
        (out / f"minkowskiengine-0.5.4{machine.minkowski}cp312-linux_x86_64.whl").touch()

    monkeypatch.setattr(gpu_wheels, "build", build)
    first = minkowski(MACHINE, "python-of-mine")
    assert minkowski(MACHINE, "python-of-mine") == first
    assert built == ["python-of-mine"]
    assert "+pt2.11.0.cu130-cp312-" in first.name
    assert minkowski(Machine("3.12", "2.12.0", "13.0", "9.0"), "another") != first
    monkeypatch.setattr(gpu_wheels.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"no python3\.13 .*--minkowski"):
        minkowski(Machine("3.13", "2.11.0", "13.0", "9.0"), None)


def test_a_shim_that_refuses_is_no_python(tmp_path, monkeypatch):
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpu_wheels.installed("3.12") is None
    shim.write_text("#!/bin/sh\nexit 0\n")
    assert gpu_wheels.installed("3.12") == str(shim)


def test_the_folder_installs_itself_without_a_network(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "install.sh").write_text(INSTALL)
    meta = "thing-1.0.dist-info"
    with zipfile.ZipFile(wheels / "thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing.py", "value = 42\n")
        wheel.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nRequires-Dist: nowhere\n")
        wheel.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{meta}/RECORD", "")
    environment = os.environ | {"PYTHON": sys.executable}
    site = tmp_path / "site"
    done = subprocess.run(
        ["bash", str(wheels / "install.sh"), str(site)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"export PYTHONPATH={site}:$PWD"
    code = [sys.executable, "-c", "import thing; print(thing.value)"]
    seen = subprocess.run(code, env=environment | {"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True)
    assert seen.stdout == "42\n"
