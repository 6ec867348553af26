"""Disks that are full, or can only be read: in a name space of this process's own, as `unshare -m` makes it.

python -m tools.chaos.disks FOLDER SEED FULL READ_ONLY prints one outcome a line, as JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ovps.cache.layout import INFO, partition_key
from ovps.cache.manifest import read_manifests
from ovps.cache.where import storage_of
from ovps.errors import CacheError, OvpsError, StorageError
from pipelines.options import ConvertOptions
from pipelines.stores.convert import convert
from tools.chaos.ground import Ground
from tools.chaos.outcome import Outcome

PHASES = ("precompute", "precompute", "precompute", "repair", "convert")


def disks(ground: Ground, seed: int, full: int, read_only: int) -> Iterator[Outcome]:
    """Faults of disks, in a process that may mount some; none where this one may not make such a process."""
    command = ["unshare", "-m", sys.executable, "-m", "tools.chaos.disks", str(ground.folder)]
    command += [str(seed), str(full), str(read_only)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and not lines and "unshare" in done.stderr:
        print(f"disks are left out: {done.stderr.strip()}", file=sys.stderr)
        return
    for line in lines:
        yield Outcome.of_plain(json.loads(line))
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def full_disk(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """A disk with room for a part of what is written: something between nothing and all but a little."""
    disk = ground.folder / "disk"
    disk.mkdir(exist_ok=True)
    pages = sum(-(-p.stat().st_size // 4096) for p in ground.whole.rglob("*") if p.is_file())
    for number in range(count):
        phase = PHASES[number % len(PHASES)]
        room = int(rng.integers(1, pages)) * 4 if phase != "repair" else int(rng.integers(1, pages // 3)) * 4
        out = disk / "zarr"
        run: Callable[[], object] = lambda: ground.precompute(out)  # noqa: B023, E731
        needed = 0
        _mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk))
        if phase == "convert":
            run = lambda: convert(ConvertOptions(cache=str(ground.whole), out=str(out), codec="cells-pca"))  # noqa: B023, E731
        if phase == "repair":
            shutil.copytree(ground.whole, out)
            row = next(iter(read_manifests(storage_of(out))))
            shutil.rmtree(out / partition_key(row.features.folder))
            run = lambda: ground.repair(out)  # noqa: B023, E731
            needed = int(shutil.disk_usage(disk).used // 1024)
        _mount("-o", f"remount,size={needed + room}k", str(disk))
        outcome = Outcome("full disk", f"{phase} with {room} kB")
        try:
            run()
        except StorageError as error:
            outcome.seen.add("run")
            if not (error.path and error.remedy):
                outcome.note = f"no file or remedy: {error}"
        except OvpsError as error:
            outcome.note = f"not told as a full disk: {error}"
        if phase != "repair" and (out / INFO).exists():
            told = Outcome("", "")
            ground.read(out, told)
            outcome.wrong += told.wrong
            outcome.note = outcome.note or ("what is committed cannot be read" if told.seen else "")
        _mount("-o", "remount,size=64m", str(disk))
        run()
        outcome.mended = {"repair": "repair"}.get(phase, "precompute") if outcome.seen else "nothing"
        ground.compare(out, outcome)
        subprocess.run(["umount", str(disk)], check=True)
        yield outcome


def read_only_disk(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """Whoever looks can look, whoever would write is told, and nothing is touched; half of the stores are damaged."""
    disk = ground.folder / "disk"
    disk.mkdir(exist_ok=True)
    for number in range(count):
        out = disk / "zarr"
        _mount("-t", "tmpfs", "tmpfs", str(disk))
        shutil.copytree(ground.whole, out)
        outcome = Outcome("read-only store", ("whole", "one partition is lost")[number % 2])
        if number % 2:
            row = list(read_manifests(storage_of(out)))[rng.integers(2)]
            shutil.rmtree(out / partition_key(row.features.folder))
        _mount("-o", "remount,ro", str(disk))
        ground.watch(out, outcome)
        for action in (lambda: ground.precompute(out), lambda: ground.repair(out)):  # noqa: B023
            try:
                action()
                outcome.note = "nobody said that it cannot be written"
            except (StorageError, CacheError):
                outcome.seen.add("precompute")
        _mount("-o", "remount,rw", str(disk))
        if number % 2:
            ground.repair(out)
            outcome.mended = "repair"
        ground.compare(out, outcome)
        subprocess.run(["umount", str(disk)], check=True)
        yield outcome


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _main(folder: str, seed: str, full: str, read_only: str) -> None:
    ground = Ground(Path(folder))
    for outcome in full_disk(ground, np.random.default_rng(int(seed)), int(full)):
        print(json.dumps(outcome.plain()), flush=True)
    for outcome in read_only_disk(ground, np.random.default_rng(int(seed)), int(read_only)):
        print(json.dumps(outcome.plain()), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
