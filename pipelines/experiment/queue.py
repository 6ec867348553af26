"""Jobs one after another in this process, or several at a time, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ovps.errors import OvpsError, TrainingError
from ovps.interrupt import deaf_children, end_children, end_with_parent, kept, listening
from ovps.machine import check_semaphores
from ovps.progress import console
from pipelines.experiment.cell import Job, do
from pipelines.experiment.stages import Stages, announce, duration
from pipelines.experiment.watch import watched

LOOK_EVERY = 2.0  # seconds


def run_all(jobs: Sequence[Job], processes: int, logs: Path, stages: Stages) -> None:
    """Do all jobs. One that fails leaves those that wait undone; what is under way is finished first.

    Args:
        processes: 1: in this process.
        logs: folder of the output of other processes.
        stages: told what is done, and what it took.

    Raises:
        OvpsError: of the first job that failed.
    """
    if processes == 1:
        for number, job in enumerate(jobs, 1):
            if len(jobs) > 1:
                announce(f"run {number} of {len(jobs)}: {_about(job)}")
            do(job, stages.stage)
        return
    with watched(jobs) as look, _one_thread_each(), ExitStack() as opened:
        # SIGTERM too until a process listens: one that dies of it while it starts would break the whole pool
        with deaf_children(signal.SIGTERM):
            check_semaphores("Use one process: --jobs 1")
            pool = opened.enter_context(_pool(processes))
            waiting = {pool.submit(_in_process, job, _log(logs, job)): job for job in jobs}
        with kept(lambda: f"{len(jobs) - len(waiting)} of {len(jobs)} runs are done, those begun are kept"):
            try:
                _gather(waiting, logs, stages, look)
            except KeyboardInterrupt:
                _stop(waiting)
                raise


def _gather(waiting: dict[Future, Job], logs: Path, stages: Stages, look: Callable[[str], None]) -> None:
    total = len(waiting)
    failure: OvpsError | None = None
    number = 0
    while waiting:
        finished, _ = wait(waiting, timeout=LOOK_EVERY, return_when=FIRST_COMPLETED)
        for future in finished:
            job = waiting.pop(future)
            if future.cancelled():
                continue
            try:
                took = future.result()
            except (OvpsError, BrokenProcessPool) as error:
                named = error if isinstance(error, OvpsError) else _died(job, logs)
                console.print(f"failed: {_about(job)}: {named}", style="red", soft_wrap=True, highlight=False)
                failure = failure or named
                for other in waiting:
                    other.cancel()
            else:
                stages.add(took)
                number += 1
                console.print(f"[{number} of {total}] {_about(job)}: {duration(sum(took.values()))}", highlight=False)
        look(f"{number} of {total} runs")
    if failure is not None:
        raise failure


def _stop(waiting: Iterable[Future]) -> None:
    """Let those under way come to the end of a step and write a checkpoint; none is begun any more."""
    for future in waiting:
        future.cancel()
    end_children()
    while wait(waiting, timeout=1.0).not_done:
        end_children()  # the pool may have begun another one


def _about(job: Job) -> str:
    return "; ".join(e.label for e in job.training.evaluations)


def _log(logs: Path, job: Job) -> Path:
    return logs / f"{job.training.run.name}.log"


def _died(job: Job, logs: Path) -> TrainingError:
    return TrainingError(
        f"the process of {_about(job)} ended without a word, perhaps for want of memory",
        path=_log(logs, job),
        remedy="Read the log; fewer --jobs need less memory. Run the same command again to go on",
    )


def _in_process(job: Job, log: Path) -> dict[str, float]:
    """In a worker: like `do`, with everything that would be printed in a file."""
    end_with_parent()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file, listening(insist=False):
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # see `run_all`
        took: dict[str, float] = {}
        do(job, lambda command: _timed(command, took))
        return took


@contextmanager
def _timed(command: str, took: dict[str, float]) -> Iterator[None]:
    print(f"== {command}", flush=True)
    begin = time.perf_counter()
    yield
    took[command] = time.perf_counter() - begin


def _pool(processes: int) -> ProcessPoolExecutor:
    """A fresh process for each job: nothing one leaves behind reaches the next."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile have one thread; OpenMP reads this when it is loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
