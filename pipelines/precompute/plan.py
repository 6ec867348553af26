"""Plan of a run: the frames that are missing, cut into partitions."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from ovps.errors import DatasetError
from ovps.frame import Frame
from pipelines.precompute.held import Held


@dataclass(frozen=True, eq=False)
class Task:
    """Frames of one scene to compute, and the partition they belong to: a new one, or one that holds others already.

    Attributes:
        anew: tokens of those that are computed whatever the partition holds of them.
    """

    name: str
    scene: str
    frames: tuple[Frame, ...]
    anew: frozenset[str] = frozenset()


def limited(frames: Iterable[Frame], limit: int | None) -> list[Frame]:
    """The first `limit` frames of each subset."""
    seen: dict[str, int] = {}
    kept = []
    for frame in frames:
        seen[frame.subset] = seen.get(frame.subset, 0) + 1
        if limit is None or seen[frame.subset] <= limit:
            kept.append(frame)
    return kept


def check_cameras(frames: Iterable[Frame], channels: Sequence[str]) -> None:
    """Check that each scene has images of all cameras that are named; some of its frames may lack one that it dropped.

    Raises:
        DatasetError: a scene without any image of one of them.
    """
    for scene, members in groupby(frames, key=lambda frame: frame.scene):
        drive = list(members)
        there = list(dict.fromkeys(camera.channel for frame in drive for camera in frame.cameras))
        missing = [channel for channel in channels if channel not in there]
        if missing:
            raise DatasetError(
                f"no images of camera {missing[0]} in scene {scene}",
                path=drive[0].points_path,
                frame=drive[0].token,
                remedy=f"Put them there, or name with --cameras those that are: {', '.join(there)}"
                if there
                else "Put them there: the scene has images of no camera, and CLIP sees nothing without",
            )


def with_cameras(frame: Frame, channels: Sequence[str]) -> Frame:
    """The frame with those of these cameras that it has, in this order; all of its own where none is named."""
    there = {camera.channel: camera for camera in frame.cameras}
    chosen = tuple(there[channel] for channel in channels if channel in there)
    return replace(frame, cameras=chosen) if channels else frame


def check_unique(frames: Sequence[Frame]) -> None:
    """A store knows frames by token and tells drives apart by name.

    Raises:
        DatasetError: a token that occurs twice, two scenes of one name, or frames not counted in order.
    """
    token, count = Counter(frame.token for frame in frames).most_common(1)[0] if frames else ("", 0)
    if count > 1:
        raise DatasetError(
            f"{count} frames have one and the same token",
            frame=token,
            remedy="Give every frame of the data set a token of its own, or download its tables again",
        )
    drives = [(scene, list(drive)) for scene, drive in groupby(frames, key=lambda frame: frame.scene)]
    names = Counter(scene for scene, _ in drives)
    for scene, drive in drives:
        if names[scene] > 1:
            raise DatasetError(
                f"two scenes are called {scene!r}",
                frame=drive[0].token,
                remedy="Give every scene of the data set a name of its own, or download its tables again",
            )
        for one, other in pairwise(drive):
            if other.index <= one.index:
                raise DatasetError(
                    f"two scenes are called {scene!r}, or its frames are not counted in order of time: index"
                    f" {other.index} comes after index {one.index}, of {one.token}",
                    frame=other.token,
                    remedy="Give every scene of the data set a name of its own, and its frames in order, or download"
                    " its tables again",
                )


def plan(
    frames: Sequence[Frame], held: Mapping[str, Held], partition_frames: int, anew: frozenset[str] = frozenset()
) -> list[Task]:
    """Tasks for the frames that the store lacks, or holds in a state that can be bettered (see `Held.lacks`).

    Frames that it has never seen come first, in partitions of their own. The cut depends on the frames alone, not on
    workers or on who was killed when. Frames that it knows go back to their partition, which keeps its other frames.

    Args:
        frames: scene after scene, each in order of time.
        held: what the store knows of frames, by token.
        partition_frames: frames of a new partition at most.
        anew: tokens of frames that are computed although the store lacks nothing of them.
    """
    tasks = []
    for (scene, _), group in groupby(frames, key=lambda frame: (frame.scene, frame.subset)):
        for new, run in groupby(group, key=lambda frame: frame.token not in held):
            stretch = tuple(run) if new else ()
            for start in range(0, len(stretch), partition_frames):
                part = stretch[start : start + partition_frames]
                tasks.append(Task(partition_name(scene, part[0].index, part[0].token), scene, part))
    again: dict[str, list[Frame]] = {}
    for frame in frames:
        if frame.token in held and (frame.token in anew or held[frame.token].lacks(frame)):
            again.setdefault(held[frame.token].partition, []).append(frame)
    return tasks + [Task(name, part[0].scene, tuple(part), anew) for name, part in again.items()]


def partition_name(scene: str, index: int, token: str) -> str:
    """Name a new partition after its first frame: for people its scene and index, and a hash of its token.

    The hash keeps partitions apart whose scenes differ in signs that no file name has, or in upper and lower case
    alone, and those that began at one index when the data set had other frames.
    """
    plain, digest = frame_key(scene, token)
    return f"{plain}.{index:06d}.{digest}"


def frame_key(scene: str, token: str) -> tuple[str, str]:
    """Scene and hash by which the name of a partition tells its first frame, whatever that one's index."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", scene)[:64].lstrip("-") or "_"
    return plain, hashlib.sha256(token.encode()).hexdigest()[:8]


def first_frame_of(partition: str) -> tuple[str, str]:
    """The `frame_key` of the frame that a partition is named after; its index may be another one by now."""
    return partition.partition(".")[0], partition.rpartition(".")[2]
