"""Stand-in for a run where nothing was trained: the CLIP features of a store, and their nearest texts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ovps.cache.reader import Store
from ovps.taxonomy import Split
from ovps.training.config import TrainConfig
from ovps.training.run import Run
from ovps.training.run_files import ClipSource, RunInfo, hash_tokens

NAME = "clip-alone"


def clip_alone(store: Store) -> Run:
    """Make a run without a network, after no step, that was trained on no class: `ovps.systems.clip_alone` answers."""
    known, taxonomy = store.provenance, store.taxonomy
    novel = tuple(c.name for c in taxonomy.classes)
    info = RunInfo(
        ovps_version=known.code_version,
        torch_version=torch.__version__,
        dataset=known.dataset,
        dataset_version=known.dataset_version,
        taxonomy=taxonomy,
        split=Split(name="nothing_labelled", taxonomy=taxonomy.name, novel=novel),
        grid=known.grid,
        clip=ClipSource.of(known),
        vocabulary_sha256=store.info.vocabulary_sha256,
        frames=0,
        frames_sha256=hash_tokens(()),
        total_steps=0,
        sweeps=known.sweeps,
        threads=torch.get_num_threads(),
    )
    return Run(Path(NAME), TrainConfig(system="clip", steps=1), info, nn.Identity().eval(), 0, store.vocabulary)
