"""What it takes to time the flow around an encoder without one: a simulated accelerator, and one frame again and again.

`plugged` brings both as another package would, for this process and those that it starts.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovps import datasets
from ovps.clip.protocol import Reading, WeightsId
from ovps.frame import Frame
from ovps.geometry.cells import CellGrid

DEVICE = "privateuseone"  # as `--device`: torch's name for an accelerator of another package, so no CPU
DIM, STRIDE = 768, 32  # those of convnext_large_d_320
SECONDS = "OVPS_SIMULATED_SECONDS"  # environment variable: of an image
TIMES = "OVPS_REPEATED_TIMES"  # environment variable: how often the data set has its first frame
SCENE_FRAMES = 40
_WEIGHTS = WeightsId(hashlib.sha256(b"simulated").hexdigest(), random=True)
_PACKAGE = {
    "METADATA": "Metadata-Version: 2.1\nName: ovps-simulated\nVersion: 0\n",
    "entry_points.txt": "[ovps.encoders]\nsimulated = benchmarks.simulated:LOADER\n"
    "[ovps.datasets]\nrepeated = benchmarks.simulated:REPEATED\n",
}


@dataclass(frozen=True, eq=False)
class Simulated:
    """An encoder that waits as for an accelerator, without using the CPU, and gives every image the same features."""

    seconds: float
    name: str = "simulated"
    dim: int = DIM
    weights: WeightsId = _WEIGHTS
    temperature: float = 0.01

    def cells(self, size: tuple[int, int]) -> CellGrid:
        width, height = size
        return CellGrid(height // STRIDE, width // STRIDE, STRIDE)

    def encode(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        grid = self.cells((images.shape[2], images.shape[1]))
        time.sleep(self.seconds * len(images))
        return (
            torch.from_numpy(_features(len(grid))).reshape(1, grid.rows, grid.cols, DIM).expand(len(images), -1, -1, -1)
        )

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return _features(len(images))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _features(len(texts))

    def read(self, texts: Sequence[str]) -> list[Reading]:
        return [Reading(text.encode(), cut=False) for text in texts]


_made: dict[int, NDArray[np.float32]] = {}


def _features(count: int) -> NDArray[np.float32]:
    """(count, DIM) unit vectors, drawn once: an accelerator takes nothing of the CPU to make them."""
    if count not in _made:
        drawn = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
        _made[count] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return _made[count]


class _Loader:
    worker_bytes = 2**30

    def load(self, weights: str | None, *, device: str = "cpu", upscale: float = 1.0) -> Simulated:
        return Simulated(float(os.environ.get(SECONDS, "0.015")))


class Repeated:
    """The first frame of a nuScenes dataroot as many frames, in scenes of `SCENE_FRAMES`."""

    name = "repeated"

    def __getattr__(self, name: str) -> Any:
        return getattr(datasets.get("nuscenes"), name)

    def frames(self, root: Path, version: str, subsets: Sequence[str]) -> list[Frame]:
        first = datasets.get("nuscenes").frames(root, version, subsets)[0]
        return [
            replace(first, token=f"{number:06d}", scene=f"scene-{number // SCENE_FRAMES:04d}", index=number)
            for number in range(int(os.environ.get(TIMES, "1")))
        ]


LOADER = _Loader()
REPEATED = Repeated()


@contextmanager
def plugged(seconds: float, times: int) -> Iterator[None]:
    """Make the encoder `simulated` and the data set `repeated` known.

    Args:
        seconds: of the accelerator, for each image.
        times: the frame is repeated.
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "ovps_simulated-0.dist-info"
        package.mkdir()
        for file, content in _PACKAGE.items():
            (package / file).write_text(content, encoding="utf-8")
        before = dict(os.environ)
        root = str(Path(__file__).parents[1])
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, root, *filter(None, [before.get("PYTHONPATH")])])
        os.environ[SECONDS], os.environ[TIMES] = str(seconds), str(times)
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(folder)
            os.environ.clear()
            os.environ.update(before)
