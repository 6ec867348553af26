"""Order of the frames that steps see: a pure function of the seed and the step, so that a run resumes anywhere.

Frames form one endless stream, epoch after epoch, each epoch in its own random order. Batches are cut from the
stream without regard to where an epoch ends, so that all are full. A forward pass of N processes takes the next N
batches: the frames of one process with N times the batch, of which process r has the r-th contiguous piece.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """One frame of the stream: it is augmented by (seed, epoch, frame)."""

    epoch: int
    frame: int


def draws(seed: int, frames: int, start: int, count: int) -> list[Draw]:
    """Draw `count` frames of the stream over `frames` training frames, from position `start`."""
    result = []
    for position in range(start, start + count):
        epoch, place = divmod(position, frames)
        result.append(Draw(epoch, int(_permutation(seed, epoch, frames)[place])))
    return result


def share(start: int, stop: int, rank: int, count: int) -> range:
    """Number the batches of process `rank` of `count` in forward passes start..stop-1."""
    return range(start * count + rank, stop * count + rank, count)


def _permutation(seed: int, epoch: int, frames: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(frames)
