"""First pass over a bag: transforms, camera models, and when each message was made, of those that are understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.errors import DatasetError, counted
from ovps.progress import progress
from pipelines.bag.messages import OtherFrame, Unreadable, check_image, matrix_of, message_of, read_cloud, stamp
from pipelines.bag.topics import ROS1_TRANSFORMS, STATIC, TRANSFORMS, CameraTopic
from pipelines.bag.transforms import Frames


@dataclass
class _LeftOut:
    """Messages of a topic that are not understood: how many, when the first was recorded, and what is wrong with it."""

    time: int
    reason: str
    count: int = 0


@dataclass
class Index:
    """Findings of the first pass over a bag, in the messages that are understood."""

    frames: Frames = field(default_factory=Frames)
    infos: dict[str, Any] = field(default_factory=dict)
    stamps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # of the message, of the recording
    frame_of: dict[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()  # of the first cloud
    messages: Counter[str] = field(default_factory=Counter)  # understood or not, by topic
    unreadable: dict[str, _LeftOut] = field(default_factory=dict)
    sweeps_left_out: dict[str, int] = field(default_factory=dict)  # whose cloud is not understood, by the reason
    transforms_left_out: dict[tuple[str, str, str], _LeftOut] = field(default_factory=dict)  # by topic, child, parent

    def leave_out(self, topic: str, time: int, error: Unreadable, sweep: bool) -> None:
        """Count a message that is not understood."""
        self.unreadable.setdefault(topic, _LeftOut(time, str(error))).count += 1
        if sweep:
            self.sweeps_left_out[error.cloud] = self.sweeps_left_out.get(error.cloud, 0) + 1

    def check_frame(self, topic: str, message: Any) -> None:
        """Check that a message of a sensor is in the frame that the first one of its topic is in.

        Raises:
            OtherFrame: it is of another sensor.
        """
        frame = message.header.frame_id.lstrip("/")
        first = self.frame_of.setdefault(topic, frame)
        if frame != first:
            raise OtherFrame(f"of frame {frame!r}, where the first one is of {first!r}: give each sensor a topic")

    def add_transforms(self, topic: str, time: int, message: Any) -> None:
        """Note the transforms of a message, and those that are none."""
        for t in message.transforms:
            parent, child = t.header.frame_id.lstrip("/"), t.child_frame_id.lstrip("/")
            try:
                matrix = matrix_of(t.transform)
            except Unreadable as error:
                which = topic, child, parent
                self.transforms_left_out.setdefault(which, _LeftOut(time, str(error))).count += 1
                continue
            self.frames.add(parent, child, stamp(t), matrix, static=topic.endswith(STATIC))

    def warnings(self, about: str = "") -> list[str]:
        """Sentences about them, one for each topic, and about transforms; only those that begin with `about`."""
        messages = [
            f"{topic}: {left.count} of {self.messages[topic]} messages left out, the first recorded"
            f" at {left.time / 1e9:.3f} s: {left.reason}"
            for topic, left in sorted(self.unreadable.items())
        ]
        transforms = [
            f"{topic}: {counted(left.count, 'transform')} from {child} to {parent} left out, the first recorded at"
            f" {left.time / 1e9:.3f} s: {left.reason}"
            for (topic, child, parent), left in sorted(self.transforms_left_out.items())
        ]
        return [text for text in (*messages, *transforms, *self.frames.warnings()) if text.startswith(about)]

    def unstamped(self) -> set[str]:
        """Topics whose messages do not say when they were made: some have no time stamp, or all have one."""
        own = {topic: [stamp for stamp, _ in both] for topic, both in self.stamps.items()}
        return {topic for topic, found in own.items() if 0 in found or (len(found) > 1 and len(set(found)) == 1)}

    def times(self, topic: str) -> NDArray[np.int64]:
        """Times at which the messages of a topic were made, in nanoseconds."""
        which = 1 if topic in self.unstamped() else 0
        return np.array([both[which] for both in self.stamps.get(topic, [])], np.int64)


def indexed(reader: Any, clouds: str, cameras: Sequence[CameraTopic], intensity: str, path: Path) -> Index:
    """Find transforms, camera models, and the time stamps of points and images that can be read.

    Args:
        reader: of the bag.
        clouds: the topic of points.
        intensity: a field of theirs.
        path: of the bag, for errors to name.

    Raises:
        DatasetError: a camera model that changes within the bag, or a frame whose transforms are all none.
    """
    index = Index()
    sensors, infos = {clouds, *(c.images for c in cameras)}, {c.info for c in cameras}
    kinds = (TRANSFORMS, ROS1_TRANSFORMS)
    wanted = [c for c in reader.connections if c.msgtype in kinds or c.topic in sensors | infos]
    with progress("read the bag", "messages", sum(c.msgcount for c in wanted)) as counter:
        for connection, time, raw in reader.messages(connections=wanted):
            counter.advance()
            topic = connection.topic
            index.messages[topic] += 1
            try:
                message = message_of(reader, connection, raw)
                if topic == clouds:
                    read_cloud(message, intensity)
                elif topic in sensors:
                    check_image(message)
                if topic in sensors:
                    index.check_frame(topic, message)
            except Unreadable as error:
                index.leave_out(topic, time, error, sweep=topic == clouds)
                continue
            if topic in sensors:
                index.stamps.setdefault(topic, []).append((stamp(message), time))
                if topic == clouds and not index.fields:
                    index.fields = tuple(f.name for f in message.fields)
            elif connection.msgtype in kinds:
                index.add_transforms(topic, time, message)
            else:
                before = index.infos.setdefault(topic, message)
                if any(not np.array_equal(values_of(before, n), values_of(message, n), equal_nan=True) for n in "kdp"):
                    raise DatasetError(
                        f"{topic} changes within the bag", path=path, remedy="Cut the bag where it changes"
                    )
    for (topic, child, parent), left in index.transforms_left_out.items():
        if child not in index.frames.links:
            raise DatasetError(
                f"the transform from {child} to {parent} on {topic} has {left.reason}",
                path=path,
                remedy="Mend what publishes it, or leave its messages out of the bag",
            )
    return index


def values_of(info: Any, name: str) -> NDArray[np.float64]:
    """Read the numbers of a field of a CameraInfo; ROS 1 writes some names large that ROS 2 writes small."""
    return np.array(getattr(info, name, getattr(info, name.upper(), ())), float)
