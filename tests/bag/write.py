"""Bags of a car that drives between two rows of posts: LiDAR at 10 Hz, a camera at 15 Hz with a clock of its own."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

SPEED, TURN = 8.0, 1.0  # m/s along x, and rad/s
SWEEPS, IMAGES = 6, 10
BEGIN = 1_700_000_000 * 10**9  # ns
LIDAR_STEP, IMAGE_STEP, IMAGE_LATE = 100_000_000, 66_666_667, 21_000_000
WIDTH, HEIGHT, FOCAL = 480, 320, 350.0
POSTS = np.array([[x, y, z] for x in range(6, 40, 4) for y in (-5.0, 5.0) for z in (0.5, 1.5, 2.5)])  # in odom
BASE_FROM_LIDAR = np.array([[0, -1.0, 0, 0.4], [1, 0, 0, 0.1], [0, 0, 1, 1.9], [0, 0, 0, 1]])
BASE_FROM_CAMERA = np.array([[0, 0, 1.0, 1.2], [-1, 0, 0, -0.2], [0, -1, 0, 1.4], [0, 0, 0, 1]])
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])


def odom_from_base(time: int) -> np.ndarray:
    """Where the car is: it drives on and turns slowly."""
    seconds = (time - BEGIN) / 1e9
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", TURN * seconds).as_matrix()
    pose[:3, 3] = SPEED * seconds, 0.2 * seconds, 0
    return pose


def picture(time: int) -> np.ndarray:
    """The posts as white dots on black, by the pose at the camera's own time."""
    camera_from_odom = np.linalg.inv(odom_from_base(time) @ BASE_FROM_CAMERA)
    points = POSTS @ camera_from_odom[:3, :3].T + camera_from_odom[:3, 3]
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for x, y, z in points[points[:, 2] > 1]:
        u, v = FOCAL * x / z + WIDTH / 2, FOCAL * y / z + HEIGHT / 2
        if 1 < u < WIDTH - 2 and 1 < v < HEIGHT - 2:
            image[round(v) - 1 : round(v) + 2, round(u) - 1 : round(u) + 2] = 255
    return image


def sweep(time: int) -> np.ndarray:
    """The posts as the LiDAR sees them, (N, 3)."""
    lidar_from_odom = np.linalg.inv(odom_from_base(time) @ BASE_FROM_LIDAR)
    return POSTS @ lidar_from_odom[:3, :3].T + lidar_from_odom[:3, 3]


def write_bag(
    path: Path,
    kind: str,
    *,
    compressed: bool = False,
    moving: bool = True,
    static: bool = True,
    cloud: Any = None,
    info: dict[str, Any] | None = None,
    encoding: str = "rgb8",
    stamp_of: Callable[[int], int] = int,
    reflected: str = "intensity",
    camera: str = "/front/image_raw",
    length: float = 1.0,
    odd: Callable[[str, int, Any], dict[str, Any]] = lambda topic, number, message: {},
    place: Callable[[str, int, np.ndarray], list[np.ndarray]] = lambda child, time, matrix: [matrix],
    map_from_odom: Callable[[int], np.ndarray] | None = None,
) -> Path:
    """Write a bag; `kind` is ros1, ros2 or mcap, `cloud` and `info` change fields of its messages.

    Args:
        length: of the quaternions of transforms.
        stamp_of: the time stamp of a cloud, by the time at which it is recorded.
        reflected: what its fourth field is called.
        odd: fields of a cloud or an image that are others, by its topic, its number and what it was.
        place: the transforms that are published of a frame at a time, by what it was.
        map_from_odom: where a localisation says that odom is, five times a second.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    ros1 = kind == "ros1"
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    if ros1:
        store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))
    t = store.types
    seq = {"seq": 0} if ros1 else {}

    def header(time: int, frame: str) -> Any:
        made = t["builtin_interfaces/msg/Time"](sec=time // 10**9, nanosec=time % 10**9)
        return t["std_msgs/msg/Header"](**seq, stamp=made, frame_id=frame)

    def transform(time: int, parent: str, child: str, matrix: np.ndarray) -> Any:
        x, y, z, w = length * Rotation.from_matrix(matrix[:3, :3]).as_quat()
        value = t["geometry_msgs/msg/Transform"](
            translation=t["geometry_msgs/msg/Vector3"](*map(float, matrix[:3, 3])),
            rotation=t["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
        )
        return t["geometry_msgs/msg/TransformStamped"](
            header=header(time, parent), child_frame_id=child, transform=value
        )

    def points(time: int) -> Any:
        xyz = sweep(time).astype(np.float32)
        rows = np.zeros(len(xyz) + 2, {"names": ["x", "y", "z", "pad", "intensity"], "formats": ["<f4"] * 4 + ["<f4"]})
        for axis, name in enumerate("xyz"):
            rows[name][:-2] = xyz[:, axis]
        rows["intensity"] = 100
        rows["x"][-1] = np.nan  # a pulse without a return, and one at (0, 0, 0)
        field = t["sensor_msgs/msg/PointField"]
        fields = [
            field(name=n, offset=o, datatype=7, count=1) for n, o in (("x", 0), ("y", 4), ("z", 8), (reflected, 16))
        ]
        values = {
            "header": header(stamp_of(time), "velodyne"),
            "height": 1,
            "width": len(rows),
            "fields": fields,
            "is_bigendian": False,
            "point_step": 20,
            "row_step": 20 * len(rows),
            "data": np.frombuffer(rows.tobytes(), np.uint8),
            "is_dense": False,
        }
        return t["sensor_msgs/msg/PointCloud2"](**(values | (cloud or {})))

    def image(time: int) -> Any:
        pixels = picture(time)
        if compressed:
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "JPEG", quality=95)
            data = np.frombuffer(out.getvalue(), np.uint8)
            return t["sensor_msgs/msg/CompressedImage"](header=header(time, "front_optical"), format="jpeg", data=data)
        pixels = pixels[..., ::-1] if encoding == "bgr8" else pixels
        return t["sensor_msgs/msg/Image"](
            header=header(time, "front_optical"),
            height=HEIGHT,
            width=WIDTH,
            encoding=encoding,
            is_bigendian=0,
            step=3 * WIDTH,
            data=np.frombuffer(pixels.tobytes(), np.uint8),
        )

    def camera_info(time: int) -> Any:
        roi = t["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        letters = {"D": np.zeros(5), "K": K.reshape(-1), "R": np.eye(3).reshape(-1), "P": np.eye(3, 4).reshape(-1)}
        values = letters | (info or {})
        values = values if ros1 else {name.lower() if len(name) == 1 else name: v for name, v in values.items()}
        return t["sensor_msgs/msg/CameraInfo"](
            **({"distortion_model": "plumb_bob"} | values),
            header=header(time, "front_optical"),
            height=HEIGHT,
            width=WIDTH,
            binning_x=0,
            binning_y=0,
            roi=roi,
        )

    tf = "tf2_msgs/msg/TFMessage"
    image_topic = camera + ("/compressed" if compressed else "")
    image_type = "sensor_msgs/msg/" + ("CompressedImage" if compressed else "Image")
    messages: list[tuple[int, str, str, Any]] = []
    if static:
        stands = [
            transform(BEGIN, "base_link", child, made)
            for child, matrix in (("velodyne", BASE_FROM_LIDAR), ("front_optical", BASE_FROM_CAMERA))
            for made in place(child, BEGIN, matrix)
        ]
        messages.append((BEGIN, "/tf_static", tf, t[tf](transforms=stands)))
    if moving:
        for time in range(BEGIN - 10**8, BEGIN + 12 * 10**8, 20_000_000):
            moves = [transform(time, "odom", "base_link", m) for m in place("base_link", time, odom_from_base(time))]
            messages.append((time, "/tf", tf, t[tf](transforms=moves)))
    if map_from_odom is not None:
        for time in range(BEGIN - 10**8, BEGIN + 14 * 10**8, 2 * 10**8):
            one = transform(time, "map", "odom", map_from_odom(time))
            messages.append((time, "/tf", tf, t[tf](transforms=[one])))
    for n in range(SWEEPS):
        time = BEGIN + n * LIDAR_STEP
        made = points(time)
        messages.append((time, "/points", "sensor_msgs/msg/PointCloud2", replace(made, **odd("/points", n, made))))
    for n in range(IMAGES):
        time = BEGIN + IMAGE_LATE + n * IMAGE_STEP
        made = image(time)
        messages.append((time, image_topic, image_type, replace(made, **odd(image_topic, n, made))))
        messages.append((time, "/front/camera_info", "sensor_msgs/msg/CameraInfo", camera_info(time)))
    return _write(path, kind, store, sorted(messages, key=lambda message: message[0]))


def _write(path: Path, kind: str, store: Any, messages: list[tuple[int, str, str, Any]]) -> Path:
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import StoragePlugin, Writer

    if kind == "ros1":
        writer: Any = Writer1(path)
    else:
        plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
        writer = Writer(path, version=9, storage_plugin=plugin)
    with writer:
        connections: dict[str, Any] = {}
        for time, topic, kind_of, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind_of, typestore=store)
            raw = store.serialize_ros1(message, kind_of) if kind == "ros1" else store.serialize_cdr(message, kind_of)
            writer.write(connections[topic], time, raw)
    return path
