"""Contents of a bag, and which of its topics are the points and the cameras."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovps.errors import ConfigError, DatasetError, OvpsError, counted
from ovps.extras import extra
from ovps.options import each_once
from ovps.places import check_no_url
from ovps.shortage import faults

POINTS = "sensor_msgs/msg/PointCloud2"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
INFO = "sensor_msgs/msg/CameraInfo"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
ROS1_TRANSFORMS = "tf/msg/tfMessage"
STATIC = "/tf_static"
_ENDINGS = (".bag", ".mcap", ".db3")
_TRANSPORTS = ("compressed", "compressedDepth")  # of image_transport, behind the topic whose images they carry
_IMAGES = ("image_color", "image_raw", "image_rect_color", "image", "image_rect", "image_mono")  # the first is the best
_PLAIN = ("compressed", *_IMAGES)
_OWN = ("lidar", "vehicle", "world", "sensor")  # names that the recording gives to other things


@dataclass(frozen=True)
class Topic:
    """A topic of a bag; `rate` is messages a second."""

    name: str
    type: str
    messages: int
    rate: float


@dataclass(frozen=True)
class CameraTopic:
    """A camera: the name it gets, its images, and its CameraInfo."""

    name: str
    images: str
    info: str

    @property
    def rectified(self) -> bool:
        """Tell whether its images have no distortion any more, as the name of the topic says."""
        return any(word in ("rect", "rectified") for word in re.split("[/_]", self.images))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a bag (`rosbags.highlevel.AnyReader`): a .bag, an .mcap, a .db3, or the folder of a ROS 2 bag.

    Raises:
        DatasetError: no such bag, or one that cannot be read, now or while it is open.
        ConfigError: a URL.
    """
    check_no_url(path)
    with extra("ros"):
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    if not path.exists():
        raise DatasetError("no such bag", path=path, remedy="Name a .bag or .mcap file, or the folder of a ROS 2 bag")
    if path.is_file() and path.suffix not in _ENDINGS:
        raise DatasetError(
            f"no bag by its name, which ends with {path.suffix or 'no dot'} and not with {', '.join(_ENDINGS)}",
            path=path,
            remedy="Name a bag, or the folder of a ROS 2 bag; a bag of another ending is to be renamed",
        )
    store = get_typestore(Stores.ROS1_NOETIC if path.suffix == ".bag" else Stores.LATEST)
    try:
        with AnyReader([path], default_typestore=store) as reader:
            yield reader
    except OvpsError:
        raise
    except faults(Exception) as error:  # rosbags, SQLite, MCAP and decompression have no common base
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"the bag cannot be read: {reason}",
            path=path,
            remedy="Copy it again, or mend it with `rosbag reindex`, `ros2 bag reindex` or `mcap recover`",
        ) from error


def list_topics(path: Path) -> list[Topic]:
    """List the topics of a bag by name.

    Raises:
        DatasetError: no such bag, or one that cannot be read.
    """
    with opened(path) as reader:
        seconds = max(reader.duration / 1e9, 1e-9)
        return [
            Topic(name, about.msgtype or "several types", about.msgcount, about.msgcount / seconds)
            for name, about in sorted(reader.topics.items())
        ]


def choose(
    topics: Sequence[Topic], points: str | None, cameras: Sequence[str], path: Path
) -> tuple[str, list[CameraTopic]]:
    """Choose the topic of the points and those of the cameras.

    Args:
        points: None: the only one of PointCloud2.
        cameras: topics of images; none: every CameraInfo's own, which is the nearest to its namespace, and of those
            that are equally near the one with the plainest name.

    Raises:
        ConfigError: no such topic, several to choose from, or images without a CameraInfo.
    """
    by_type: dict[str, list[str]] = {}
    for topic in topics:
        by_type.setdefault(topic.type, []).append(topic.name)
    clouds, infos = by_type.get(POINTS, []), by_type.get(INFO, [])
    images = sorted(by_type.get(IMAGE, []) + by_type.get(COMPRESSED, []))
    if points is None and len(clouds) != 1:
        raise ConfigError(
            f"{len(clouds)} topics of points: {', '.join(clouds) or 'none of type PointCloud2'}",
            path=path,
            remedy="Name one with --points; --list shows all topics",
        )
    try:
        each_once(cameras)
    except ValueError as error:
        raise ConfigError(f"--camera {error}", path=path, remedy="Name each once") from error
    unknown = [name for name in cameras if name not in images] + [points] * (points not in (None, *clouds))
    if unknown:
        raise ConfigError(
            f"no topic {unknown[0]} of that kind",
            path=path,
            remedy=f"Points: {', '.join(clouds) or 'none'}. Images: {', '.join(images) or 'none'}",
        )
    pairs = {name: _info_of(name, infos) for name in cameras or sorted(images, key=_preference)}
    lacking = [name for name, info in pairs.items() if info is None]
    if cameras and lacking:
        raise ConfigError(
            f"{lacking[0]} has no CameraInfo beside it", path=path, remedy=f"There are: {', '.join(infos) or 'none'}"
        )
    chosen: dict[str, str] = {}
    for name, info in pairs.items():
        if info is not None and (cameras or info not in chosen.values()):  # raw and compressed of one camera
            chosen[name] = info
    if not chosen:
        if not images:
            raise ConfigError(
                "no topic of images, and CLIP sees nothing without",
                path=path,
                remedy="Name a bag that holds camera images, too; --list shows all topics",
            )
        raise ConfigError("no images with a CameraInfo beside them", path=path, remedy="Record camera_info, too")
    ordered = chosen if cameras else sorted(chosen)
    return points or clouds[0], [CameraTopic(_name(name, chosen), name, chosen[name]) for name in ordered]


def passed_over(topics: Sequence[Topic], cameras: Sequence[CameraTopic]) -> list[str]:
    """Warn of topics of images that none of the chosen cameras shows, where nobody has named cameras."""
    infos = [topic.name for topic in topics if topic.type == INFO]
    shown = {_camera_of(camera.images) for camera in cameras}
    others = [t.name for t in topics if t.type in (IMAGE, COMPRESSED) and _camera_of(t.name) not in shown]
    lacking = [name for name in others if _info_of(name, infos) is None]
    sharing = [name for name in others if name not in lacking]
    return [
        f"{counted(len(names), 'topic')} of images not used: {', '.join(names)}. {why}"
        for names, why in (
            (sharing, "The camera_info above it is that of another; --camera names all that are to be used"),
            (lacking, "There is no camera_info beside it; record that, too, if it is a camera"),
        )
        if names
    ]


def _camera_of(images: str) -> str:
    """What topics that show one camera's images have in common: /front of /front/image_mono/compressed."""
    parts = images.split("/")
    for endings in (_TRANSPORTS, _IMAGES):
        parts = parts[:-1] if parts[-1] in endings else parts
    return "/".join(parts)


def _preference(images: str) -> tuple[int, int, str]:
    """Order of topics of images that may have a CameraInfo in common."""
    parts = images.split("/")
    parts = parts[:-1] if parts[-1] in _TRANSPORTS else parts
    return len(parts), _IMAGES.index(parts[-1]) if parts[-1] in _IMAGES else len(_IMAGES), images


def _info_of(images: str, infos: Sequence[str]) -> str | None:
    """The CameraInfo in the nearest namespace above a topic of images."""
    parts = images.split("/")
    for end in range(len(parts) - 1, 0, -1):
        beside = "/".join([*parts[:end], "camera_info"])
        if beside in infos:
            return beside
    return None


def _name(images: str, chosen: dict[str, str]) -> str:
    short = {topic: _short(topic) for topic in chosen}
    name = short[images]
    if list(short.values()).count(name) > 1:
        name = "_".join(part for part in images.split("/") if part)
    return f"{name}_camera" if name in _OWN else name


def _short(images: str) -> str:
    return "_".join(part for part in images.split("/") if part and part not in _PLAIN) or "camera"
