"""Ctrl-C, SIGTERM and SIGHUP: what is kept, the command to go on with, and a second one that ends at once."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ovps import interrupt
from ovps.cache.verify import verify_store
from ovps.cli import main
from ovps.interrupt import command_line, finishing, interrupted, kept, listening
from ovps.training.metrics import read_metrics
from pipelines import train as train_module
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.synthetic_store import write_synthetic_store
from tests.training.small import SMALL, same_bits, small_run, weights

EACH = pytest.mark.parametrize("number", interrupt.SIGNALS, ids=lambda s: s.name)


@EACH
def test_the_first_signal_interrupts_and_says_what_is_kept(number, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ovps", "train", "--out", "my run", "--restart"])
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stop:  # noqa: PT012, SIM117
        with listening(), kept(lambda: "3 of 12 frames are kept"):
            os.kill(os.getpid(), number)
            time.sleep(1)
    assert signal.getsignal(number) is before
    error = interrupted(stop.value)
    assert (error.kind, error.exit_code) == ("interrupted", 130)
    assert str(error) == "3 of 12 frames are kept. Go on with: ovps train --out 'my run'"  # never --restart


@EACH
def test_what_is_finishing_is_asked_instead(number, capfd):
    with listening(), finishing("this step") as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
    assert "stopping after this step; once more ends at once" in capfd.readouterr().err


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a job in the background of a script
    try:
        with listening():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_command_under_torchrun_is_that_of_torchrun(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(sys, "argv", ["/somewhere/ovps/__main__.py", "train", "--cache", "zarr"])
    assert command_line() == "torchrun --nproc-per-node 4 -m ovps train --cache zarr"


STUBBORN = """
import time
from ovps.interrupt import finishing, listening

with listening(), finishing("a long step"):
    print("ready", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.1)
"""


def test_a_second_signal_ends_at_once():
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "\n"
        assert "a long step" in process.stderr.readline()
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert time.monotonic() - begin < 5


def test_a_signal_before_the_command_is_built_is_told(monkeypatch, capsys):
    def signalled(*_):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("ovps.cli.app", signalled)
    monkeypatch.setattr(sys, "argv", ["ovps", "cache", "verify", "zarr", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code, json.loads(out)["error"]) == (130, "interrupted")
    assert err.startswith("interrupted: it had not ended. Run it again: ")


# Training


def test_a_training_stops_after_its_step_and_goes_on_in_the_same_bits(tmp_path, monkeypatch):
    store = write_synthetic_store(tmp_path / "store")
    settings = ("steps=6", "checkpoint_interval=5", "log_interval=4", "model.dropout=0.1", "accumulate=2")
    small_run(store, tmp_path / "straight", *settings)
    real = train_module.train_steps

    def signalled(*arguments, **options):
        for report in real(*arguments, **options):
            if report.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield report

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train_steps", signalled)
        with pytest.raises(KeyboardInterrupt) as stop, listening():
            small_run(store, tmp_path / "run", *settings)
    assert stop.value.__notes__ == [f"run {tmp_path / 'run'} is kept at step 3 of 6"]
    assert weights(tmp_path / "run")["step"] == 3
    assert small_run(store, tmp_path / "run", *settings).resumed_from == 3
    assert same_bits(weights(tmp_path / "straight"), weights(tmp_path / "run"))
    logged = [line["step"] for line in read_metrics(tmp_path / "run")]
    assert logged == [1, 3, 4, 5, 6]  # and of each checkpoint, so that its curves are whole by any later interval


# Commands, as a shell starts them: all their processes get the signal


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def stop_when(process: subprocess.Popen[str], ready: Callable[[], bool], number: int, *, group: bool = True) -> str:
    """Signal a process, or all of its group, once it has come so far; what it writes on stderr."""
    end = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    (os.killpg if group else os.kill)(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    return stderr


def settings(*more: str) -> list[str]:
    return [part for setting in (*SMALL, *more) for part in ("--set", setting)]


def test_ctrl_c_in_training_with_workers(tmp_path):
    store = write_synthetic_store(tmp_path / "store")
    run = tmp_path / "run"
    command = ["ovps.cli", "train", "--cache", str(store), "--out", str(run)]
    command += settings("steps=5000", "data.workers=1", "checkpoint_interval=5000")
    process = start(*command)
    stderr = stop_when(process, lambda: (run / "metrics.jsonl").is_file() and read_metrics(run) != [], signal.SIGTERM)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    step = int(re.search(rf"interrupted: run {run} is kept at step (\d+) of 5000\. Go on with: ", stderr)[1])
    assert weights(run)["step"] == step > 0
    said = shlex.split(stderr.rpartition("Go on with: ")[2])
    assert said[-len(command) :] == command


def test_ctrl_c_in_precompute_with_workers(tmp_path):
    root = write_mini_nuscenes(tmp_path / "world", scenes=20, frames=1, points=100)
    out = tmp_path / "zarr"
    options = ["--encoder", "demo", "--weights", "random", "--grid", "cylinder:60x45x8", "--workers", "1"]
    process = start("ovps.cli", "precompute", "--dataroot", str(root), "--out", str(out), *options)
    stderr = stop_when(process, lambda: any(out.glob("manifest/*.parquet")), signal.SIGINT)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line and not line.startswith("precompute: ")]
    assert len(lines) == 1, stderr
    frames = int(
        re.match(rf"interrupted: (\d+) of 20 frames are committed in {out} and stay\. Go on with: ", lines[0])[1]
    )
    assert 0 < frames < 20
    assert verify_store(out) == []


def test_ctrl_c_under_torchrun_stops_all_processes_after_one_step(tmp_path):
    store = write_synthetic_store(tmp_path / "store")
    run = tmp_path / "run"
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ovps", "train"]
    more = settings("model.encoder.norm=layer", "steps=5000", "checkpoint_interval=5000")
    process = start(*torchrun, "--cache", str(store), "--out", str(run), *more)
    ready = lambda: (run / "metrics.jsonl").is_file() and read_metrics(run) != []  # noqa: E731
    stderr = stop_when(process, ready, signal.SIGINT)
    assert process.returncode != 0
    assert stderr.count("interrupted: ") == 1, stderr
    assert "Go on with: torchrun --nproc-per-node 2 -m ovps train" in stderr
    assert 0 < weights(run)["step"] < 5000


def test_an_interrupted_command_says_so_in_json(monkeypatch, capsys, tmp_path):
    from ovps import cli
    from ovps.cache import info

    def stopped(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "store_info", stopped)
    monkeypatch.setattr(sys, "argv", ["ovps", "cache", "info", str(tmp_path), "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert json.loads(capsys.readouterr().out)["error"] == "interrupted"
    assert interrupt.SIGNALS == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# Before and after a command's own work


SLOW_IMPORT = 'print("ready", flush=True)\nimport time\ntime.sleep(30)\n'


@EACH
def test_a_signal_while_the_command_line_is_imported_is_one_sentence(number, tmp_path):
    (tmp_path / "typer.py").write_text(SLOW_IMPORT)
    with subprocess.Popen(
        [sys.executable, "-m", "ovps", "doctor", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    ) as process:
        assert process.stderr.readline() == "ready\n"  # with --json nothing else is on stdout
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=20)
    assert stderr.splitlines() == ["interrupted: it had not ended. Start the same command again"]
    assert json.loads(stdout)["error"] == "interrupted"
    assert process.returncode == 130


def test_the_installed_command_begins_where_the_module_does():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["ovps"] == "ovps.__main__:main"


LOST_IN_A_FINALISER = """
import time
from ovps.interrupt import listening, told
from ovps.errors import Interrupted

class Finalised:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(30)

with listening():
    try:
        with told():
            Finalised()
            time.sleep(30)
    except Interrupted as error:
        print(error.exit_code)
"""
MADE_ANOTHER = """
import time
from ovps.interrupt import listening, told
from ovps.errors import Interrupted

with listening():
    try:
        with told():
            try:
                print("ready", flush=True)
                time.sleep(30)
            except KeyboardInterrupt:
                raise ImportError("numpy._core.multiarray failed to import") from None
    except Interrupted as error:
        print(error.exit_code)
"""


@pytest.mark.parametrize("script", [LOST_IN_A_FINALISER, MADE_ANOTHER], ids=["finaliser", "compiled import"])
def test_an_interrupt_is_one_wherever_it_falls(script):
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
    assert (stdout, stderr, process.returncode) == ("130\n", "", 0)


ABORTS_AT_THE_END = """
import os, sys
from ovps import __main__, cli

class Late:
    def __del__(self):
        os.abort()  # as a library's thread does that finds the interpreter gone

def last(*command):
    sys.late = Late()
    sys.exit(4)

cli.main = last
__main__.main()
"""


def test_what_a_library_does_at_the_very_end_changes_no_exit_code():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ABORTS_AT_THE_END], env=environment, check=False, timeout=30)
    assert done.returncode == 4


TRACKED = """
import os, signal, time
from multiprocessing import resource_tracker
from ovps.interrupt import SIGNALS, deaf_children

with deaf_children():
    pass
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(SIGNALS)
tracker = resource_tracker._resource_tracker
for number in SIGNALS:
    os.kill(tracker._pid, number)
time.sleep(0.5)
print(tracker._check_alive())
"""


def test_what_keeps_track_of_shared_things_outlives_every_signal():
    """SIGHUP goes to all processes of a terminal that is closed: without it each semaphore would be a traceback."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", TRACKED], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_what_a_killed_process_leaves_is_unlinked_without_a_word(tmp_path):
    """Below the error that said that a loader was killed stood that a semaphore leaked, which Python unlinks itself."""
    (tmp_path / "kill.py").write_text(
        "import multiprocessing, os, signal\n"
        "from ovps.interrupt import deaf_children\n"
        "context = multiprocessing.get_context('spawn')\n"
        "def leave(names):\n"
        "    lock = context.Lock()\n"
        "    names.send(lock._semlock.name)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    names, other = context.Pipe()\n"
        "    with deaf_children():\n"
        "        process = context.Process(target=leave, args=[other])\n"
        "        process.start()\n"
        "    print(names.recv())\n"
        "    process.join()\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "kill.py"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not Path("/dev/shm", f"sem.{done.stdout.strip().removeprefix('/')}").exists()
