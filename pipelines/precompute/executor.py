"""Tasks run here, or on a dask cluster: the same results either way."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from time import monotonic
from uuid import uuid4

from yaml import YAMLError

from ovps.errors import ConfigError, SetupError, command
from ovps.interrupt import deaf_children, finishing
from ovps.machine import check_semaphores
from ovps.shortage import Short, faults, files_are_few, in_words, threads_were_refused
from pipelines.precompute.flow import ahead
from pipelines.precompute.plan import Task
from pipelines.precompute.task import Done, Job, OnFrame, one_thread, run_task


@contextmanager
def _of_its_configuration() -> Iterator[None]:
    """Around the import of dask, which reads its files of settings then: say of one that cannot be read that it is.

    Raises:
        SetupError: a file that is no YAML.
    """
    try:
        yield
    except (ValueError, YAMLError) as error:  # dask's own says which file, after what it was raised from
        raise SetupError(
            f"dask's settings cannot be read: {' '.join(str(error).split())}",
            path=os.environ.get("DASK_CONFIG") or "~/.config/dask",
            remedy="Mend its files, or move them away",
        ) from error


with _of_its_configuration():
    import dask
    from distributed import Client, KilledWorker, LocalCluster, as_completed, get_worker
    from distributed.comm.addressing import parse_address
    from distributed.comm.registry import get_backend

CONNECT_SECONDS = 12  # for each of: a scheduler that answers, a worker that joins
LOOK_EVERY = 3  # seconds
_AHEAD = 2  # tasks per thread of a worker that wait at the scheduler, frame records and all
_BESIDE = 2  # tasks of a process with an accelerator: one has frames for it while the other begins or is written

# dask makes its workers return memory to the system at once, which also fixes glibc's threshold for mapping memory at
# 128 kB: every activation map of the encoder would be mapped, filled with zeros page by page, and unmapped again.
_SETTINGS = {
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s",
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**29,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
}

_FILES = 64  # open ones, at the least, that a cluster of two workers needs


def run_here(job: Job, tasks: Sequence[Task], on_frame: OnFrame) -> Iterator[Done]:
    """Run tasks in this process, one after another; beside an accelerator the next begins while one is written."""
    if job.device == "cpu":
        yield from (run_task(job, task, on_frame) for task in tasks)
        return
    ended = threading.Event()

    def unless_ended(images: int) -> None:
        if ended.is_set():
            raise CancelledError
        on_frame(images)

    with one_thread(), ThreadPoolExecutor(_BESIDE, thread_name_prefix="task") as pool:
        try:
            yield from ahead(pool, _BESIDE, lambda task: run_task(job, task, unless_ended), tasks)
        finally:
            ended.set()


def run_on_dask(
    job: Job, tasks: Sequence[Task], on_frame: OnFrame, workers: int, scheduler: str | None
) -> Iterator[Done]:
    """Tasks on a cluster, as they complete; the first error ends the run, and what is committed stays.

    Args:
        workers: processes of a cluster of our own; not used where there is a `scheduler`.
    """
    topic = f"ovps-precompute-{uuid4().hex}"
    gpus = 0 if scheduler else job.gpus  # a worker of another cluster has the one that it sees
    beside = 1 if job.device == "cpu" else _BESIDE
    with _client(min(workers, len(tasks)), scheduler, beside) as client:
        client.subscribe_topic(topic, lambda event: on_frame(event[1]))
        waiting = iter(tasks)

        def submit(count: int) -> list:
            # not pure: a partition may be made anew under its old name; no retries: an error is told at once
            return [
                client.submit(_run_in_worker, job, task, topic, gpus, key=f"{task.name}-{uuid4().hex}", pure=False)
                for task in islice(waiting, count)
            ]

        running = as_completed(submit(_AHEAD * beside * _workers(client)), loop=client.loop)
        with _cancelled_without_workers(client, running):
            for future in running:
                try:
                    yield future.result()
                except KilledWorker as error:
                    raise SetupError(
                        "a worker process died again and again, most likely for want of memory",
                        remedy="Use fewer --workers; what is committed is kept",
                    ) from error
                except CancelledError as error:
                    raise SetupError(
                        "the dask scheduler or all its workers have gone",
                        remedy="See their own messages; the same command goes on, what is committed is kept",
                    ) from error
                running.update(submit(1))


def _run_in_worker(job: Job, task: Task, topic: str, gpus: int) -> Done:
    worker = get_worker()
    if gpus:
        job = replace(job, device=gpu_of(worker.name, gpus))
    return run_task(job, task, lambda images: worker.log_event(topic, images))


def gpu_of(worker: int | str, gpus: int) -> str:
    """The GPU of a worker of a cluster of our own, which numbers them: in turn, each of so many."""
    return f"cuda:{int(worker) % gpus}"


def _workers(client: Client) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def _cancelled_without_workers(client: Client, running: as_completed) -> Iterator[None]:
    """Cancel what waits once there has been no worker for a while: dask would wait for ever."""
    ended = threading.Event()

    def watch() -> None:
        last = monotonic()
        while not ended.wait(LOOK_EVERY):
            with suppress(Exception):  # of a scheduler that has gone: dask cancels by itself
                if _workers(client):
                    last = monotonic()
                elif monotonic() - last > CONNECT_SECONDS:
                    client.cancel(list(running.futures), force=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _client(workers: int, scheduler: str | None, threads: int) -> Iterator[Client]:
    """A client of a cluster with at least one worker.

    Raises:
        ConfigError: no scheduler there, no worker of it, or a cluster of our own that cannot start.
    """
    with ExitStack() as opened:
        if scheduler is None:
            remedy = "Compute in this process: --workers 0"
            with _told("dask cannot start workers on this machine", remedy):
                _check_loopback()
                check_semaphores(remedy)
                # half a cluster can neither be used nor closed: neither it nor its workers hear of a signal yet
                with finishing("the start of the workers") as asked, deaf_children(signal.SIGTERM):
                    cluster = opened.enter_context(_own_cluster(workers, threads))
                if asked():
                    raise KeyboardInterrupt
                client = opened.enter_context(Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False))
        else:
            remedy = f"Start one: dask scheduler, {command('dask', 'worker', scheduler)}"
            with _told(f"no dask scheduler at {scheduler}", remedy):
                # a protocol that dask does not know, before a client starts anything
                get_backend(parse_address(scheduler)[0])
                client = opened.enter_context(Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False))
            with _told(f"no worker has joined the dask scheduler at {scheduler}", remedy):
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        yield client


@contextmanager
def _told(message: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except faults(OSError, ValueError, RuntimeError) as error:  # TimeoutError is an OSError
        said = f"{message}: {_root(error)}"
        short: Short | None = "threads" if threads_were_refused() else "files" if files_are_few(_FILES) else None
        if short is not None:
            said, limits = in_words(short, said)
            raise SetupError(said, remedy=f"{limits}. {remedy}") from error
        raise ConfigError(said, remedy=remedy) from error


def _root(error: BaseException) -> BaseException:
    """What began it: dask says "failed to start" about everything."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def _own_cluster(workers: int, threads: int) -> Iterator[LocalCluster]:
    with (
        dask.config.set(_SETTINGS),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            memory_limit=None,  # dask would pause workers by its own estimate
            dashboard_address="127.0.0.1:0",  # None takes a fixed port, which another run may hold
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


def _check_loopback() -> None:
    """Raise OSError unless processes of this machine reach each other by TCP: dask would try for a minute."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=CONNECT_SECONDS),
    ):
        pass
