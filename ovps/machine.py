"""Cores and memory that this process may use: of the machine, within the limits of its container."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ovps.errors import ConfigError, SetupError

ROOT = Path("/")
PROCESSES, PROCESSES_PER_CORE = 64, 8  # the most that may be asked for, whatever the cores, and of many cores
_UNLIMITED = 2**60  # cgroup v1 writes a number of about 2**63 for no limit


def cores(root: Path = ROOT) -> int:
    """Cores this process may run on, no more than its CPU quota pays for; at least one.

    Args:
        root: of the file system that /proc and /sys are read from.
    """
    quotas = [quota for folder in _groups("cpu", root) if (quota := _quota(folder)) is not None]
    return max(1, min(len(os.sched_getaffinity(0)), *(int(quota) for quota in quotas), 2**16))


def memory(root: Path = ROOT) -> int:
    """Bytes of memory in all: the machine's, or the least limit that this process is under."""
    limits = (_limit(folder) for folder in _groups("memory", root))
    return min(psutil.virtual_memory().total, *(limit for limit in limits if limit is not None), 2**62)


def free_memory(root: Path = ROOT) -> int:
    """Bytes of memory that may still be used; what only caches files counts as free."""
    rooms = [max(0, limit - _used(folder)) for folder in _groups("memory", root) if (limit := _limit(folder))]
    return min(psutil.virtual_memory().available, *rooms, 2**62)


def most_threads(root: Path = ROOT) -> int | None:
    """Threads and processes that the container of this process may have; None where it is under no limit.

    Args:
        root: of the file system that /proc and /sys are read from.
    """
    limits = (_text(folder / "pids.max") for folder in _groups("pids", root))
    return min((int(limit) for limit in limits if limit and limit.isdigit()), default=None)


def threads_refused(root: Path = ROOT) -> int:
    """Count the threads and processes that were refused in the container of this process, for its limit, so far.

    Args:
        root: of the file system that /proc and /sys are read from.
    """
    events = (_text(folder / "pids.events") or "" for folder in _groups("pids", root))
    return sum(int(line.split()[1]) for text in events for line in text.splitlines() if line.startswith("max "))


def check_processes(option: str, count: int, what: str = "processes") -> None:
    """Check that so many processes can be of use on this machine; a few too many are slow, a slip of the hand is fatal.

    Args:
        option: that asked for them, as people write it.
        what: they are, if not processes.

    Raises:
        ConfigError: far more than the machine has cores.
    """
    most = max(PROCESSES, PROCESSES_PER_CORE * cores())
    if count > most:
        raise ConfigError(
            f"{option} {count} are more {what} than this machine can run:"
            f" it has {cores()} cores and {free_memory() / 1e9:.1f} GB of free memory",
            remedy=f"Give at most {most}; one per core is a good choice",
        )


def check_semaphores(remedy: str) -> None:
    """Check that processes can share locks, which lie in /dev/shm: Python needs them for any pool of processes.

    Args:
        remedy: another way than several processes.

    Raises:
        SetupError: they cannot, for example because /dev/shm cannot be written.
    """
    try:
        multiprocessing.get_context("fork").Lock()  # nobody has to keep track of this one
    except OSError as error:
        raise SetupError(
            f"processes cannot share locks: {error.strerror}", path="/dev/shm", remedy=f"Make it writable. {remedy}"
        ) from error


def use_own_cores() -> None:
    """Let torch have no more threads than `cores`: by itself it takes all of the machine, whatever the quota."""
    import torch

    if torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch have `count` threads, or as `use_own_cores` where none is asked for, and what it had afterwards."""
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    else:
        use_own_cores()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the cgroups of this process that may limit it, of version 2 and 1, innermost first.

    A container may see the paths of its host, where there is nothing: what limits it is at the root of the mount.
    """
    mounts = root / "sys/fs/cgroup"
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, names, path = line.split(":", 2)
        if number == "0" and not names:
            mount = mounts / "unified" if (mounts / "unified").is_dir() else mounts
        elif controller in names.split(","):
            mount = mounts / controller
        else:
            continue
        inner = mount / path.strip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder == mount or mount in folder.parents)


def _limit(folder: Path) -> int | None:
    text = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")
    return int(text) if text and text.isdigit() and int(text) < _UNLIMITED else None


def _used(folder: Path) -> int:
    used = int(_text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes") or 0)
    stat = dict(line.split() for line in (_text(folder / "memory.stat") or "").splitlines())
    return used - int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _quota(folder: Path) -> float | None:
    """In cores."""
    text = _text(folder / "cpu.max")
    if text:
        quota, period = text.split()
    else:
        quota, period = (_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
