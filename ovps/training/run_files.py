"""A run's folder: what lies in it, and what it says of itself.

RUN/
  config.yaml              every setting
  run.json                 RunInfo: classes, split, grid, CLIP, frames, versions
  vocabulary.safetensors   the data set's own classes, as the cache had them
  statistics.safetensors   mean CLIP feature of the training frames
  cache.json               hashes of the partitions trained on, `ovps.training.cache_content`
  checkpoints/last.pt      newest state; step_N.pt where `keep_interval` asks for it
  metrics.jsonl, tensorboard/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ValidationError

from cache_schemas import Provenance
from ovps import plain_yaml
from ovps.batch.base_labels import ClassSplit
from ovps.errors import CheckpointError, ConfigError, faults_of, listed
from ovps.places import check_no_url, folder_meant
from ovps.shortage import faults
from ovps.taxonomy import Split, Taxonomy
from ovps.training.config import TrainConfig, flat, missing_settings, unknown_settings, validate_config
from ovps.training.files import write_whole
from ovps.versions import WROTE_IT, only_unknown, other_format

CONFIG = "config.yaml"
INFO = "run.json"
VOCABULARY = "vocabulary.safetensors"
STATISTICS = "statistics.safetensors"
LAST = "checkpoints/last.pt"
FORMAT: Final = "ovps-run-1"

# Settings of what a run answers: it has learned nothing of them, and an evaluation may change them.
ANSWERS = ("merge.", "classifier.")
# Settings that do not change what is learned: a run may go on with other values of these.
FREE = (
    "data.workers",
    "data.keep_mb",
    "data.unlabelled_frames",
    "threads",
    "log_interval",
    "gradient_interval",
    "checkpoint_interval",
    "keep_interval",
    *ANSWERS,
)

# of what no version of ovps wrote
_AGAIN = "train again: ovps train --restart, with the options that it was trained with"
ANEW = f"Restore it, or {_AGAIN}"
_OTHER = "Restore it, or use the ovps that wrote it"  # of what a version may have written


class ClipSource(BaseModel, frozen=True, extra="forbid"):
    """The source of a run's CLIP features: only features of the same CLIP mean the same."""

    encoder: str
    weights_sha256: str
    weights_random: bool
    clip_dim: int

    @classmethod
    def of(cls, provenance: Provenance) -> ClipSource:
        return cls(**{name: getattr(provenance, name) for name in cls.model_fields})


class FeatureSource(BaseModel, frozen=True, extra="forbid"):
    """Settings of `ovps precompute` by which the same CLIP gives other features; see `Provenance`."""

    upscale: float
    occlusion: bool  # by whatever settings, which go with the LiDAR
    cameras: tuple[str, ...] | None

    @classmethod
    def of(cls, provenance: Provenance) -> FeatureSource:
        return cls(upscale=provenance.upscale, occlusion=provenance.occlusion is not None, cameras=provenance.cameras)

    def in_words(self) -> str:
        if self.cameras == ():
            return "another program (`ovps cache import`)"
        cameras = "all cameras" if self.cameras is None else ", ".join(self.cameras)
        occlusion = "with" if self.occlusion else "without"
        return f"{cameras}, {occlusion} occlusion test, images enlarged by {self.upscale:g}"


class RunInfo(BaseModel, frozen=True, extra="forbid"):
    """`run.json`. Taxonomy and split are whole, so that a run needs no file of its user's.

    Attributes:
        frames: trained on.
        scenes: of these frames; a run.json without them is of an earlier version.
        unlabelled_frames: of its subsets, left out; a run.json without the number is of none.
        processes: that train it together; a run.json without the number is of one.
        grid: of the network; cache_grid: of the store whose features it learned from, "" in a run.json of an earlier
            version.
        cache_features: how the features of that store came about: cameras, occlusion test and upscale; None: not known.
        sweeps: earlier ones that the cache joins to each frame's own; a run.json without the number is of none.
    """

    format: Literal["ovps-run-1"] = FORMAT
    ovps_version: str
    torch_version: str
    dataset: str
    dataset_version: str
    taxonomy: Taxonomy
    split: Split
    grid: str
    cache_grid: str = ""
    cache_features: FeatureSource | None = None
    clip: ClipSource
    vocabulary_sha256: str
    frames: int
    frames_sha256: str
    scenes: tuple[str, ...] = ()
    unlabelled_frames: int = 0
    total_steps: int
    threads: int
    processes: int = 1
    sweeps: int = 0

    @property
    def classes(self) -> ClassSplit:
        """The base classes: all that training may know."""
        return ClassSplit(self.taxonomy, self.split)


def load_settings(path: Path) -> tuple[TrainConfig, RunInfo]:
    """`config.yaml` and `run.json` of a run.

    Raises:
        CheckpointError: missing, damaged, or of another version.
        ConfigError: a URL.
    """
    if not (path / INFO).is_file():
        check_no_url(path)
        if (path / LAST).is_file() or (path / CONFIG).is_file():
            raise CheckpointError(
                "missing, and without it the run cannot be read",
                path=path / INFO,
                remedy=ANEW,
            )
        train = "Train one: ovps train --cache CACHE --out RUN"
        raise CheckpointError("no run here", path=path, remedy=folder_meant(path, INFO, "run") or train)
    info = _load_info(path / INFO)
    try:
        values = plain_yaml.loads((path / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no settings")
    except faults(OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"damaged: {faults_of(error)}", path=path / CONFIG, remedy=ANEW) from error
    if unknown := unknown_settings(values):
        message = f"it has settings that this ovps does not know: {listed(unknown)}"
        raise CheckpointError(message, path=path / CONFIG, remedy=WROTE_IT)
    try:
        config = validate_config(values, source=str(path / CONFIG))
    except ConfigError as error:
        message = f"damaged, or of another version: {error.message}"
        raise CheckpointError(message, path=path / CONFIG, remedy=_OTHER) from error
    # the file holds every setting: half of one would otherwise pass for a run with defaults
    if values != config.model_dump(mode="json"):
        message, remedy = _lacks(missing_settings(values, config), config)
        raise CheckpointError(message, path=path / CONFIG, remedy=remedy)
    return config, info


def _lacks(missing: Sequence[str], config: TrainConfig) -> tuple[str, str]:
    """What is said of settings that a file lacks, and the remedy: those of answers may be written into it."""
    message = f"damaged, or of another version: without {listed(missing or ['some'])}"
    if missing and all(name.startswith(ANSWERS) for name in missing):
        values = flat(config)
        parts = [(*name.rpartition("."), values[name]) for name in missing]
        lines = ", ".join(f"{name}: {json.dumps(value)} under {section}" for section, _, name, value in parts)
        return message, f"Nothing was learned of it. Write into the file what is asked for today: {lines}"
    return message, f"Restore it, use the version that wrote it, or {_AGAIN}"


def _load_info(path: Path) -> RunInfo:
    try:
        text = path.read_text(encoding="utf-8")
        if other := other_format(json.loads(text), FORMAT):
            raise CheckpointError(other, path=path, remedy=WROTE_IT)
    except faults(OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"damaged: {faults_of(error)}", path=path, remedy=ANEW) from error
    try:
        return RunInfo.model_validate_json(text)
    except ValidationError as error:
        if unknown := only_unknown(error):
            raise CheckpointError(unknown, path=path, remedy=WROTE_IT) from error
        message = f"damaged, or of another version: {faults_of(error)}"
        raise CheckpointError(message, path=path, remedy=_OTHER) from error


def save_settings(path: Path, config: TrainConfig, info: RunInfo) -> None:
    """Write `config.yaml` and `run.json`."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_whole(path / CONFIG, text.encode())
    write_whole(path / INFO, (info.model_dump_json(indent=2) + "\n").encode())


def hash_tokens(tokens: Iterable[str]) -> str:
    """SHA-256 of frame tokens in order."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()
