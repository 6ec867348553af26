"""Data sets: one module each, found by name and imported only when asked for.

A data set module has
- `NAME`, `TAXONOMY`: its own name and that of its taxonomy;
- `default_root() -> Path`;
- `load_frames(dataroot, version, subsets) -> list[Frame]`, scene after scene, each in order of time;
- `read_points(frame) -> PointCloud`, `read_labels(frame) -> (N,) uint32`, `read_image(camera) -> (H, W, 3) uint8`.

Only `load_frames` reads tables; the readers need nothing but the record, so workers get along without the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ovps.errors import ConfigError
from ovps.frame import Camera, Frame, PointCloud

KNOWN = ("nuscenes",)


class Dataset(Protocol):
    """What every data set module offers."""

    NAME: str
    TAXONOMY: str

    def default_root(self) -> Path: ...

    def load_frames(self, dataroot: Path, version: str, subsets: Sequence[str]) -> list[Frame]: ...

    def read_points(self, frame: Frame) -> PointCloud: ...

    def read_labels(self, frame: Frame) -> NDArray[np.uint32]: ...

    def read_image(self, camera: Camera) -> NDArray[np.uint8]: ...


def get(name: str) -> Dataset:
    """The module of a data set.

    Raises:
        ConfigError: no data set of that name.
    """
    if name not in KNOWN:
        raise ConfigError(f"no data set named {name!r}", remedy=f"The known ones are: {', '.join(KNOWN)}")
    return cast(Dataset, import_module(f"ovps.datasets.{name}"))
