"""Options of precompute with every default filled in."""

from __future__ import annotations

from pathlib import Path

import torch

from cache_schemas import MAX_FRAMES
from ovps import clip, datasets, machine
from ovps.cache.where import storage_of
from ovps.devices import device_of
from ovps.errors import ConfigError, DatasetError
from ovps.geometry.grid import Grid
from ovps.places import check_no_url
from pipelines.options import USUAL, PrecomputeOptions


class Resolved(PrecomputeOptions):
    """Every default is filled in and every path absolute, so that a worker elsewhere reads the same."""

    dataroot: Path
    version: str
    workers: int
    partition_frames: int
    device: str
    gpus: int


def resolved(options: PrecomputeOptions) -> Resolved:
    """Fill in what depends on data set, encoder and machine.

    Raises:
        ConfigError: no such data set, encoder or grid, partitions larger than a store allows, or earlier sweeps of a
            data set that has none.
    """
    frames = options.partition_frames or MAX_FRAMES
    if frames > MAX_FRAMES:
        raise ConfigError(
            f"a partition holds {MAX_FRAMES} frames at most, not {frames}", remedy="Give fewer --partition-frames"
        )
    dataset = datasets.get(options.dataset)
    if options.sweeps and not getattr(dataset, "has_earlier_sweeps", False):
        raise ConfigError(
            f"data set {options.dataset} has no earlier sweeps", remedy="Leave out --sweeps, or say --sweeps 0"
        )
    version = options.version or dataset.default_version
    usual = datasets.usual_subsets(dataset, version)
    root = data_root(options.dataset, options.dataroot)
    weights = options.weights
    if weights is not None and Path(weights).is_file():
        weights = str(Path(weights).absolute())
    machine.check_processes("--workers", options.workers or 0)
    device = str(device_of(options.device))
    gpus = _gpus(options.gpus, device)
    return Resolved.model_validate(
        options.model_dump()
        | {
            "dataroot": root,
            "cameras": options.cameras or getattr(dataset, "default_cameras", ()),
            "version": version,
            "subsets": usual if options.subsets == (USUAL,) else options.subsets,
            "out": storage_of(options.out).at(),
            "weights": weights,
            "grid": str(Grid.parse(options.grid)),
            "workers": default_workers(options.encoder, device, gpus) if options.workers is None else options.workers,
            "partition_frames": frames,
            "device": device,
            "gpus": gpus,
        }
    )


def data_root(dataset: str, asked: Path | None) -> Path:
    """Find the folder of a data set: what was asked for, else its own default; absolute.

    Raises:
        ConfigError: a URL.
        DatasetError: no folder there.
    """
    root = asked or datasets.default_root(dataset)
    check_no_url(root)
    if not root.is_dir():
        by = "--dataroot" if asked else f"--dataroot or the variable {datasets.root_variable(dataset)}"
        raise DatasetError(
            "a file, not the folder of a data set" if root.exists() else "no such folder",
            path=root.absolute(),
            remedy=f"Give the folder of data set {dataset} by {by}",
        )
    return root.absolute()


def _gpus(asked: int | None, device: str) -> int:
    """GPUs to use; 0 on a CPU.

    Raises:
        ConfigError: more than this machine has, or some beside another device.
    """
    there = torch.cuda.device_count() if device == "cuda" else int(device.startswith("cuda"))
    if asked is not None and asked > there:
        raise ConfigError(
            f"--gpus {asked}, but {there} can be used with device {device}",
            remedy="Leave it out to use all that there are; `ovps doctor` says what torch sees",
        )
    return there if asked is None else asked


def default_workers(encoder: str, device: str, gpus: int) -> int:
    """One worker for each GPU, none beside a single one, else one for each core, unless memory allows fewer.

    Who has a GPU has threads for what else there is to do: beside one, this process does it all, and CLIP is loaded
    once. Of a container it is its cores and its memory that count.
    """
    if device != "cpu" and gpus <= 1:
        return 0
    wanted = machine.cores() if device == "cpu" else gpus
    return max(1, min(wanted, int(machine.free_memory() // clip.get(encoder).worker_bytes)))
