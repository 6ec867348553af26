"""Building: the same bytes for the same seed, restartable, and clear about what it cannot do."""

from __future__ import annotations

import dataclasses
import hashlib
import resource
from pathlib import Path

import pytest

from driveworld import WorldSummary, build_world
from ovps.errors import ConfigError, StorageError

TINY = {"scenes": 2, "frames": 1, "seed": 11, "image_size": (96, 54), "azimuth_steps": 90}


def _digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    return build_world(tmp_path_factory.mktemp("tiny"), workers=1, **TINY)


def test_worker_count_does_not_change_a_byte(tiny: WorldSummary, tmp_path: Path) -> None:
    again = build_world(tmp_path, workers=2, **TINY)
    assert _digests(tmp_path) == _digests(tiny.dataroot)
    assert dataclasses.replace(again, dataroot=tiny.dataroot, seconds=0) == dataclasses.replace(tiny, seconds=0)


def test_another_seed_is_another_world(tiny: WorldSummary, tmp_path: Path) -> None:
    build_world(tmp_path, workers=1, **(TINY | {"scenes": 1, "seed": 12}))
    here, there = _digests(tmp_path), _digests(tiny.dataroot)
    samples = [name for name in here if name.startswith("samples/")]
    assert samples
    assert not any(here[name] == there.get(name) for name in samples)


def test_a_stopped_run_makes_only_what_is_missing(tiny: WorldSummary, tmp_path: Path) -> None:
    build_world(tmp_path, workers=1, **TINY)
    kept = next((tmp_path / "samples" / "LIDAR_TOP").glob("driveworld-0000*"))
    before = kept.stat().st_mtime_ns
    (tmp_path / ".scenes" / "driveworld-0001.json").unlink()
    next((tmp_path / "samples" / "LIDAR_TOP").glob("driveworld-0001*")).unlink()
    build_world(tmp_path, workers=1, **TINY)
    assert kept.stat().st_mtime_ns == before
    assert _digests(tmp_path) == _digests(tiny.dataroot)


def test_other_settings_in_the_same_folder_are_refused(tiny: WorldSummary) -> None:
    with pytest.raises(ConfigError, match="seed 11 instead of 12"):
        build_world(tiny.dataroot, workers=1, **(TINY | {"seed": 12}))


@pytest.mark.parametrize(
    "wrong", [{"scenes": 0}, {"frames": 0}, {"image_size": (0, 54)}, {"azimuth_steps": 1}, {"workers": 0}, {"seed": -1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        build_world(tmp_path, **({"workers": 1} | TINY | wrong))
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_a_storage_error_and_can_be_resumed(tiny: WorldSummary, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(StorageError, match="samples"):
            build_world(tmp_path, workers=1, **TINY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "v1.0-trainval").exists()
    build_world(tmp_path, workers=1, **TINY)
    assert _digests(tmp_path) == _digests(tiny.dataroot)
