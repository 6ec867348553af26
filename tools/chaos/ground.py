"""The ground of a campaign: a tiny world, the store that an undisturbed run makes of it, and comparison with that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import mock

import numpy as np

from ovps.batch.frames import FrameDataset, FrameTensors
from ovps.cache.frame_data import CachedFrame
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.errors import OvpsError
from pipelines.options import PrecomputeOptions, RepairOptions
from pipelines.precompute import precompute
from pipelines.stores.repair import RepairSummary, repair
from pipelines.train import TrainOptions, train
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.stores import written
from tests.pipelines.untrained import TINY
from tools.chaos.outcome import Outcome

CODEC = "cells-pca"  # it has a state, one more file to damage
SCENES, FRAMES, POINTS, IMAGE = 2, 1, 120, (48, 32)


@dataclass(frozen=True)
class Ground:
    """What a campaign stands on; made in `folder` when something first asks for it.

    Attributes:
        folder: of scratch files.
    """

    folder: Path

    @cached_property
    def world(self) -> Path:
        root = self.folder / "world"
        return (
            root
            if root.exists()
            else write_mini_nuscenes(root, scenes=SCENES, frames=FRAMES, points=POINTS, image_size=IMAGE)
        )

    @cached_property
    def whole(self) -> Path:
        """What an undisturbed run makes. Read only."""
        return self._made("whole")

    @cached_property
    def stranger(self) -> Path:
        """A store of the same frames with another grid: its vocabulary and codec are those of `whole`. Read only."""
        return self._made("stranger", grid="cylinder:48x36x8")

    def _made(self, name: str, **changes: str) -> Path:
        out = self.folder / name
        if not (out / "store.json").exists():
            precompute(self.options(out, **changes))
        return out

    def options(self, out: object, **changes: object) -> PrecomputeOptions:
        usual = {"grid": "cylinder:60x45x8", "encoder": "demo", "weights": "random", "workers": 0, "device": "cpu"}
        usual |= {"partition_frames": 1, "codec": CODEC, "thumbnails": 24, "dataroot": self.world, "out": out}
        return PrecomputeOptions.model_validate(usual | changes)

    @cached_property
    def bytes(self) -> dict[str, object]:
        return written(self.whole)

    @cached_property
    def frames(self) -> dict[str, CachedFrame]:
        store = Store.open(self.whole)
        return {ref.token: store.read(ref) for ref in store.frames}

    @cached_property
    def tensors(self) -> dict[str, FrameTensors]:
        data = FrameDataset(self.whole)
        return {data[number].tokens[0]: data[number] for number in range(len(data))}

    def precompute(self, out: object, **changes: object) -> None:
        precompute(self.options(out, **changes))

    def repair(self, out: object) -> RepairSummary:
        return repair(RepairOptions(path=str(out), dataroot=self.world, device="cpu"))

    def watch(self, out: object, outcome: Outcome, *, trained: bool = False) -> None:
        """Have everybody look at a store who only looks: note who tells of a fault, and who takes wrong bytes."""
        if told(lambda: _raise_if_any(out)):
            outcome.seen.add("verify")
        self.read(out, outcome)
        self._read_for_training(out, outcome)
        if trained:
            run = self.folder / "runs" / f"{len(list((self.folder / 'runs').glob('*'))):04d}"
            if told(lambda: train(TrainOptions(cache=str(out), out=run, overrides=TINY))):
                outcome.seen.add("training")

    def read(self, out: object, outcome: Outcome) -> set[str]:
        """Read all frames, pictures and the classes; return the tokens of the frames that could be read."""
        good: set[str] = set()
        try:
            store = Store.open(out)
            same_classes = store.vocabulary.names == Store.open(self.whole).vocabulary.names
            outcome.wrong += 0 if same_classes and store.taxonomy == Store.open(self.whole).taxonomy else 1
        except OvpsError:
            outcome.seen.add("reader")
            return good
        for ref in store.frames:
            try:
                store.pictures(ref)
                frame = store.read(ref)
            except OvpsError:
                outcome.seen.add("reader")
                continue
            good.add(ref.token)
            outcome.wrong += differing(frame, self.frames.get(ref.token))
        return good

    def _read_for_training(self, out: object, outcome: Outcome) -> None:
        try:
            data = FrameDataset(out)
        except OvpsError:
            outcome.seen.add("training")
            return
        for number in range(len(data)):
            try:
                frame = data[number]
            except OvpsError:
                outcome.seen.add("training")
                continue
            outcome.wrong += differing(frame, self.tensors.get(frame.tokens[0]))

    def compare(self, out: Path, outcome: Outcome) -> bool:
        """At the end: count what is lost and what is wrong beside an undisturbed run; tell whether neither is."""
        try:
            found = written(out)
        except (OvpsError, OSError) as error:
            outcome.lost += sum(size(value) for value in self.bytes.values())
            outcome.note = outcome.note or f"at the end: {error}"
            return False
        lost = sum(size(value) for name, value in self.bytes.items() if name not in found)
        wrong = sum(size(value) for name, value in found.items() if self.bytes.get(name) != value)
        outcome.lost += lost
        outcome.wrong += wrong
        return not (lost or wrong)


def _raise_if_any(out: object) -> None:
    problems = verify_store(out)
    if problems:
        raise OvpsError(str(problems[0]))


def told(action) -> bool:
    """Did it end with a typed error?"""
    try:
        action()
    except OvpsError:
        return True
    return False


def differing(one: object, other: object | None) -> int:
    """Bytes of the arrays of two frames that are not the same; those of a frame that should not be there are all."""
    count = 0
    for name, value in vars(one).items():
        expected = getattr(other, name, None)
        if isinstance(value, np.ndarray) or hasattr(value, "numpy"):
            a, b = np.asarray(value), None if expected is None else np.asarray(expected)
            count += a.nbytes if b is None or a.dtype != b.dtype or not np.array_equal(a, b, equal_nan=True) else 0
        elif value != expected:
            count += 1
    return count


def size(value: object) -> int:
    """Bytes of a thing that a store holds; of a manifest that it is one."""
    return len(value) if isinstance(value, bytes) else 1


@contextmanager
def no_fsync() -> Iterator[None]:
    """Nobody pulls the plug of the machine, and a disk takes its time."""
    with mock.patch.object(os, "fsync", return_value=None):
        yield
