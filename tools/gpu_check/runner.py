"""Stages one after another, each in a process of its own with a deadline: none takes a later one down."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.context import ForkServerContext

from tools.gpu_check.record import LOG, RESULTS, Line, Recorder, append
from tools.gpu_check.setting import Setting

# Module of each stage, and its share of the time where all of them run. What a stage leaves over, the later ones get.
STAGES: Mapping[str, tuple[str, float]] = {
    "a": ("tools.gpu_check.facts", 0.5),
    "b": ("tools.gpu_check.agreement", 2.0),
    "c": ("tools.gpu_check.encoder", 2.0),
    "d": ("tools.gpu_check.step", 2.0),
    "e": ("tools.gpu_check.training", 2.5),
}
# What takes seconds to import and is safe to have before a fork; CUDA is not begun by it.
PRELOAD = ["torch", "open_clip", "pyarrow.parquet", "distributed", "rich", "pydantic", "scipy.sparse"]


def run_stages(
    setting: Setting,
    names: Sequence[str],
    minutes: float,
    stages: Mapping[str, tuple[str, float]] = STAGES,
    preload: Sequence[str] = PRELOAD,
) -> None:
    """Run the stages named, in `minutes` altogether; results and log are in `setting.out`.

    Args:
        stages: module and share of each.
        preload: modules to import once for all stages.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    first = context.Process(target=int)  # starts the server, so that its imports are on no stage's time
    first.start()
    first.join()
    end = time.monotonic() + 60 * minutes
    for number, name in enumerate(names):
        left = end - time.monotonic()
        shares = [stages[n][1] for n in names[number:]]
        run_stage(context, setting, name, stages[name][0], left * shares[0] / sum(shares))


def run_stage(context: ForkServerContext, setting: Setting, name: str, module: str, limit: float) -> None:
    """One stage; how it ended is its last line."""
    begin = time.monotonic()
    told = replace(setting, deadline=begin + limit)
    # the stage writes to the log; the terminal hears of each line
    process = context.Process(target=_in_process, args=(told, name, module))
    process.start()
    process.join(max(limit, 0.1))
    if process.is_alive():
        verdict, note = False, f"ended after its {limit:.0f} s; what it had measured is kept"
    else:
        verdict, note = process.exitcode == 0, "" if process.exitcode == 0 else f"exit code {process.exitcode}"
    assert process.pid is not None
    with suppress(ProcessLookupError):  # loader and worker processes with it
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # if it had not got as far as a group of its own
    process.join()
    took = time.monotonic() - begin
    append(setting.out / RESULTS, Line(stage=name, name="stage", value=took, unit="s", ok=verdict, note=note))
    print(f"== stage {name}: {took:.0f} s of {limit:.0f}{f': {note}' if note else ''}", flush=True)


def _in_process(setting: Setting, name: str, module: str) -> None:
    os.setsid()  # a group of its own, so that it can be ended with everything it started
    terminal = os.dup(1)
    with (setting.out / LOG).open("a", encoding="utf-8") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    print(f"== stage {name}", flush=True)
    importlib.invalidate_caches()
    os.chdir(setting.work)
    recorder = Recorder(setting.out, name, terminal, setting.work)
    try:
        importlib.import_module(module).run(setting, recorder)
    except BaseException as error:
        traceback.print_exc()
        recorder.failed("error", error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
