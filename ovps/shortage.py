"""Memory, threads and open files that the system does not give: told as that, not as a damaged file or wrong option."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from ovps import machine
from ovps.errors import OvpsError, SetupError

E = TypeVar("E", bound=BaseException)
Short = Literal["memory", "threads", "files", "gpu"]

# Address space that every command works with. The processes of `precompute --workers 2` had 5.8 GB each at their peak,
# with the smallest encoder on two cores, nearly all of it mapped by the libraries and never touched; the weights of a
# real CLIP come on top. With less, OpenBLAS waits for ever for its 32 MB, deaf to signals, and C++ libraries abort.
# Each core adds threads of torch, OpenBLAS, blosc and pyarrow, with a stack of 8 MB and an arena of 64 MB.
_LEAST, _PER_CORE = 2**33, 2**27

_ERRNO: dict[int, Short] = {
    errno.ENOMEM: "memory",
    errno.EAGAIN: "threads",
    errno.EMFILE: "files",
    errno.ENFILE: "files",
}
# what libraries raise as RuntimeError, or as OSError without a number, by a part of the text in lower case
_TEXTS: dict[str, Short] = {
    "cuda out of memory": "gpu",
    "cuda error: out of memory": "gpu",
    "can't allocate memory": "memory",
    "cannot allocate memory": "memory",
    "defaultcpuallocator: not enough memory": "memory",
    "bad_alloc": "memory",
    "can't start new thread": "threads",
}
_REFUSED = machine.threads_refused()
_AS_A_WHOLE: dict[str, Short] = {"resource temporarily unavailable": "threads"}  # std::thread; sockets say more


def shortage_of(error: BaseException | None) -> Short | None:
    """Find what the system lacked when an exception was raised; None if the exception is about something else.

    An exception that says nothing is what it was raised from; an `OvpsError` has been thought about already.
    """
    while error is not None and not isinstance(error, OvpsError):
        if isinstance(error, MemoryError):
            return "memory"
        # a stream that does not wait raises EAGAIN too, and says how far it came
        if isinstance(error, OSError) and error.errno in _ERRNO and not hasattr(error, "characters_written"):
            return _ERRNO[error.errno]
        if isinstance(error, RuntimeError | OSError):
            text = str(error).lower()
            short = next((short for part, short in _TEXTS.items() if part in text), _AS_A_WHOLE.get(text))
            if short is not None:
                return short
        error = error.__cause__
    return None


def faults(*kinds: type[E], most: int | None = None) -> tuple[type[E], ...]:
    """Kinds of exceptions that an `except` takes for faults of a file; none at all while the system lacks something.

    As in `except faults(OSError, ValueError) as error: raise CorruptStoreError(...) from error`.

    Args:
        most: bytes that a sound file of untrusted origin can ask for at once. A damaged header may ask for terabytes:
            that is a fault of the file if so many bytes could be had.
    """
    short = shortage_of(sys.exc_info()[1])
    return kinds if short is None or (short == "memory" and most is not None and _could_have(most)) else ()


def _could_have(size: int) -> bool:
    try:
        mmap.mmap(-1, size).close()  # nothing of it is touched
    except (OSError, MemoryError):
        return False
    return True


def threads_were_refused() -> bool:
    """Say whether the container of this process refused anybody a thread or process since this one began.

    A process that could not start one may only say that it failed, and that to its parent.
    """
    return machine.threads_refused() > _REFUSED


def files_are_few(least: int) -> bool:
    """Say whether this process may open fewer files than work of some kind needs, which may not say what it lacked."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and limit < least


@contextmanager
def told() -> Iterator[None]:
    """Turn what the system lacks into an error of the set-up that names the limits.

    Raises:
        SetupError: memory, threads or open files are lacking.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        short = shortage_of(error)
        if short is None:
            raise
        message, remedy = in_words(short, str(error))
        raise SetupError(message, remedy=remedy) from error


def in_words(short: Short, text: str = "") -> tuple[str, str]:
    """Say what is lacking, and the remedy.

    Args:
        text: of the exception; its first line is told.
    """
    said = next((f": {line.strip()}" for line in text.splitlines() if line.strip()), "")
    if short == "gpu":
        return f"not enough memory on the GPU{said}", "End what else runs on it, or use a smaller batch or model"
    if short == "files":
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"too many open files{said}", f"The limit is {limit:,}: raise it (ulimit -n 4096)"
    if short == "memory":
        return f"not enough memory{said}", _address_space() or "Use a machine with more memory, or fewer processes"
    limits = [_address_space()] if _address_space() else []
    user, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if user != resource.RLIM_INFINITY:
        limits.append(f"This user may have {user:,} threads and processes (ulimit -u)")
    container = machine.most_threads()
    if container is not None:
        limits.append(f"The container may have {container:,} threads and processes (docker run --pids-limit)")
    return f"not enough threads{said}", ". ".join([*limits, "Raise the limit that is reached, or use fewer processes"])


def _address_space() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return ""
    return f"The address space is limited to {limit >> 20:,} MB: raise the limit (ulimit -v unlimited)"


def address_space_too_short() -> tuple[str, str] | None:
    """Say that the address space is limited to less than the libraries need, and the remedy; None where it is not.

    Child processes inherit the limit.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    least = _LEAST + _PER_CORE * (os.cpu_count() or 1)  # libraries count the cores of the machine
    if limit == resource.RLIM_INFINITY or limit >= least:
        return None
    message, remedy = in_words("memory", f"the libraries need an address space of {least >> 20:,} MB")
    return message, f"{remedy}, and limit memory by a container or cgroup instead"
