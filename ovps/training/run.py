"""A run's folder: what it was made from, its weights, and how to get the trained network back.

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
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any, Final, Literal

import torch
import yaml
from pydantic import BaseModel, ValidationError
from torch import nn

from cache_schemas import Provenance
from ovps import plain_yaml, systems
from ovps.batch.base_labels import ClassSplit
from ovps.batch.voxels import INPUT_DIM, frame_batch
from ovps.cache.frame_data import CachedFrame
from ovps.errors import CacheError, CheckpointError, ConfigError, SetupError, VocabularyError, faults_of, listed
from ovps.geometry.grid import Grid
from ovps.model import sparse
from ovps.model.class_text import ClassText
from ovps.model.inputs import VoxelBatch
from ovps.places import check_no_url
from ovps.plugins import can_be_called, described, line_of, misgiven
from ovps.shortage import faults
from ovps.systems import asked
from ovps.systems.protocol import Shape, System
from ovps.taxonomy import Split, Taxonomy
from ovps.training.checkpoint import Architecture, Checkpoint, Origin, check_origin, load_checkpoint, restore
from ovps.training.config import TrainConfig, flat, missing_settings, unknown_settings, validate_config
from ovps.training.files import write_whole
from ovps.versions import WROTE_IT, only_unknown, other_format
from ovps.vocabulary import Vocabulary, load_vocabulary, same_texts, vocabulary_bytes

CONFIG = "config.yaml"
INFO = "run.json"
VOCABULARY = "vocabulary.safetensors"
STATISTICS = "statistics.safetensors"
LAST = "checkpoints/last.pt"
FORMAT: Final = "ovps-run-1"

ANSWERS = ("merge.", "classifier.")  # settings of what a run answers, which has learned nothing of them
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

_ANEW = "Restore it, or train again: ovps train --restart"  # of what no version of ovps wrote
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


class RunInfo(BaseModel, frozen=True, extra="forbid"):
    """`run.json`. Taxonomy and split are whole, so that a run needs no file of its user's.

    Attributes:
        frames: trained on.
        unlabelled_frames: of its subsets, left out; a run.json without the number is of none.
        processes: that train it together; a run.json without the number is of one.
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
    clip: ClipSource
    vocabulary_sha256: str
    frames: int
    frames_sha256: str
    unlabelled_frames: int = 0
    total_steps: int
    threads: int
    processes: int = 1
    sweeps: int = 0

    @property
    def classes(self) -> ClassSplit:
        """The base classes: all that training may know."""
        return ClassSplit(self.taxonomy, self.split)


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network and all that is needed to use it.

    Attributes:
        network: in eval mode, weights of the last checkpoint.
        step: updates that the weights have seen.
        vocabulary: the data set's own classes, base and novel.
    """

    path: Path
    config: TrainConfig
    info: RunInfo
    network: nn.Module
    step: int
    vocabulary: Vocabulary

    @property
    def system(self) -> System:
        """The system of its network."""
        return systems.get(self.config.system)

    @property
    def taxonomy(self) -> Taxonomy:
        return self.info.taxonomy

    @property
    def split(self) -> Split:
        return self.info.split

    @property
    def clip(self) -> ClipSource:
        return self.info.clip

    @property
    def grid(self) -> Grid:
        return Grid.parse(self.info.grid)

    def batch(self, frame: CachedFrame) -> VoxelBatch:
        """Voxelise a frame as the network takes it: a batch of one, on the CPU."""
        return frame_batch(frame, self.grid, clusters=self.config.model.input_clusters)

    def classes(self, vocabulary: Vocabulary) -> ClassText:
        """Take the entries of a vocabulary as its system does; it knows those with the name or a text of a class
        trained on, so that another name for the same text changes nothing.
        """
        names = self.info.classes.names
        alike = same_texts(vocabulary, self.vocabulary, names) if self.system.uses_text else []
        return asked.classes(self.system, vocabulary, [*names, *alike])

    @property
    def finished(self) -> bool:
        return self.step >= self.info.total_steps

    def unfinished(self) -> list[str]:
        """Warn of a run whose training has not come to its end."""
        return [] if self.finished else [f"the run is at step {self.step:,} of {self.info.total_steps:,}"]

    def check_cache(self, provenance: Provenance, path: str) -> None:
        """Raise CacheError unless the cache at `path` was made with the CLIP, and with the sweeps, of this run."""
        there, here = ClipSource.of(provenance).model_dump(), self.clip.model_dump()
        differing = [f"{n} {there[n]!r} in the cache, {here[n]!r} in the run" for n in here if there[n] != here[n]]
        if differing:
            raise CacheError(
                f"the cache has features of another CLIP than run {self.path}: {'; '.join(differing)}",
                path=path,
                remedy="Use a cache of the CLIP that the run was trained with, or train on this cache",
            )

        if provenance.sweeps != self.info.sweeps:
            raise CacheError(
                f"the cache has {provenance.sweeps} earlier sweeps, run {self.path} was trained with"
                f" {self.info.sweeps}",
                path=path,
                remedy=f"Make such a cache, `ovps precompute --sweeps {self.info.sweeps}`, or train on this one",
            )

    def check_vocabulary(self, vocabulary: Vocabulary, path: Path | None = None) -> None:
        """Raise VocabularyError unless the vocabulary was made with the CLIP of this run."""
        there = (vocabulary.encoder, vocabulary.weights_sha256, vocabulary.embeddings.shape[1])
        here = (self.clip.encoder, self.clip.weights_sha256, self.clip.clip_dim)
        if there != here:
            raise VocabularyError(
                f"text embeddings of another CLIP, {there}, than run {self.path}, {here}",
                path=path,
                remedy="Build the vocabulary with the CLIP of the run: ovps vocab build --encoder ... --weights ...",
            )


def load_run(path: Path, device: torch.device | str = "cpu", backend: str | None = None) -> Run:
    """Load the network of a run, with the weights of its last checkpoint.

    Args:
        backend: engine of the sparse convolutions (`ovps.model.sparse`); None: the one that the run was trained with,
            or another where that is not installed, said on stderr.

    Raises:
        ConfigError: no such backend.
        CheckpointError: not a run, damaged, of another version, or checkpoint or vocabulary are another run's.
    """
    config, info = load_settings(path)
    checkpoint = last_checkpoint(path, config, info)
    network = make_network(config, info, backend or sparse.for_weights_of(config.model.encoder.backend))
    restore(checkpoint, network, None, path / LAST)
    vocabulary = _own_vocabulary(path / VOCABULARY, info)
    return Run(path, config, info, network.to(device).eval(), checkpoint.step, vocabulary)


def last_checkpoint(path: Path, config: TrainConfig, info: RunInfo) -> Checkpoint:
    """Read the last checkpoint of a run.

    Raises:
        CheckpointError: missing, damaged, of another version or architecture, or of another run.
    """
    checkpoint = load_checkpoint(path / LAST, architecture(config, info))
    check_origin(checkpoint, origin(config, info), info.total_steps, path / LAST)
    return checkpoint


def _own_vocabulary(path: Path, info: RunInfo) -> Vocabulary:
    try:
        vocabulary = load_vocabulary(path)
    except VocabularyError as error:
        remedy = WROTE_IT if error.remedy == WROTE_IT else _ANEW
        raise CheckpointError(f"the run's own vocabulary: {error.message}", path=path, remedy=remedy) from error
    # the same content may have been written by another version of safetensors
    if info.vocabulary_sha256 not in map(_sha256, (path.read_bytes(), vocabulary_bytes(vocabulary))):
        raise CheckpointError(
            "the vocabulary of another run: it is not the one that run.json names",
            path=path,
            remedy="Put the run's own back; it is vocabulary.safetensors of the store that the run was trained on",
        )
    return vocabulary


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
                remedy=_ANEW,
            )
        raise CheckpointError("no run here", path=path, remedy="Train one: ovps train --cache CACHE --out RUN")
    info = _load_info(path / INFO)
    try:
        values = plain_yaml.loads((path / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no settings")
    except faults(OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"damaged: {faults_of(error)}", path=path / CONFIG, remedy=_ANEW) from error
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
    return message, "Restore it, use the version that wrote it, or train again: ovps train --restart"


def _load_info(path: Path) -> RunInfo:
    try:
        text = path.read_text(encoding="utf-8")
        if other := other_format(json.loads(text), FORMAT):
            raise CheckpointError(other, path=path, remedy=WROTE_IT)
    except faults(OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"damaged: {faults_of(error)}", path=path, remedy=_ANEW) from error
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


def make_network(config: TrainConfig, info: RunInfo, backend: str | None = None) -> nn.Module:
    """Build the network of a run, weights drawn from torch's generator.

    Args:
        backend: engine of the sparse convolutions, instead of the config's.

    Raises:
        ConfigError: no such system or backend.
        SetupError: the backend is not installed, or what the system builds is no network.
    """
    shape = Shape(INPUT_DIM, info.clip.clip_dim, len(info.classes.names), len(info.classes.stuff))
    model = config.model
    if backend is not None:
        model = model.model_copy(update={"encoder": model.encoder.model_copy(update={"backend": backend})})
    system = systems.get(config.system)
    network: Any = system.build(model, shape)
    if not isinstance(network, nn.Module):
        fault = f"{described(network)}, expected a torch module"
    elif not any(parameter.requires_grad for parameter in network.parameters()):
        fault = f"{type(network).__name__} without parameters: there is nothing to train"
    elif not can_be_called(network.forward, [Parameter("batch", Parameter.POSITIONAL_ONLY)]):
        where = line_of(network.forward) or "a module of torch"
        fault = f"{type(network).__name__} whose `forward` cannot be called with (batch), {where}"
    else:
        return network
    raise misgiven("system", system, "build", fault, SetupError)


def architecture(config: TrainConfig, info: RunInfo) -> Architecture:
    """Describe what the weights of a run fit. Thresholds of inference, schedule and data are not among it."""
    return {
        "system": config.system,
        **{f"model.{name}": value for name, value in flat(config.model).items()},
        "grid": info.grid,
        "input_dim": INPUT_DIM,
        "clip_dim": info.clip.clip_dim,
        "base_classes": list(info.classes.names),
    }


def origin(config: TrainConfig, info: RunInfo) -> Origin:
    """Describe the training that a checkpoint is of: whatever must be the same for a run to go on."""
    return {
        **{name: value for name, value in flat(config).items() if not name.startswith(FREE)},
        **{f"clip.{name}": value for name, value in flat(info.clip).items()},
        "novel classes": list(info.split.hidden),
        "class names": info.vocabulary_sha256,
        "frames to train on": info.frames_sha256,
        "processes": info.processes,
    }


def hash_tokens(tokens: Iterable[str]) -> str:
    """SHA-256 of frame tokens in order."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()
