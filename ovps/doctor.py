"""`ovps doctor`: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement
from packaging.version import Version
from pydantic import BaseModel

from ovps import machine
from ovps.errors import OvpsError
from ovps.extras import SET_UP, installed
from ovps.plugins import package_of
from ovps.shortage import faults

Status = Literal["ok", "warning", "problem"]
GIB = 2**30
ANEW = "Make the environment anew: rm -rf .venv && make setup"
EXTRAS = {  # of pyproject, and what for
    "nuscenes": "nuScenes' own scores",
    "driveworld": "the drive world",
    "folder": "PCD and PLY files and lenses of recordings",
    "ros": "ovps data import",
    "remote": "stores in a bucket",
    "viewer": "ovps view, and exports as PLY and LAS",
    "pq": "writing stores of codec cells-pq",
}


class Check(BaseModel):
    """One line of the table. A `problem` stops something the three commands need; a `warning` narrows it."""

    name: str
    status: Status
    found: str
    remedy: str = ""


class Report(BaseModel):
    """All checks; `healthy` is what the exit code says."""

    checks: list[Check]

    @property
    def healthy(self) -> bool:
        return all(c.status != "problem" for c in self.checks)


def examine(cache: str) -> Report:
    """Run every check. Args: cache: the folder or URL that `ovps precompute` would write to."""
    checks = [
        _python(),
        *_packages(),
        _imports(),
        _minkowski(),
        _gpu(),
        *_clip_weights(),
        *_plugins(),
        _place(cache),
        _machine(),
    ]
    return Report(checks=checks)


def _python() -> Check:
    version = Version(platform.python_version())
    fits = Version("3.11") <= version < Version("3.13")
    remedy = "" if fits else f"{ANEW} PYTHON=python3.11"
    return Check(name="python", status="ok" if fits else "problem", found=str(version), remedy=remedy)


def _packages() -> list[Check]:
    """Every dependency that ovps declares, against its floor and cap; those of `EXTRAS` may be missing."""
    requirements = [Requirement(line) for line in importlib.metadata.requires("ovps") or []]
    core = [_package(r) for r in requirements if r.marker is None]
    named = {check.name for check in core}
    optional = [
        _package(r, name)
        for name in EXTRAS
        for r in requirements
        if r.marker is not None and r.name not in {*named, "ovps"} and r.marker.evaluate({"extra": name})
    ]
    return core + optional


def _package(requirement: Requirement, extra: str = "") -> Check:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        if extra:
            remedy = f'Needed for {EXTRAS[extra]}: {SET_UP}, or pip install "ovps[{extra}]"'
            return Check(name=requirement.name, status="warning", found="missing", remedy=remedy)
        return Check(name=requirement.name, status="problem", found="missing", remedy=f"Run: {SET_UP}")
    fits = requirement.specifier.contains(version, prereleases=True)
    remedy = "" if fits else f"ovps needs {requirement.specifier}. Run: {SET_UP}"
    return Check(name=requirement.name, status="ok" if fits else "problem", found=version, remedy=remedy)


def _imports() -> Check:
    """Versions may fit while the builds do not: torch and torchvision of different origins, pyarrow beside numpy 1."""
    optional = [module for module in ("nuscenes", "embreex", "obstore") if installed(module)]
    for module in ("torch", "torchvision", "open_clip", "zarr", "distributed", "pyarrow", *optional):
        failure = _failure(partial(importlib.import_module, module))
        if failure:
            return Check(name="imports", status="problem", found=f"{module}: {failure}", remedy=ANEW)
    return Check(name="imports", status="ok", found="all")


def _minkowski() -> Check:
    """An extra; where it is, the build must be ours (its version names the torch it is for) and must convolve."""
    if not installed("MinkowskiEngine"):
        remedy = f"Everything runs without; on a CPU it is faster: {SET_UP} builds it"
        found = "missing: the sparse backend is torch"
        return Check(name="MinkowskiEngine", status="warning", found=found, remedy=remedy)
    version = importlib.metadata.version("MinkowskiEngine")
    import torch

    built_for = version.partition("+pt")[2].rpartition(".")[0]
    running = torch.__version__.partition("+")[0]
    if built_for != running:
        remedy = f"Build it again: {SET_UP}"
        found = f"{version}, but torch is {running}"
        return Check(name="MinkowskiEngine", status="problem", found=found, remedy=remedy)
    failure = _failure(lambda: importlib.import_module("ovps.model.sparse.minkowski"))
    if failure:
        return Check(name="MinkowskiEngine", status="problem", found=failure, remedy=ANEW)
    return Check(name="MinkowskiEngine", status="ok", found=version)


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        remedy = "Everything runs on the CPU, slowly at full scale"
        return Check(name="gpu", status="warning", found="none", remedy=remedy)
    name = torch.cuda.get_device_name()
    if installed("MinkowskiEngine") and importlib.metadata.version("MinkowskiEngine").endswith(".cpu"):
        remedy = f"MinkowskiEngine is a CPU build. With nvcc at hand: {SET_UP}"
        return Check(name="gpu", status="warning", found=name, remedy=remedy)
    return Check(name="gpu", status="ok", found=name)


def _clip_weights() -> list[Check]:
    demo = resources.files("ovps.clip") / "demo" / "demo.safetensors"
    shipped = demo.is_file()
    checks = [
        Check(
            name="demo CLIP weights",
            status="ok" if shipped else "problem",
            found="shipped" if shipped else "missing",
            remedy="" if shipped else "The package is incomplete: install it again",
        )
    ]
    # open_clip downloads into the Hugging Face cache; only look, never ask the network
    home = Path(os.path.expanduser(os.environ.get("HF_HOME", "~/.cache/huggingface")))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    found = sorted(p.name.removeprefix("models--") for p in hub.glob("models--*CLIP*"))
    remedy = "" if found else "ovps precompute downloads them, or takes a file by --weights open_clip_model.safetensors"
    status: Status = "ok" if found else "warning"
    checks.append(Check(name="CLIP weights", status=status, found=", ".join(found) or "none", remedy=remedy))
    return checks


def _plugins() -> list[Check]:
    """Data sets, encoders and so on of other packages: each is loaded."""
    from ovps import clip, datasets, systems  # after `_imports`
    from ovps.cache import codecs
    from ovps.model import sparse

    checks = []
    for registry in (datasets.REGISTRY, clip.REGISTRY, codecs.REGISTRY, systems.REGISTRY, sparse.REGISTRY):
        for point in registry.others():
            check = Check(name=f"{point.name} of {registry.group}", status="ok", found=f"of {package_of(point)}")
            try:
                registry.get(point.name)
            except OvpsError as error:
                remedy = error.remedy or ""
                check = Check(name=check.name, status="problem", found=error.message, remedy=remedy)
            checks.append(check)
    return checks


def _place(cache: str) -> Check:
    """Of the store: a folder, or a bucket that answers; and the store that is there, if it is one that can be read."""
    from ovps.cache.disk import LocalStorage  # after `_imports`
    from ovps.cache.layout import INFO, MANIFESTS
    from ovps.cache.store_info import read_info
    from ovps.cache.where import storage_of

    try:
        storage = storage_of(cache)
        if {INFO, MANIFESTS} & set(storage.children()):
            read_info(storage)
    except OvpsError as error:
        return Check(name="cache", status="problem", found=error.message, remedy=error.remedy or "")
    except faults(OSError) as error:
        remedy = "Choose another folder for the store: ovps precompute --out FOLDER"
        return Check(name="cache", status="problem", found=f"{cache}: {error}", remedy=remedy)
    if isinstance(storage, LocalStorage):
        return _writable(storage.root)
    return Check(name="cache", status="ok", found=f"{storage.at()} answers")


def _writable(folder: Path) -> Check:
    existing = next(p for p in [folder.resolve(), *folder.resolve().parents] if p.exists())
    failure = _failure(lambda: tempfile.TemporaryFile(dir=existing).close())
    free = shutil.disk_usage(existing).free / GIB
    if failure:
        remedy = "Choose another folder for the store: ovps precompute --out FOLDER"
        return Check(name="cache folder", status="problem", found=f"{folder}: {failure}", remedy=remedy)
    return Check(name="cache folder", status="ok", found=f"{folder}, {free:.0f} GiB free")


def _machine() -> Check:
    """What this process may use of it: affinity, and the limits of a container."""
    usable, there = machine.memory() / GIB, psutil.virtual_memory().total / GIB
    cores = _part(f"{machine.cores()}", f"{os.cpu_count()}", "cores")
    memory = _part(f"{usable:.1f}", f"{there:.1f}", "GiB")
    status: Status = "ok" if usable > 7.5 else "warning"
    remedy = "" if status == "ok" else "make reproduce is sized for 8 GB"
    return Check(name="machine", status=status, found=f"{cores}, {memory}", remedy=remedy)


def _part(usable: str, there: str, unit: str) -> str:
    return f"{usable} {unit}" if usable == there else f"{usable} of {there} {unit}"


def _failure(action: Callable[[], object]) -> str:
    """What went wrong, as one line; empty if nothing did. A broken build may raise anything at import."""
    try:
        action()
    except faults(Exception) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""
