"""Which frames are missing, cut into partitions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from ovps.frame import Frame


@dataclass(frozen=True, eq=False)
class Task:
    """One partition to make: consecutive frames of one scene."""

    name: str
    scene: str
    frames: tuple[Frame, ...]


def limited(frames: Iterable[Frame], limit: int | None) -> list[Frame]:
    """The first `limit` frames of each subset."""
    seen: dict[str, int] = {}
    kept = []
    for frame in frames:
        seen[frame.subset] = seen.get(frame.subset, 0) + 1
        if limit is None or seen[frame.subset] <= limit:
            kept.append(frame)
    return kept


def plan(frames: Sequence[Frame], committed: set[str], partition_frames: int) -> list[Task]:
    """Tasks for the frames whose tokens are not `committed`.

    The cut depends on the frames alone, not on workers or on who was killed when; a partition is named after its
    first frame, so that it never has the name of another one in the store.

    Args:
        frames: scene after scene, each in order of time.
    """
    tasks = []
    for (scene, _), group in groupby(frames, key=lambda frame: (frame.scene, frame.subset)):
        for run in _runs(list(group), committed):
            for start in range(0, len(run), partition_frames):
                part = tuple(run[start : start + partition_frames])
                tasks.append(Task(f"{_plain(scene)}.{part[0].index:06d}", scene, part))
    return tasks


def _runs(frames: list[Frame], committed: set[str]) -> list[list[Frame]]:
    """Stretches of consecutive missing frames."""
    return [
        list(group) for missing, group in groupby(frames, key=lambda frame: frame.token not in committed) if missing
    ]


def _plain(scene: str) -> str:
    """A scene's name as part of a file name; one that is not plain keeps apart from others by its hash."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", scene):
        return scene
    return "_" + re.sub(r"[^A-Za-z0-9_-]", "_", scene) + "-" + hashlib.sha256(scene.encode()).hexdigest()[:8]
