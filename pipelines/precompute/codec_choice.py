"""The codec of a store with its state, made of training frames; those of a store that is there are kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache_schemas import Provenance
from ovps.cache import codecs
from ovps.cache.codecs.choice import FRAMES_PER_FITTED, SMALL, Fidelity, fidelity
from ovps.cache.codecs.protocol import Codec, State, fitted, sample_of
from ovps.cache.codecs.state import read_state
from ovps.cache.reader import Store
from ovps.cache.store_info import read_info
from ovps.cache.where import storage_of
from ovps.cache.writer import is_store, other_settings
from ovps.errors import ConfigError, DatasetError, FrameError, ProvenanceError
from ovps.frame import Frame
from ovps.progress import progress
from pipelines.precompute.compute_frame import Tools, smallest_codec, voxel_features
from pipelines.precompute.flow import tried
from pipelines.precompute.task import Job, one_thread, tools_of


class Chosen(NamedTuple):
    """A codec by name, its state, and what it loses of the training frames, where that was looked at."""

    name: str
    state: State
    fidelity: Fidelity | None = None


def choose_codec(job: Job, asked: str | None, like: str | None, frames: Sequence[Frame]) -> Chosen:
    """Choose that of the store that is there, else what was asked for, else the smallest that loses next to nothing.

    Args:
        asked: a codec's name. None: of a new store with 160 training frames and more the first of `SMALL` whose
            `Fidelity` is enough, else an exact one.
        like: a store whose codec and state are taken.
        frames: to train on: no other frame has a say in how features are rounded.

    Raises:
        DatasetError: none of the frames that a state would be made of can be computed.
        ConfigError: `like` is of another codec or encoder.
        CorruptStoreError: a store's state cannot be read.
    """
    if like is not None:
        return Chosen(*codec_like(like, asked, weights_sha256=job.weights_sha256))
    if is_store(job.out):
        there = read_info(job.out).provenance
        if asked in (None, there.codec):
            return Chosen(there.codec, read_state(job.out, there))
        return Chosen(str(asked), {})  # refused soon
    if asked is not None:
        return Chosen(asked, _fitted(job, frames, codecs.get(asked)))
    return _small_enough(job, frames) or exact_codec(job, frames)


def exact_codec(job: Job, frames: Sequence[Frame]) -> Chosen:
    """Choose, of the codecs that lose nothing, the smaller one by the first frame that can be lifted."""
    tools = tools_of(job)
    for frame in frames:
        name = tried(frame, partial(smallest_codec, frame, tools))
        if not isinstance(name, FrameError):  # which is told when its turn comes
            return Chosen(name, {})
    return Chosen("dense", {})


def codec_like(place: str, asked: str | None, **encoder: str) -> tuple[str, State]:
    """Read the codec of a store and its state, so that a new one can be merged with it.

    Args:
        place: of the store.
        asked: the codec's name; None: whichever it is.
        encoder: what its provenance has to say of the encoder.

    Raises:
        ConfigError: it is of another codec than was asked for, or of another encoder.
    """
    other = Store.open(place)
    known = other.provenance
    for what, ours in {"codec": asked or known.codec, **encoder}.items():
        if ours != (theirs := getattr(known, what)):
            raise ConfigError(
                f"the store to be like has {what} {theirs!r}, not {ours!r}",
                path=other.path,
                remedy="Give another --like, or none",
            )
    return known.codec, read_state(other.storage, known)


def check_like(place: str, provenance: Provenance) -> None:
    """Check that a new store can be merged with the one that it is to be like, before anything is computed.

    What the features have lost on the way (`converted_from`) has no say: only who makes a store of another has any.

    Raises:
        ProvenanceError: they are of different settings; names both values of each.
    """
    storage = storage_of(place)
    there = read_info(storage).provenance.model_copy(update={"converted_from": provenance.converted_from})
    if differing := other_settings(there, provenance):
        raise ProvenanceError(
            f"the store to be like is of other settings, and could not be merged with: {'; '.join(differing)}",
            path=storage.at(),
            remedy="Give the settings of that store, another --like, or none",
        )


def codec_warnings(job: Job, todo: int) -> tuple[str, ...]:
    """Warn that a store which was begun with few frames keeps the features of many exactly, in many times the bytes."""
    if not codecs.get(job.codec).lossless or todo < _least_frames():
        return ()
    return (
        f"{job.out.at()} was begun with codec {job.codec}, and {todo} more frames are stored as exactly: a new store,"
        " with another --out, would take a fifth of the bytes",
    )


def spread(count: int, frames: int) -> list[int]:
    """Numbers of `count` frames, evenly spread over so many; of fewer all."""
    return sorted({number * frames // count for number in range(count)}) if frames else []


def _fitted(job: Job, frames: Sequence[Frame], codec: Codec) -> State:
    if not codec.fit_frames:
        return {}
    sample, bad = _sample(job, frames, codec)
    if not len(sample):
        raise DatasetError(
            f"codec {codec.name} is fitted to training frames, and none of {codec.fit_frames} can be computed"
            + "".join(f". The first one: {str(error).rstrip('.')}" for error in bad[:1]),
            remedy="Mend the frames, or choose a codec that needs none: `ovps precompute --codec dense`",
        )
    return fitted(codec, sample)


def _small_enough(job: Job, frames: Sequence[Frame]) -> Chosen | None:
    if len(frames) < _least_frames():
        return None
    small = [codecs.get(name) for name in SMALL]
    sample, _ = _sample(job, frames, small[0])
    for codec in small if len(sample) else ():
        state = fitted(codec, sample)
        found = fidelity(codec, state, sample)
        if found.enough:
            return Chosen(codec.name, state, found)
    return None


def _least_frames() -> int:
    return FRAMES_PER_FITTED * codecs.get(SMALL[0]).fit_frames


def _sample(job: Job, frames: Sequence[Frame], codec: Codec) -> tuple[NDArray[np.float32], list[FrameError]]:
    """(M, C) float32 of frames that are evenly spread, see `sample_of`, and what is wrong with bad ones."""
    tools = tools_of(job)
    chosen = spread(codec.fit_frames, len(frames))
    found, bad = [np.zeros((0, tools.encoder.dim), np.float32)], []
    with one_thread(), progress("features to fit the codec to", "frames", len(chosen)) as counter:
        for number in chosen:
            rows = tried(frames[number], partial(_rows, frames[number], tools, codec))
            if isinstance(rows, FrameError):
                bad.append(rows)
            elif np.isfinite(rows).all():
                found.append(rows)
            counter.advance()
    return np.concatenate(found), bad


def _rows(frame: Frame, tools: Tools, codec: Codec) -> NDArray[np.float32]:
    return sample_of(codec, voxel_features(frame, tools))
