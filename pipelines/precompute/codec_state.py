"""The state of a new store's codec, made of training frames; that of a store that is there is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovps.cache import codecs
from ovps.cache.codecs.protocol import State, sample_of
from ovps.cache.codecs.state import read_state
from ovps.cache.reader import read_info
from ovps.cache.writer import is_store
from ovps.errors import DatasetError, FrameError
from ovps.frame import Frame
from pipelines.precompute.compute_frame import voxel_features
from pipelines.precompute.task import Job, one_thread, tools_of


def codec_state(job: Job, frames: Sequence[Frame]) -> State:
    """Make or read the state that the job's codec needs beside a frame; {} where it needs nothing.

    Args:
        frames: to train on: no other frame has a say in how features are rounded.

    Raises:
        DatasetError: none of the frames that it would be made of can be computed.
        CorruptStoreError: the store's own cannot be read.
    """
    if is_store(job.out):
        there = read_info(job.out).provenance
        return read_state(job.out, there) if there.codec == job.codec else {}  # another codec: refused soon
    codec = codecs.get(job.codec)
    return codec.fit(_sample(job, frames, codec.fit_frames)) if codec.fit_frames else {}


def _sample(job: Job, frames: Sequence[Frame], count: int) -> NDArray[np.float32]:
    """(M, C) float32, of frames that are evenly spread, see `sample_of`; bad ones are told when their turn comes."""
    tools = tools_of(job)
    chosen = sorted({number * len(frames) // count for number in range(count)}) if frames else []
    found = []
    with one_thread():
        for number in chosen:
            try:
                features = voxel_features(frames[number], tools)
            except FrameError:
                continue
            found.append(sample_of(tools.codec, features))
    if not found:
        raise DatasetError(
            f"codec {job.codec} is fitted to training frames, and none of {len(chosen)} can be computed",
            remedy="Mend the frames, or choose a codec that needs none: `ovps precompute --codec dense`",
        )
    return np.concatenate(found)
