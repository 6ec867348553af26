"""Processes killed at a random moment of a run: afterwards the same command goes on, to the same bytes.

A run is a process that is forked from this one, which has loaded everything: it begins at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from ovps.cache.manifest import partitions, read_manifest
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.errors import OvpsError
from tools.chaos.ground import Ground
from tools.chaos.outcome import Outcome

LONGEST = 300.0  # seconds of a run
AGAIN = 12  # kills of workers, one after another, before it is given up


def forked(action: Callable[[], object]) -> int:
    """Do something in a process and session of its own; return its id. It ends with the exit code of a command."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        action()
        code = 0
    except OvpsError as error:
        code = error.exit_code
    finally:
        os._exit(code)


def ended(child: int, patience: float = LONGEST) -> int:
    """Wait for a process; return its exit code, negative for a signal. One that does not end is killed: -9."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"a run did not end within {patience:.0f} s")


def kill_client(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """The only process of a run, at a moment between its beginning and its end."""
    usual = _seconds(ground)
    for _ in range(count):
        out = ground.folder / "killed"
        moment = float(rng.uniform(0.0, 0.9 * usual))
        child = forked(lambda: ground.precompute(out))  # noqa: B023
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        code = ended(child)
        outcome = Outcome("kill -9, client", f"after {moment:.2f} s: {code}", {"run"} if code else set())
        yield finished(ground, out, outcome)


def kill_client_of_workers(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """The client of two workers, which are left without anybody; the next run begins while they may still write."""
    for _ in range(count):
        out = ground.folder / "killed"
        child = forked(lambda: ground.precompute(out, workers=2))  # noqa: B023
        seen = _wait_for_workers(child)
        time.sleep(float(rng.uniform(0.0, 6.0)))
        os.kill(child, signal.SIGKILL)
        code = ended(child)
        outcome = Outcome("kill -9, client of two workers", f"{len(seen)} workers: {code}", {"run"} if code else set())
        outcome = finished(ground, out, outcome, keep=True)
        psutil.wait_procs(seen, timeout=60)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        yield finished(ground, out, outcome)


def kill_worker(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """One of two workers: the other one, and one that is started in its place, do the rest."""
    for _ in range(count):
        out = ground.folder / "killed"
        child = forked(lambda: ground.precompute(out, workers=2))  # noqa: B023
        workers = _wait_for_workers(child)
        time.sleep(float(rng.uniform(0.0, 6.0)))
        with suppress(psutil.NoSuchProcess, IndexError):
            workers[rng.integers(len(workers))].kill()
        code = ended(child)
        yield finished(ground, out, Outcome("kill -9, worker", f"exit code {code}", {"run"} if code else set()))


def kill_group(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """Client and workers at once."""
    for _ in range(count):
        out = ground.folder / "killed"
        child = forked(lambda: ground.precompute(out, workers=2))  # noqa: B023
        workers = _wait_for_workers(child)
        time.sleep(float(rng.uniform(0.0, 6.0)))
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        code = ended(child)
        outcome = Outcome("kill -9, whole group", f"{len(workers)} workers: {code}", {"run"} if code else set())
        yield finished(ground, out, outcome)


def kill_for_memory(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """As the kernel does where memory is short: every worker, and each that comes after it, until the run gives up."""
    for _ in range(count):
        out = ground.folder / "killed"
        child = forked(lambda: ground.precompute(out, workers=1))  # noqa: B023
        over = threading.Event()
        killed = 0

        def kill_all(child: int = child, over: threading.Event = over) -> None:
            nonlocal killed
            while not over.wait(0.5) and killed < AGAIN:
                for worker in _workers(child):
                    time.sleep(float(rng.uniform(1.0, 3.0)))
                    with suppress(psutil.NoSuchProcess):
                        worker.kill()
                        killed += 1

        killer = threading.Thread(target=kill_all)
        killer.start()
        code = ended(child)
        over.set()
        killer.join()
        outcome = Outcome("workers killed for memory", f"{killed} kills: exit code {code}", {"run"} if code else set())
        yield finished(ground, out, outcome)


def finished(ground: Ground, out: Path, outcome: Outcome, *, keep: bool = False) -> Outcome:
    """Look at what a disturbed run has left, run the same command again, and compare with an undisturbed run."""
    before = committed(out)
    if (out / "store.json").exists():
        for problem in verify_store(out):
            if problem.kind != "missing" or not problem.path.endswith(".parquet"):
                outcome.note = f"a half-made partition is visible: {problem}"
        told: Outcome = Outcome("", "")
        readable = ground.read(out, told)
        outcome.wrong += told.wrong
        if "reader" in told.seen or len(readable) < sum(len(row.frames) for row in before.values()):
            outcome.note = outcome.note or "what is committed cannot be read"
    try:
        ground.precompute(out)
        outcome.mended = "precompute" if "run" in outcome.seen else outcome.mended
    except OvpsError as error:
        outcome.note = f"the same command again: {error}"
    after = committed(out)
    if any(after.get(name) != row for name, row in before.items()):
        outcome.note = outcome.note or "a committed partition was made again"
    ground.compare(out, outcome)
    if not keep:
        shutil.rmtree(out, ignore_errors=True)
    return outcome


def committed(out: Path) -> dict[str, object]:
    """Manifests by the name of their partition."""
    storage = storage_of(out)
    return {name: read_manifest(storage, name) for name in partitions(storage)}


def _seconds(ground: Ground) -> float:
    """Of an undisturbed run."""
    out = ground.folder / "timed"
    start = time.monotonic()
    ended(forked(lambda: ground.precompute(out)))
    shutil.rmtree(out)
    return time.monotonic() - start


def _wait_for_workers(child: int) -> list[psutil.Process]:
    """The workers of a run, as soon as there are some; none if it ends before."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end and psutil.pid_exists(child):
        found = _workers(child)
        if found:
            return found
        time.sleep(0.1)
    return []


def _workers(child: int) -> list[psutil.Process]:
    found = []
    with suppress(psutil.Error):
        for process in psutil.Process(child).children(recursive=True):
            with suppress(psutil.Error):
                if "spawn_main" in " ".join(process.cmdline()):
                    found.append(process)
    return found
