"""The data that stages work on: drive worlds and caches made on the spot, kept for the stages after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from driveworld import build_world
from pipelines.precompute import PrecomputeOptions
from tools.gpu_check.setting import Setting

FULL_ENCODER = "convnext_large_d_320"
FULL_IMAGE = (1600, 900)  # nuScenes' own


def small_world(setting: Setting) -> Path:
    """Two streets for checks, as the drive world is; on a CPU smaller still."""
    size: dict[str, Any] = {"image_size": (176, 99), "azimuth_steps": 180} if setting.tiny else {}
    out = setting.work / "data" / "small"
    build_world(out, scenes=2, frames=1 if setting.tiny else 2, seed=5, val_fraction=0.5, workers=1, **size)
    return out


def full_world(setting: Setting) -> Path:
    """Twelve frames with images as large as nuScenes'."""
    if setting.tiny:
        return small_world(setting)
    out = setting.work / "data" / "full"
    build_world(out, scenes=6, frames=2, seed=5, image_size=FULL_IMAGE, workers=min(6, setting.cores))
    return out


def small_options(setting: Setting, out: Path, **changes: Any) -> PrecomputeOptions:
    """Precompute of the small world by the demo CLIP, in this process."""
    usual = {"encoder": "demo", "device": setting.device, "workers": 0, "codec": "cells"}
    return PrecomputeOptions(dataroot=small_world(setting), out=out, **(usual | changes))


def full_options(setting: Setting, out: Path, **changes: Any) -> PrecomputeOptions:
    """Precompute of the full-size frames by the full-size encoder with random weights."""
    encoder = {"encoder": "demo"} if setting.tiny else {"encoder": FULL_ENCODER, "weights": "random"}
    usual = {"device": setting.device, "workers": 0}
    return PrecomputeOptions(dataroot=full_world(setting), out=out, **(encoder | usual | changes))


def full_store(setting: Setting) -> Path:
    """Where the cache of the full-size frames lies."""
    return setting.work / "zarr" / "full"
