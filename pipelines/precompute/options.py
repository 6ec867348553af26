"""What can be set, as on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cache_schemas import MAX_FRAMES
from ovps import datasets, machine
from ovps.clip import demo
from ovps.errors import ConfigError
from ovps.geometry.grid import Grid

DEFAULT_ENCODER = "convnext_large_d_320"
DEFAULT_WEIGHTS = "laion2b_s29b_b131k_ft_soup"  # open_clip's tag for it; open_clip downloads them once
_GPU_WORKERS = 4
_WORKER_BYTES = 3.5 * 2**30  # what the default encoder takes at 1600 x 900, measured on a CPU, with some room
_DEMO_WORKER_BYTES = 1.5 * 2**30


class PrecomputeOptions(BaseModel):
    """Options of `ovps precompute`.

    Attributes:
        dataset: name of a data set module.
        dataroot: None: the data set's own default.
        version: of the data set.
        subsets: the data set's splits to compute, in this order.
        out: the store; made, or added to.
        encoder: an open_clip model, or `demo`.
        weights: an open_clip tag, a file, `random`, or None for the encoder's default.
        upscale: enlarge images by this factor before they are encoded, for objects smaller than a feature cell.
        grid: as `ovps.geometry.grid.Grid.parse` reads it.
        occlusion: give points hidden from a camera no feature of it.
        codec: how features are stored; None: that of the store, or the smallest on the first frame of those that lose
            nothing.
        thumbnails: width in pixels of images that are kept in the store, for reports; None: none are.
        workers: processes, each with its own CLIP; 0: in this process, without dask; None: as fit cores and memory.
        scheduler: address of a dask scheduler whose workers see the same paths; instead of `workers`.
        on_error: what a bad frame does: stop the run, or be quarantined in the manifest with the reason.
        partition_frames: frames per partition at most.
        limit: only the first frames of each subset.
        device: `cpu`, `cuda`, or None for a GPU where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: str = "nuscenes"
    dataroot: Path | None = None
    version: str = "v1.0-trainval"
    subsets: tuple[str, ...] = Field(default=("train", "val"), min_length=1)
    out: Path = Path("zarr")
    encoder: str = DEFAULT_ENCODER
    weights: str | None = None
    upscale: float = Field(default=1.0, gt=0)
    grid: str = "cylinder"
    occlusion: bool = True
    codec: str | None = None
    thumbnails: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=0)
    scheduler: str | None = None
    on_error: Literal["stop", "skip"] = "stop"
    partition_frames: int = Field(default=MAX_FRAMES, ge=1, le=MAX_FRAMES)
    limit: int | None = Field(default=None, ge=1)
    device: str | None = None

    @classmethod
    def asked(cls, **values: Any) -> PrecomputeOptions:
        """Options as a person gave them.

        Raises:
            ConfigError: a value that cannot be used.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise ConfigError("; ".join(problems), remedy="See `ovps precompute --help`") from error

    def resolved(self) -> PrecomputeOptions:
        """Every default filled in and every path absolute, so that a worker elsewhere reads the same."""
        root = self.dataroot or datasets.get(self.dataset).default_root()
        weights = self.weights
        if weights is None and self.encoder == DEFAULT_ENCODER:
            weights = DEFAULT_WEIGHTS
        if weights is not None and Path(weights).is_file():
            weights = str(Path(weights).absolute())
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return self.model_copy(
            update={
                "device": device,
                "dataroot": root.absolute(),
                "out": self.out.absolute(),
                "weights": weights,
                "grid": str(Grid.parse(self.grid)),
                "workers": default_workers(self.encoder, device) if self.workers is None else self.workers,
            }
        )


def default_workers(encoder: str, device: str) -> int:
    """One worker per core, unless memory allows fewer; on a GPU enough to keep it busy while others read.

    Of a container it is its cores and its memory that count.
    """
    cores = machine.cores() if device == "cpu" else min(machine.cores(), _GPU_WORKERS)
    each = _DEMO_WORKER_BYTES if encoder == demo.NAME else _WORKER_BYTES
    return max(1, min(cores, int(machine.free_memory() // each)))
