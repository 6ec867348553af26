"""Building: the same bytes for the same seed, restartable, and clear about what it cannot do."""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import shutil
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


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _zeroed(path: Path) -> None:
    """As a file is of which the disk had written the length only."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("format", "file", "damage"),
    [
        ("nuscenes", "samples/LIDAR_TOP/driveworld-0001*.bin", _cut),
        ("nuscenes", "panoptic/v1.0-trainval/*.npz", _zeroed),
        ("nuscenes", "v1.0-trainval/ego_pose.json", Path.unlink),
        ("nuscenes", ".scenes/driveworld-0001.json", _cut),
        ("semantickitti", "sequences/01/poses.txt", _zeroed),
    ],
)
def test_what_is_damaged_is_built_again(format, file, damage, whole, tmp_path: Path) -> None:
    settings, source = whole[format]
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    damage(next(iter(tmp_path.glob(file))))
    build_world(tmp_path, workers=1, **settings)
    assert _digests(tmp_path) == _digests(source)


@pytest.fixture(scope="module")
def whole(tiny: WorldSummary, tmp_path_factory: pytest.TempPathFactory):
    kitti = TINY | {"format": "semantickitti"}
    out = tmp_path_factory.mktemp("kitti")
    build_world(out, workers=1, **kitti)
    return {"nuscenes": (TINY, tiny.dataroot), "semantickitti": (kitti, out)}


def test_only_the_damaged_scene_is_built_and_it_is_told(tiny: WorldSummary, tmp_path: Path, capsys) -> None:
    shutil.copytree(tiny.dataroot, tmp_path, dirs_exist_ok=True)
    next((tmp_path / "samples" / "CAM_BACK").glob("driveworld-0001*")).unlink()
    kept = next((tmp_path / "samples" / "CAM_BACK").glob("driveworld-0000*"))
    before = kept.stat().st_mtime_ns
    build_world(tmp_path, workers=1, **TINY)
    assert kept.stat().st_mtime_ns == before
    assert "files of driveworld-0001 are missing or not what was written" in capsys.readouterr().err


def test_damaged_settings_of_a_world_are_refused(tiny: WorldSummary, tmp_path: Path) -> None:
    out = shutil.copytree(tiny.dataroot, tmp_path / "world")
    (out / ".scenes" / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match=r"settings of the world are damaged.*Delete"):
        build_world(out, workers=1, **TINY)
    shutil.rmtree(out)
    assert build_world(out, workers=1, **TINY).scenes == 2


def test_other_settings_in_the_same_folder_are_refused(tiny: WorldSummary) -> None:
    with pytest.raises(ConfigError, match="seed 11 instead of 12"):
        build_world(tiny.dataroot, workers=1, **(TINY | {"seed": 12}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"scenes": 0},
        {"scenes": 1001},
        {"frames": 0},
        {"image_size": (0, 54)},
        {"azimuth_steps": 1},
        {"workers": 0},
        {"seed": -1},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        build_world(tmp_path, **({"workers": 1} | TINY | wrong))
    assert not any(tmp_path.iterdir())


def test_a_large_world_says_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("driveworld.build._run", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_world(tmp_path, scenes=1000, frames=80, seed=1, workers=1)
    assert "1,000 scenes of 80 frames take about 96 GB of " in " ".join(capsys.readouterr().err.split())


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
