"""Loader processes: batches made beside the training, and every way in which that fails told as one error.

A worker packs its batch itself. Left to the queue between the processes, a batch that finds no room in shared memory is
lost in a thread of the worker, with a traceback, and the training waits for it for ever.
"""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.signal_handling import _error_if_any_worker_fails

from ovps import plugins
from ovps.batch.sample import Batch
from ovps.errors import OvpsError, SetupError, TrainingError
from ovps.interrupt import deaf_children
from ovps.machine import check_semaphores
from ovps.shortage import in_words, shortage_of, threads_were_refused

SHARED = Path("/dev/shm")
_SPARE_FILES = 16  # what handing a batch over opens for a moment, with some room
_ALIGNED = 64  # bytes that a tensor begins at a multiple of
_WITHOUT = "or load without processes: --set data.workers=0"


def from_workers(batches: Dataset[Batch], numbers: Sequence[int], workers: int) -> Iterator[Batch]:
    """Iterate over `batches[number]` for each of `numbers`, in order, made by `workers` processes.

    They are spawned: forking a process that has read Zarr can deadlock.

    Raises:
        OvpsError: as a worker raised it.
        TrainingError: a worker cannot start, has died, or finds no room for a batch.
        SetupError: memory or threads are lacking.
    """
    check_semaphores(f"Or else {_WITHOUT.removeprefix('or ')}")
    with _deaths_unheard(), _ended_children() as ending:
        # SIGTERM from the start: threads of libraries that are there before `_outlive_signals` would hear it
        with _told(), _deaths_heard(), deaf_children(signal.SIGTERM):
            parcels: Any = iter(
                DataLoader(
                    _Parcels(batches),
                    sampler=numbers,
                    batch_size=None,
                    collate_fn=_as_it_is,
                    num_workers=workers,
                    multiprocessing_context="spawn",
                    worker_init_fn=_outlive_signals,
                    # the loader draws a seed for its workers: from torch's own generator, that would change the
                    # dropout of a resumed run
                    generator=torch.Generator(),
                )
            )
        ending.callback(parcels._shutdown_workers)
        for _ in numbers:
            with _told(), _deaths_heard():
                parcel = next(parcels)
                found = parcel if isinstance(parcel, OvpsError) else unpack(ForkingPickler.loads(parcel))
            if isinstance(found, OvpsError):
                raise found
            yield found


@contextmanager
def _ended_children() -> Iterator[ExitStack]:
    """Processes started in here have ended when it is left, killed if what was to be called first did not end them.

    One that is still starting is deaf to torch, which gives up on it and takes away what it is about to open: it would
    print a traceback below the true error.
    """
    others = multiprocessing.active_children()
    try:
        with ExitStack() as first:
            yield first
    finally:
        for child in multiprocessing.active_children():
            if child not in others:
                child.kill()
                child.join()


@dataclass(frozen=True)
class _Parcels(Dataset[bytes | OvpsError]):
    """Batches as they are sent: one piece of shared memory, and bytes that say where; or what went wrong."""

    batches: Dataset[Batch]

    def __getitem__(self, number: int) -> bytes | OvpsError:
        try:
            with plugins.told():
                batch = self.batches[number]
            with _told():
                _spare_files()
                return bytes(ForkingPickler.dumps(pack(batch)))
        except OvpsError as error:  # torch would make another error of it, without file and remedy
            return error


@dataclass(frozen=True)
class Packed:
    """Any object with its tensors side by side in one: each tensor on its own would be an open file in both processes.

    Attributes:
        content: the object, pickled, with places in `flat` for its tensors.
        flat: (bytes,) uint8.
    """

    content: bytes
    flat: Tensor


def pack(value: object) -> Packed:
    """Pack an object with CPU tensors for the way to another process."""
    tensors: list[Tensor] = []
    buffer = io.BytesIO()
    end = 0

    class Pickler(pickle.Pickler):
        def persistent_id(self, part: object) -> tuple[int, int, torch.dtype, torch.Size] | None:
            nonlocal end
            if not isinstance(part, Tensor):
                return None
            start = end
            end = start + -(-part.nbytes // _ALIGNED) * _ALIGNED
            tensors.append(part)
            return start, start + part.nbytes, part.dtype, part.shape

    Pickler(buffer).dump(value)
    flat = torch.empty(end, dtype=torch.uint8).share_memory_()
    start = 0
    for tensor in tensors:
        flat[start : start + tensor.nbytes] = tensor.contiguous().reshape(-1).view(torch.uint8)
        start += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
    return Packed(buffer.getvalue(), flat)


def unpack(packed: Packed) -> Any:
    """Restore what was packed; its tensors lie where they were received."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, place: tuple[int, int, torch.dtype, torch.Size]) -> Tensor:
            start, end, dtype, shape = place
            return packed.flat[start:end].view(dtype).reshape(shape)

    return Unpickler(io.BytesIO(packed.content)).load()


@contextmanager
def _told() -> Iterator[None]:
    """Turn what torch and the system say about processes, shared memory and open files into an OvpsError."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if shortage_of(error) in ("memory", "threads"):  # of shared memory and files it is known what to do here
            raise
        raise _named(error) from error


@contextmanager
def _deaths_unheard() -> Iterator[None]:
    """Raise nothing when a worker dies while its batches are used, or while the others are ended.

    Torch's own handler, once any loader has set it, stays for good and raises in whatever the process does.
    """
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if _hears() else None
    try:
        yield
    finally:
        if before is not None and _hears():
            signal.signal(signal.SIGCHLD, before)


def _hears() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _deaths_heard() -> Iterator[None]:
    """Raise RuntimeError as soon as a worker has died, here and nowhere else."""
    if not _hears():
        yield  # where torch hears nothing either
        return
    before = signal.signal(signal.SIGCHLD, lambda number, frame: _error_if_any_worker_fails())
    try:
        _error_if_any_worker_fails()  # since the last time
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _named(error: Exception) -> OvpsError:
    text = str(error)
    gone = isinstance(error, (ConnectionError, EOFError, FileNotFoundError))  # it held a batch that was being fetched
    if gone or ("DataLoader worker" in text and "Killed" in text):
        return TrainingError(
            "a loader process has gone, most likely killed for want of memory",
            remedy="Use fewer data.workers or less data.keep_mb; the same command goes on from the last checkpoint,"
            " if there is one",
        )
    if getattr(error, "errno", None) == errno.EMFILE or "Too many open files" in text or "ancdata" in text:
        return TrainingError(
            f"loader processes need more open files than the limit of {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}",
            remedy=f"Raise it (ulimit -n 4096), {_WITHOUT}",
        )
    if "shared memory" in text or "Bus error" in text:
        return TrainingError(
            f"loader processes find no room for a batch in shared memory, {_megabytes(SHARED)}",
            path=SHARED,
            remedy=f"Give it more (docker run --shm-size=8g; mount -o remount,size=8g {SHARED}), {_WITHOUT}",
        )
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    if threads_were_refused():
        message, remedy = in_words("threads", f"a loader process failed: {first}")
        return SetupError(message, remedy=remedy)
    return TrainingError(f"a loader process failed: {first}", remedy=f"See its own message, {_WITHOUT}")


def _megabytes(folder: Path) -> str:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return "which is not there"
    return f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MB free"


def _spare_files() -> None:
    """Raise OSError unless some more files may be opened: short of them, the other side would wait for ever."""
    opened: list[int] = []
    try:
        while len(opened) < _SPARE_FILES:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _outlive_signals(worker: int) -> None:
    """SIGTERM may be sent to all processes at once, and the training needs its workers for one more step.

    They begin with it blocked; only its own SIGTERM ends them from now on.
    """
    threading.Thread(target=_end_when_parent_says, daemon=True).start()


def _end_when_parent_says() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _as_it_is(parcel: Any) -> Any:
    return parcel
