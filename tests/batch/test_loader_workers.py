"""Loader processes that fail: one sentence with a remedy, and an end."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data._utils import signal_handling

from ovps.batch.loader_workers import _named, pack, unpack
from ovps.errors import CorruptStoreError, SetupError, TrainingError
from pipelines import train as train_module
from tests.helpers.namespaces import LITTLE_SHARED_MEMORY, run_unshared
from tests.helpers.synthetic_store import write_synthetic_store
from tests.training.small import SMALL, same_bits, small_run, weights


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A store of which a batch needs more than a megabyte."""
    return write_synthetic_store(tmp_path_factory.mktemp("wide") / "store", points=3000, clip_dim=128)


def command(store, out):
    parts = ["-m", "ovps.cli", "train", "--cache", str(store), "--out", str(out)]
    return parts + [part for setting in (*SMALL, "data.workers=2") for part in ("--set", setting)]


@pytest.mark.slow
def test_no_room_in_shared_memory(wide, tmp_path):
    done = run_unshared(LITTLE_SHARED_MEMORY, *command(wide, tmp_path / "run"))
    assert done.returncode == TrainingError.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert re.match(
        r"training error: .*no room .* shared memory, [01] of 1 MB free \(file /dev/shm\).*--shm-size", said
    )
    assert "--set data.workers=0" in said
    assert small_run(wide, tmp_path / "run", "data.workers=0").step == 4  # the remedy; the run goes on


@pytest.mark.slow
def test_a_worker_that_is_still_starting_when_another_has_failed(wide, tmp_path):
    """It used to print a traceback of its own below the error: what it was about to open had gone."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, sys, time\n"
        "if any('spawn_main' in word for word in sys.orig_argv):\n"
        "    try:\n"
        f"        pathlib.Path({str(tmp_path / 'first')!r}).touch(exist_ok=False)\n"
        "    except FileExistsError:\n"
        "        time.sleep(25)\n"
    )
    env = ("env", f"PYTHONPATH={os.pathsep.join([str(tmp_path), *sys.path])}")
    done = run_unshared((*LITTLE_SHARED_MEMORY, *env), *command(wide, tmp_path / "run"))
    assert done.returncode == TrainingError.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("training error: loader processes find no room")


@pytest.mark.slow
def test_few_open_files_are_enough(store, tmp_path):
    """A file for each tensor of each batch that waits was too much for this limit, and for usual ones too."""
    limited = ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh", sys.executable]
    done = subprocess.run(
        [*limited, *command(store, tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    small_run(store, tmp_path / "alone")
    assert same_bits(weights(tmp_path / "run"), weights(tmp_path / "alone"))


def test_too_few_open_files_are_named():
    error = _named(OSError(errno.EMFILE, "Too many open files"))
    assert re.match(r"loader processes need more open files than the limit of \d+\. Raise it \(ulimit -n", str(error))
    assert "--set data.workers=0" in str(error)


def test_a_process_that_may_not_have_its_threads_is_no_fault_of_the_loader(monkeypatch):
    error = RuntimeError("DataLoader worker (pid(s) 5057) exited unexpectedly")
    assert type(_named(error)) is TrainingError
    monkeypatch.setattr("ovps.machine.threads_refused", lambda: 10**9)
    assert type(_named(error)) is SetupError
    assert "exited unexpectedly" in str(_named(error))


@given(st.lists(st.tuples(st.sampled_from(["float32", "int64", "bool", "uint8"]), st.integers(0, 9)), max_size=6))
def test_what_is_unpacked_is_what_was_packed(kinds):
    value = {"tensors": [torch.arange(n * 2).reshape(2, n).T.to(getattr(torch, kind)) for kind, n in kinds], "n": 3}
    assert same_bits(unpack(pack(value)), value)


@pytest.fixture(params=["torch hears", "torch hears nothing"])
def torch_hears(request, monkeypatch):
    """Torch's own handler of dead workers is there, as after any other loader in the process, or is not."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    if request.param == "torch hears":
        signal_handling._set_SIGCHLD_handler()
    there = signal.getsignal(signal.SIGCHLD)
    yield
    assert signal.getsignal(signal.SIGCHLD) == there, "left as it was"
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.slow
@pytest.mark.usefixtures("torch_hears")
def test_a_worker_that_is_killed(store, tmp_path, monkeypatch):
    small_run(store, tmp_path / "straight", "steps=40", "checkpoint_interval=1")
    real = train_module.train_steps

    def killing(*arguments, **options):
        for report in real(*arguments, **options):
            yield report
            if report.step == 2:
                for child in multiprocessing.active_children():
                    child.kill()  # as the kernel does for want of memory
                time.sleep(0.2)  # heard of here, in the midst of a step

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train_steps", killing)
        with pytest.raises(TrainingError, match=r"loader process has gone, .*memory.*fewer data\.workers.*goes on"):
            small_run(store, tmp_path / "run", "steps=40", "checkpoint_interval=1", "data.workers=1")
    resumed = small_run(store, tmp_path / "run", "steps=40", "checkpoint_interval=1")
    assert 2 <= resumed.resumed_from < 40
    assert same_bits(weights(tmp_path / "straight"), weights(tmp_path / "run"))


def test_an_error_of_a_worker_arrives_as_it_was_raised(tmp_path):
    store = write_synthetic_store(tmp_path / "store")
    damaged = next(file for file in sorted((store / "partitions").rglob("points/xyz/c/*/*")))
    damaged.write_bytes(damaged.read_bytes()[:-7])
    raised = []
    for workers in (0, 1):
        with pytest.raises(CorruptStoreError) as error:
            small_run(store, tmp_path / f"run-{workers}", f"data.workers={workers}", "statistics_frames=1")
        raised.append((error.value.message, error.value.path, error.value.remedy))
    assert raised[0] == raised[1]
    assert raised[0][1] is not None
