"""A small drive world in SemanticKITTI's layout: sequence 00 in train, 01 in val, two scans each, two cameras."""

from __future__ import annotations

import shutil
from pathlib import Path

from driveworld import build_world

SEQUENCES = ("00", "01")
FRAMES = 2
IMAGE_SIZE = (320, 96)


def write_kitti_world(root: Path) -> Path:
    """Write it, with a right camera whose pictures are those of the left one, and return the root."""
    build_world(
        root,
        scenes=2,
        frames=FRAMES,
        seed=3,
        format="semantickitti",
        image_size=IMAGE_SIZE,
        azimuth_steps=180,
        val_fraction=0.5,
        workers=1,
    )
    for sequence in SEQUENCES:
        shutil.copytree(root / "sequences" / sequence / "image_2", root / "sequences" / sequence / "image_3")
    return root
