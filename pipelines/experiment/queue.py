"""Jobs one after another in this process, or several at a time, each in a process of its own."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ovps.errors import CheckpointError, OvpsError, TrainingError
from ovps.interrupt import deaf_children, end_children, end_with_parent, kept, listening
from ovps.machine import check_semaphores
from ovps.progress import console
from pipelines.experiment.cell import Job, Stage, do
from pipelines.experiment.stages import Stages, announce, duration
from pipelines.experiment.watch import watched

LOOK_EVERY = 2.0  # seconds
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def run_all(jobs: Sequence[Job], processes: int, logs: Path, stages: Stages) -> None:
    """Do all jobs. Where one fails by its own run the others are done; else those that wait are left undone, and what
    is under way is finished first.

    Args:
        processes: 1: in this process.
        logs: folder of the output of other processes.
        stages: told what is done, and what it took.

    Raises:
        OvpsError: of the first job that failed.
    """
    failures: list[OvpsError] = []
    if processes == 1:
        for number, job in enumerate(jobs, 1):
            stage = _titled(stages.stage, f"run {number} of {len(jobs)}: {_about(job)}")
            try:
                do(job, stage if len(jobs) > 1 else stages.stage)
            except OvpsError as error:
                if number == len(jobs) or not of_one_run(error):
                    raise
                failures.append(error)
                _tell(job, error)
        if failures:
            raise failures[0]
        return
    check_semaphores("Use one process: --jobs 1")
    done: list[Job] = []
    running: dict[Future, Job] = {}
    with (
        watched(jobs) as look,
        _one_thread_each(),
        ThreadPoolExecutor(processes) as pool,
        kept(lambda: f"{len(done)} of {len(jobs)} runs are done, those begun are kept"),
        _stopped(running),
    ):
        for ended in _ended(jobs, processes, pool, logs, running):
            for job, future in ended:
                try:
                    took = future.result()
                except (OvpsError, BrokenProcessPool) as error:
                    failures.append(error if isinstance(error, OvpsError) else _died(job, logs))
                    _tell(job, failures[-1])
                else:
                    stages.add(took)
                    done.append(job)
                    time_taken = duration(sum(took.values())) if took else "was there already"
                    console.print(f"[{len(done)} of {len(jobs)}] {_about(job)}: {time_taken}", highlight=False)
            look(f"{len(done)} of {len(jobs)} runs")
    if failures:
        raise failures[0]


def _ended(
    jobs: Sequence[Job], processes: int, pool: ThreadPoolExecutor, logs: Path, running: dict[Future, Job]
) -> Iterator[list[tuple[Job, Future]]]:
    """Those that have ended, every now and then, until all have; none is begun any more after one that failed, unless
    by its own run."""
    waiting = deque(jobs)
    while running or waiting:
        while waiting and len(running) < processes:
            job = waiting.popleft()
            running[pool.submit(_in_fresh_process, job, _log(logs, job))] = job
        finished, _ = wait(running, timeout=LOOK_EVERY, return_when=FIRST_COMPLETED)
        if not all(of_one_run(error) for future in finished if (error := future.exception())):
            waiting.clear()
        yield [(running.pop(future), future) for future in finished]


def _titled(stage: Stage, title: str) -> Stage:
    """Stages under a title, which is said before the first one: where nothing is left to do, nothing is said."""
    titles = [title]

    def entered(command: str) -> AbstractContextManager[None]:
        while titles:
            announce(titles.pop())
        return stage(command)

    return entered


@contextmanager
def _stopped(running: Iterable[Future]) -> Iterator[None]:
    """Let those under way come to the end of a step and write a checkpoint, when the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        end_children()
        while wait(running, timeout=1.0).not_done:
            end_children()  # one that was about to begin
        raise


def of_one_run(error: BaseException) -> bool:
    """Tell whether an error is of one run, and not of the disk, the memory or the whole experiment."""
    full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL
    return isinstance(error, CheckpointError | TrainingError) and not full


def _tell(job: Job, error: OvpsError) -> None:
    console.print(f"failed: {_about(job)}: {error}", style="red", soft_wrap=True, highlight=False)


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


def _in_fresh_process(job: Job, log: Path) -> dict[str, float]:
    """Nothing that one leaves behind reaches the next, and where one dies, no other does."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with deaf_children(signal.SIGTERM):  # SIGTERM too until it listens: it would die of it while it starts
            done = pool.submit(_in_process, job, log)
        return done.result()


def _in_process(job: Job, log: Path) -> dict[str, float]:
    """In a worker: like `do`, with everything that would be printed in a file."""
    end_with_parent()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file, listening(insist=False):
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # see `_in_fresh_process`
        took: dict[str, float] = {}
        do(job, lambda command: _timed(command, took))
        return took


@contextmanager
def _timed(command: str, took: dict[str, float]) -> Iterator[None]:
    print(f"== {command}", flush=True)
    begin = time.perf_counter()
    yield
    took[command] = time.perf_counter() - begin


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
