"""The kinds of faults, how many there are of each, and running them all."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from math import ceil

import numpy as np

from tools.chaos import buckets, damage, disks, kills, sharing
from tools.chaos.ground import Ground, no_fsync
from tools.chaos.outcome import Outcome

Kind = Callable[[Ground, np.random.Generator, int], Iterator[Outcome]]


def _damage(name: str) -> Kind:
    return lambda ground, rng, count: damage.damages(ground, name, rng, count)


def _on_disks(full: bool, ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    return disks.disks(ground, int(rng.integers(2**31)), *((count, 0) if full else (0, count)))


KINDS: dict[str, tuple[Kind, float]] = {  # and the share of all faults
    "kill -9, client": (kills.kill_client, 0.09),
    "kill -9, client of two workers": (kills.kill_client_of_workers, 0.006),
    "kill -9, worker": (kills.kill_worker, 0.01),
    "kill -9, whole group": (kills.kill_group, 0.01),
    "workers killed for memory": (kills.kill_for_memory, 0.003),
    "bit flip": (_damage("bit flip"), 0.2),
    "truncation": (_damage("truncation"), 0.08),
    "deletion": (_damage("deletion"), 0.08),
    "foreign file": (_damage("foreign file"), 0.07),
    "swapped between partitions": (_damage("swapped between partitions"), 0.06),
    "from another store": (_damage("from another store"), 0.06),
    "manifest": (_damage("manifest"), 0.11),
    "store.json, vocabulary, codec": (_damage("store.json, vocabulary, codec"), 0.08),
    "full disk": (partial(_on_disks, True), 0.07),
    "read-only store": (partial(_on_disks, False), 0.02),
    "S3 errors": (buckets.server_errors, 0.03),
    "S3 timeouts": (buckets.timeouts, 0.01),
    "two runs at once, disk": (sharing.two_runs, 0.02),
    "two runs at once, bucket": (buckets.two_runs, 0.01),
    "read while it grows": (sharing.read_while_it_grows, 0.02),
}


def counts(faults: int, only: tuple[str, ...] = ()) -> dict[str, int]:
    """How many of each kind, of all kinds by their shares or of some: one at least of each."""
    chosen = {name: share for name, (_, share) in KINDS.items() if name in (only or KINDS)}
    return {name: ceil(faults * share / sum(chosen.values())) for name, share in chosen.items()}


def campaign(ground: Ground, faults: int, seed: int, only: tuple[str, ...] = ()) -> Iterator[Outcome]:
    """At least so many faults, of all kinds or of some; the same seed gives the same faults, but for the moment at
    which a process is when it is killed."""
    with no_fsync():
        _ = ground.bytes, ground.frames, ground.tensors, ground.stranger  # warm: forks begin at once
        for name, count in counts(faults, only).items():
            rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
            with closing(KINDS[name][0](ground, rng, count)) as outcomes:
                yield from outcomes
