"""One small world for all tests that read files."""

from __future__ import annotations

from pathlib import Path

import pytest
from nuscenes.nuscenes import NuScenes

from driveworld import WorldSummary, build_world

SETTINGS = {"scenes": 3, "frames": 3, "seed": 5, "image_size": (320, 180), "azimuth_steps": 540}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    out: Path = tmp_path_factory.mktemp("driveworld")
    return build_world(out, workers=1, write_camera_labels=True, **SETTINGS)


@pytest.fixture(scope="session")
def nusc(world: WorldSummary) -> NuScenes:
    return NuScenes("v1.0-trainval", str(world.dataroot), verbose=False)
