"""Precompute on dask: a cluster that is not there, never comes, or goes away ends in one sentence."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from distributed import LocalCluster

from ovps.errors import ConfigError, SetupError
from ovps.interrupt import SIGNALS, listening
from pipelines.precompute import executor
from tests.helpers.namespaces import NO_NETWORK, run_unshared


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(executor, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(executor, "LOOK_EVERY", 0.1)
    yield
    gc.collect()  # half a client that was never closed would be, in the thread of the next one's loop, which then waits


def cluster(workers: int) -> LocalCluster:
    return LocalCluster(n_workers=workers, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0")


class Part:
    """All that the executor knows of a task."""

    name = "part"


class OnCpu:
    """All that it knows of a job."""

    device = "cpu"
    gpus = 0


def run(scheduler: str) -> list:
    return list(executor.run_on_dask(OnCpu(), [Part()], lambda images: None, 1, scheduler))


def test_a_scheduler_that_no_worker_joins():
    with cluster(0) as empty, pytest.raises(ConfigError, match=r"no worker has joined .*dask worker inproc://"):
        run(empty.scheduler_address)


def test_workers_that_go_away(monkeypatch):
    """The only worker leaves while its task is under way, and another one is never started."""
    monkeypatch.setattr(executor, "_run_in_worker", slow)
    with cluster(1) as leaving:
        thread = threading.Timer(2, leaving.scale, args=(0,))
        thread.start()
        begin = time.monotonic()
        with pytest.raises(SetupError, match=r"all its workers have gone.*the same command goes on"):
            run(leaving.scheduler_address)
        assert time.monotonic() - begin < 15
        thread.join()


def slow(job, task, topic, gpus):
    time.sleep(3)
    raise TimeoutError("nobody asks for this")


def test_workers_that_may_not_have_their_threads(monkeypatch):
    def cluster(workers, threads):
        raise RuntimeError("Nanny failed to start worker process")

    monkeypatch.setattr(executor, "_own_cluster", cluster)
    for refused, error in ((-1, ConfigError), (10**9, SetupError)):
        monkeypatch.setattr("ovps.machine.threads_refused", lambda refused=refused: refused)
        with pytest.raises(error, match=r"Nanny failed .*Compute in this process: --workers 0"):
            list(executor.run_on_dask(OnCpu(), [None], print, 1, None))


def test_workers_that_may_open_too_few_files_are_told_of_that_limit():
    """dask says "Status.starting" of it."""
    limited = (
        "import resource, sys; from ovps.errors import SetupError; from pipelines.precompute import executor\n"
        "from tests.pipelines.test_executor import OnCpu\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))\n"
        "executor.CONNECT_SECONDS = 5\n"
        "try:\n    list(executor.run_on_dask(OnCpu(), [None, None], print, 2, None))\n"
        "except SetupError as error:\n    print(error.exit_code, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, timeout=60, check=False)
    assert re.match(r"8 too many open files: .*The limit is 30: raise it .*--workers 0", done.stdout), done.stderr


@pytest.mark.parametrize("address", ["", "nonsense", "tcp://127.0.0.1:9", "tcp://127.0.0.1", "bogus://127.0.0.1:1"])
def test_no_scheduler_there(address):
    with pytest.raises(ConfigError, match=r"no dask scheduler at .*Start one: dask scheduler"):
        run(address)


@pytest.mark.parametrize(
    ("gpus", "devices"), [(1, ["cuda:0"] * 3), (2, ["cuda:0", "cuda:1", "cuda:0"]), (8, ["cuda:0", "cuda:1", "cuda:2"])]
)
def test_workers_take_the_gpus_in_turn(gpus, devices):
    assert [executor.gpu_of(worker, gpus) for worker in range(3)] == devices


NO_LOOPBACK = """
from ovps.errors import ConfigError
from pipelines.precompute.executor import run_on_dask
from tests.pipelines.test_executor import OnCpu

try:
    list(run_on_dask(OnCpu(), [None], print, 1, None))
except ConfigError as error:
    print(error)
"""


def test_a_machine_whose_loopback_is_down():
    done = run_unshared(NO_NETWORK, "-c", NO_LOOPBACK, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("dask cannot start workers on this machine: [Errno 101] Network is unreachable"), done
    assert done.stdout.rstrip().endswith("Compute in this process: --workers 0")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_while_workers_start_waits_until_they_can_be_ended(number, monkeypatch):
    steps = []

    @contextmanager
    def cluster(workers, threads):
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        steps.append("started")
        yield None
        steps.append("never in use")

    monkeypatch.setattr(executor, "_own_cluster", cluster)
    with pytest.raises(KeyboardInterrupt), listening(), executor._client(1, None, 1):
        pass
    assert steps == ["started"]
