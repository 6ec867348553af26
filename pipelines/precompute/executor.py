"""Tasks run here, or on a dask cluster: the same results either way."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from uuid import uuid4

import dask
from distributed import Client, KilledWorker, LocalCluster, as_completed, get_worker

from ovps.errors import ConfigError, OvpsError
from pipelines.precompute.partition import Done, Job, OnFrame, run_task
from pipelines.precompute.plan import Task

CONNECT_TIMEOUT = "20s"
_AHEAD = 2  # tasks per worker that wait at the scheduler, frame records and all

# dask makes its workers return memory to the system at once, which also fixes glibc's threshold for mapping memory at
# 128 kB: every activation map of the encoder would be mapped, filled with zeros page by page, and unmapped again.
_ALLOCATOR = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**29,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
}


def run_here(job: Job, tasks: Sequence[Task], on_frame: OnFrame) -> Iterator[Done]:
    """One task after another in this process."""
    for task in tasks:
        yield run_task(job, task, on_frame)


def run_on_dask(
    job: Job, tasks: Sequence[Task], on_frame: OnFrame, workers: int, scheduler: str | None
) -> Iterator[Done]:
    """Tasks on a cluster, as they complete; the first error ends the run, and what is committed stays.

    Args:
        workers: processes of a cluster of our own; not used where there is a `scheduler`.
    """
    topic = f"ovps-precompute-{uuid4().hex}"
    with _client(min(workers, len(tasks)), scheduler) as client:
        client.subscribe_topic(topic, lambda event: on_frame(event[1]))
        waiting = iter(tasks)

        def submit(count: int) -> list:
            # not pure: a partition may be made anew under its old name; no retries: an error is told at once
            return [
                client.submit(_run_in_worker, job, task, topic, key=f"{task.name}-{uuid4().hex}", pure=False)
                for task in islice(waiting, count)
            ]

        at_work = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        running = as_completed(submit(_AHEAD * at_work), loop=client.loop)
        for future in running:
            try:
                yield future.result()
            except KilledWorker as error:
                raise OvpsError(
                    "a worker process died again and again, most likely for want of memory",
                    remedy="Use fewer --workers; what is committed is kept",
                ) from error
            running.update(submit(1))


def _run_in_worker(job: Job, task: Task, topic: str) -> Done:
    worker = get_worker()
    return run_task(job, task, lambda images: worker.log_event(topic, images))


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no dask scheduler at {scheduler}: {error}", remedy="Start one: dask scheduler, dask worker ADDRESS"
            ) from error
        with client:
            yield client
        return
    with (
        dask.config.set(_ALLOCATOR),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,  # dask would pause workers by its own estimate
            dashboard_address="127.0.0.1:0",  # None takes a fixed port, which another run may hold
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
