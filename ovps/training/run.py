"""A trained run: its network with the weights of its last checkpoint, and what that answers to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cache_schemas import Provenance
from ovps import systems
from ovps.batch.voxels import INPUT_DIM, frame_batch
from ovps.cache.frame_data import CachedFrame
from ovps.errors import CacheError, CheckpointError, FrameError, VocabularyError
from ovps.geometry.grid import Grid
from ovps.geometry.sweep_fault import sweep_fault
from ovps.model import sparse
from ovps.model.class_text import ClassText
from ovps.model.inputs import VoxelBatch
from ovps.systems import asked
from ovps.systems.protocol import System
from ovps.taxonomy import Split, Taxonomy
from ovps.training.checkpoint import Architecture, Checkpoint, Origin, check_origin, load_checkpoint, restore
from ovps.training.config import TrainConfig, flat
from ovps.training.network import make_network
from ovps.training.run_files import FREE, LAST, VOCABULARY, ClipSource, FeatureSource, RunInfo, load_settings
from ovps.versions import WROTE_IT
from ovps.vocabulary import Vocabulary, load_vocabulary, same_texts, vocabulary_bytes

_OWN = (
    "Put the run's own back: it is vocabulary.safetensors of the store that the run was trained on, and the same"
    " `ovps train` again writes it"
)


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

    def other_grid(self, provenance: Provenance) -> list[str]:
        """Warn of a store whose voxels are neither those that the run learned from nor those of its network.

        Of runs of an earlier version that bring features to a grid of their own nobody knows the former.
        """
        known = self.info.cache_grid or (self.info.grid if self.config.data.grid is None else "")
        if not known or Grid.parse(provenance.grid) in (Grid.parse(known), self.grid):
            return []
        return [
            f"the store has CLIP features of the voxels {provenance.grid}, and the run learned from those of {known}:"
            " labels may be worse"
        ]

    def other_features(self, provenance: Provenance) -> list[str]:
        """Warn of a store whose features came about otherwise than those that the run learned from."""
        there, known = FeatureSource.of(provenance), self.info.cache_features
        if known is None or there == known:
            return []
        return [
            f"the store has CLIP features of {there.in_words()}, and the run learned from those of {known.in_words()}:"
            " labels may be worse"
        ]

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

    def check_frame(self, frame: CachedFrame) -> None:
        """Check that a frame is one for this run.

        Raises:
            CacheError: its cache is none: by the length of its CLIP features, or by points of earlier sweeps, of which
                it does not say how many sweeps they are.
            FrameError: its points are those of no sweep, or its features no numbers, as they may be where a caller has
                made them.
        """
        if fault := sweep_fault(frame.xyz, frame.intensity):
            raise FrameError(
                fault,
                frame=frame.token,
                remedy="Points are in metres, in the LiDAR's own frame, and intensities 0 to 1, as `store.read` gives"
                " them",
            )
        if frame.valid.dtype != np.bool_:
            raise FrameError(f"`valid` is {frame.valid.dtype}", frame=frame.token, remedy="Give it as bool")
        lost = ~np.isfinite(frame.clip).all(axis=1)
        if lost.any():
            raise FrameError(
                f"CLIP features of {lost.sum()} of {len(lost)} voxels hold NaN or infinity",
                frame=frame.token,
                remedy="Give zeros, and False in `valid`, where there is no feature",
            )
        if frame.clip.shape[1] != self.clip.clip_dim:
            raise CacheError(
                f"the frame has CLIP features of {frame.clip.shape[1]} channels, run {self.path} of"
                f" {self.clip.clip_dim}",
                frame=frame.token,
                remedy="Use a cache of the CLIP that the run was trained with",
            )
        if (frame.earlier_xyz is not None) != (self.info.sweeps > 0):
            raise CacheError(
                f"the frame has {'no ' if frame.earlier_xyz is None else ''}points of earlier sweeps, run {self.path}"
                f" was trained with {self.info.sweeps} of them",
                frame=frame.token,
                remedy=f"Use a frame of a cache made by `ovps precompute --sweeps {self.info.sweeps}`",
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
        remedy = WROTE_IT if error.remedy == WROTE_IT else _OWN
        raise CheckpointError(f"the run's own vocabulary: {error.message}", path=path, remedy=remedy) from error
    # the same content may have been written by another version of safetensors
    if info.vocabulary_sha256 not in map(_sha256, (path.read_bytes(), vocabulary_bytes(vocabulary))):
        raise CheckpointError(
            "the vocabulary of another run: it is not the one that run.json names",
            path=path,
            remedy=_OWN,
        )
    return vocabulary


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
        **{name: value for name, value in flat(config).items() if not name.startswith((*FREE, "split"))},
        **{f"clip.{name}": value for name, value in flat(info.clip).items()},
        "hidden classes": sorted(info.split.hidden),  # what a split is to a training, whatever it is called
        "class names": info.vocabulary_sha256,
        "frames to train on": info.frames_sha256,
        "processes": info.processes,
    }
