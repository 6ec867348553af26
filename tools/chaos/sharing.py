"""One store, several at once: two runs that write it, and one that reads it while it grows and is mended."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import numpy as np

from ovps.cache.layout import manifest_key
from ovps.cache.manifest import partitions
from ovps.cache.where import storage_of
from ovps.errors import CacheError
from tools.chaos.ground import Ground
from tools.chaos.kills import ended, finished, forked
from tools.chaos.outcome import Outcome


def two_runs(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """On a disk a lock keeps the later one out, and it says so."""
    for _ in range(count):
        out = ground.folder / "shared"
        children = []
        for delay in (0.0, float(rng.uniform(0.0, 0.3))):
            time.sleep(delay)
            children.append(forked(lambda: ground.precompute(out)))  # noqa: B023
        codes = [ended(child) for child in children]
        outcome = Outcome("two runs at once, disk", f"exit codes {codes}", {"run"} if any(codes) else set())
        if set(codes) - {0, CacheError.exit_code}:
            outcome.note = f"exit codes {codes}"
        yield finished(ground, out, outcome)


def read_while_it_grows(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """Who reads sees more and more frames, each whole; also where a partition is made anew meanwhile."""
    for _ in range(count):
        out = ground.folder / "growing"
        anew = bool(rng.random() < 0.5)
        if anew:
            shutil.copytree(ground.whole, out)
            names = partitions(storage_of(out))
            (out / manifest_key(names[rng.integers(len(names))])).unlink()
        child = forked(lambda: ground.precompute(out))  # noqa: B023
        outcome = Outcome("read while it grows", "anew" if anew else "from nothing")
        looks, most = 0, 0
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if (out / "store.json").exists():
                told = Outcome("", "")
                found = len(ground.read(out, told))
                outcome.wrong += told.wrong
                if told.seen or found < most:
                    outcome.note = "a frame could not be read while others were written"
                looks, most = looks + 1, max(found, most)
        ended(child)
        outcome.what += f", read {looks} times"
        yield finished(ground, out, outcome)
