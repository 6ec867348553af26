"""The frames of a task on their way through the encoder.

On a CPU one after another: its cores are busy with the encoder. Beside an accelerator, threads read and lift the frames
ahead of it and finish those behind it, a few at a time, so that it need not wait; the images of a frame, or of several
frames of fewer cameras, go through it together. What comes out, and in which order, is the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cache_schemas import SkippedRow
from ovps.cache.writer import EncodedFrame
from ovps.clip.protocol import AT_ONCE
from ovps.errors import FrameError, SetupError
from ovps.frame import Frame
from ovps.plugins import raised_outside
from ovps.shortage import faults
from pipelines.precompute.compute_frame import (
    Batch,
    ReadFrame,
    StageTimes,
    Tools,
    batches,
    encode_batches,
    finish_frame,
    read_frame,
)

T = TypeVar("T")
R = TypeVar("R")
Maps = Sequence[NDArray[np.float32]]  # the cells of each image of a frame

_DEVICE = threading.Lock()  # several tasks may run in a process, which has one encoder
# An accelerator is a task's from its first frame to its last: frame by frame in turns, tasks would all end at once, and
# nothing would be encoded while they are written.
_TURN = threading.Lock()


@dataclass(frozen=True, eq=False)
class Group:
    """Frames whose images go through the encoder together, the good ones' images side by side."""

    frames: list[ReadFrame | FrameError]
    good: list[ReadFrame]
    ready: list[Batch]

    @classmethod
    def of(cls, frames: list[ReadFrame | FrameError], at_once: int) -> Group:
        good = [frame for frame in frames if isinstance(frame, ReadFrame)]
        return cls(frames, good, batches([image for frame in good for image in frame.images], at_once))


def computed(
    frames: Iterable[Frame], tools: Tools, times: StageTimes, threads: int = 0
) -> Generator[EncodedFrame | FrameError, None, None]:
    """Compute frames, in their order; an error in place of each that cannot be.

    Args:
        threads: beside an accelerator; 0: the encoder runs on this CPU.

    Raises:
        SetupError: no room on the accelerator.
    """
    at_once = AT_ONCE if threads else 1
    with _begun(threads) as each:
        read = each(threads + 1, lambda frame: tried(frame, lambda: read_frame(frame, tools, times)), frames)
        # side by side ahead of time: the encoder need not wait while images are copied
        ready = each(2, lambda group: Group.of(group, at_once), _together(read, at_once))
        with closing(_in_turn(ready, _TURN if threads else nullcontext())) as groups:
            encoded = _encoded(groups, tools, times, at_once)
            yield from each(threads + 1, lambda one: _finished(one, tools, times), encoded)


def or_raised(made: EncodedFrame | FrameError) -> EncodedFrame:
    """A frame that was computed; raises the error of one that could not be."""
    if isinstance(made, FrameError):
        raise made
    return made


def sorted_out(
    frames: Iterable[Frame], tried: Iterable[EncodedFrame | FrameError], on_error: Literal["stop", "skip"]
) -> tuple[list[EncodedFrame], list[SkippedRow]]:
    """Frames that were computed, and records of those that could not be; unless they are skipped, the first raises."""
    good, bad = [], []
    for frame, made in zip(frames, tried, strict=True):
        if isinstance(made, FrameError) and on_error == "skip":
            bad.append(SkippedRow(token=frame.token, kind=made.kind, reason=str(made)))
        else:
            good.append(or_raised(made))
    return good, bad


@contextmanager
def _begun(threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """What `map` does, by so many threads if there are any, and a limit as `ahead` has it; nothing goes on when the
    context is left."""
    if not threads:
        yield lambda limit, do, things: map(do, things)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="frame")
    try:
        yield partial(ahead, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: ThreadPoolExecutor, limit: int, do: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
    """Like `map`, in order, but `limit` of the things are begun before the first result is asked for."""
    begun: deque[Future[R]] = deque()
    for thing in things:
        begun.append(pool.submit(do, thing))
        if len(begun) >= limit:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _together(frames: Iterable[ReadFrame | FrameError], images: int) -> Iterator[list[ReadFrame | FrameError]]:
    """Consecutive frames that have at least so many images in all, but for the last ones."""
    group: list[ReadFrame | FrameError] = []
    count = 0
    for frame in frames:
        group.append(frame)
        count += len(frame.images) if isinstance(frame, ReadFrame) else 0
        if count >= images or not count:
            yield group
            group, count = [], 0
    if group:
        yield group


def _in_turn(groups: Iterator[T], turn: AbstractContextManager[object]) -> Generator[T, None, None]:
    """The groups of a task once it is its turn; until then its first frames are read."""
    first = list(islice(groups, 1))
    with turn:
        yield from chain(first, groups)


def _encoded(
    groups: Iterable[Group], tools: Tools, times: StageTimes, at_once: int
) -> Iterator[tuple[ReadFrame, Maps] | FrameError]:
    """The frames of each group with the cells of their images."""
    for group in groups:
        with times.stage("encode"), _DEVICE:
            encoded = iter(_with_cells(group.good, group.ready, tools, at_once))
        for frame in group.frames:
            yield next(encoded) if isinstance(frame, ReadFrame) else frame


def _with_cells(
    frames: Sequence[ReadFrame], ready: Sequence[Batch], tools: Tools, at_once: int
) -> list[tuple[ReadFrame, Maps] | FrameError]:
    """Frames with the cells of their images, which went through the encoder together; the error of one that cannot."""
    try:
        maps = iter(encode_batches(ready, tools.encoder))
        return [(frame, [next(maps) for _ in frame.images]) for frame in frames]
    except torch.OutOfMemoryError as error:
        raise SetupError(
            f"the GPU has no room for {at_once} images with {tools.encoder.name}: {str(error).splitlines()[0]}",
            remedy="End what else runs on it, or take a GPU with more memory, a smaller encoder or a smaller --upscale",
        ) from error
    except faults(BaseException) as error:
        fault = error if isinstance(error, FrameError) else _of_outside(error)
        if len(frames) == 1:
            return [_named(fault, frames[0].frame)]
        alone = [([frame], batches(frame.images, at_once)) for frame in frames]
        return [encoded for one, own in alone for encoded in _with_cells(one, own, tools, at_once)]


def _finished(
    encoded: tuple[ReadFrame, Maps] | FrameError, tools: Tools, times: StageTimes
) -> EncodedFrame | FrameError:
    if isinstance(encoded, FrameError):
        return encoded
    read, maps = encoded
    return tried(read.frame, lambda: finish_frame(read, maps, tools, times))


def tried(frame: Frame, do: Callable[[], T]) -> T | FrameError:
    """Do something with a frame; its error if it cannot be done, also one that another package has raised."""
    try:
        return do()
    except FrameError as error:
        return _named(error, frame)
    except faults(BaseException) as error:
        return _named(_of_outside(error), frame)


def _of_outside(error: BaseException) -> FrameError:
    """What a data set, encoder or codec of another package has raised, as the error of the frame; else raises it."""
    outside = raised_outside(error)
    if outside is None:
        raise error
    return FrameError(outside.message, path=outside.path, remedy=outside.remedy)


def _named(error: FrameError, frame: Frame) -> FrameError:
    """The error, naming the frame: where it was raised only the image or the cloud may be known."""
    if error.frame is not None:
        return error
    also = FrameError(error.message, path=error.path, frame=frame.token, remedy=error.remedy)
    also.__cause__ = error
    return also
