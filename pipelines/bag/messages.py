"""Messages of a bag as arrays and files: clouds, images, the models of cameras, transforms."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovps.extras import extra
from ovps.shortage import faults

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}  # of sensor_msgs/PointField
_PLAIN = {"rgb8": (3, "RGB"), "bgr8": (3, "BGR"), "rgba8": (4, "RGBA"), "bgra8": (4, "BGRA"), "mono8": (1, "L")}
_BAYER = {"bayer_rggb8": "BayerBG", "bayer_bggr8": "BayerRG", "bayer_gbrg8": "BayerGR", "bayer_grbg8": "BayerGB"}
_MODELS = {
    "plumb_bob": ("opencv", (4, 5)),
    "rational_polynomial": ("opencv", (8,)),
    "equidistant": ("fisheye", (4,)),
    "fisheye": ("fisheye", (4,)),
}
_BYTES = 2**30


class Unreadable(ValueError):
    """A message that is not used; what it says is put behind the topic. `cloud`: the same of a sweep, in short."""

    cloud = "their cloud cannot be read"


class NoPoint(Unreadable):
    """A cloud without any valid point, as drivers send at their start."""

    cloud = "their cloud has no valid point"


class OtherFrame(Unreadable):
    """A message of another sensor than the first one of its topic."""

    cloud = "their cloud is of another frame"


def message_of(reader: Any, connection: Any, raw: bytes) -> Any:
    """Bring the bytes of a message to its fields.

    Raises:
        Unreadable: they are no such message.
    """
    try:
        return reader.deserialize(raw, connection.msgtype)
    except faults(Exception) as error:  # rosbags: whatever the field at which the bytes end happens to raise
        raise Unreadable(f"{len(raw):,} bytes that are no {connection.msgtype}") from error


def stamp(message: Any) -> int:
    """Time stamp of a message's header in nanoseconds."""
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def read_cloud(message: Any, intensity: str) -> NDArray[np.float32]:
    """Read a PointCloud2 as x, y, z (metres) and intensity, (N, 4) float32, NaN and all; so may intensity alone be NaN.

    Args:
        intensity: the name of the field; where it is not there, 0.

    Raises:
        Unreadable: no x, y, z, data of another length than it says, or no valid point (`NoPoint`).
    """
    names = {f.name: f for f in message.fields}
    lacking = [name for name in "xyz" if name not in names]
    if lacking:
        raise Unreadable(f"a cloud without {', '.join(lacking)}; it has {', '.join(names)}")
    order = ">" if message.is_bigendian else "<"
    used = [name for name in dict.fromkeys(("x", "y", "z", intensity)) if name in names]
    height, width = int(message.height), int(message.width)
    row = int(message.row_step) or width * int(message.point_step)
    data = np.frombuffer(bytes(message.data), np.uint8)
    if height * row != len(data) or width * int(message.point_step) > row or len(data) > _BYTES:
        raise Unreadable(f"{len(data):,} bytes in a cloud of {height} x {width} points of {message.point_step} bytes")
    try:
        dtype = np.dtype(
            {
                "names": used,
                "formats": [order + _TYPES[names[name].datatype] for name in used],
                "offsets": [int(names[name].offset) for name in used],
                "itemsize": int(message.point_step),
            }
        )
    except (ValueError, KeyError) as error:
        raise Unreadable(f"fields that do not fit into {message.point_step} bytes a point: {error}") from error
    rows = np.ascontiguousarray(data.reshape(height, row)[:, : width * dtype.itemsize]).view(dtype).reshape(-1)
    columns = [
        rows[name].astype(np.float32) if name in used else np.zeros(len(rows)) for name in ("x", "y", "z", intensity)
    ]
    found = np.stack(columns, axis=1).astype(np.float32)
    if not valid(found).any():
        raise NoPoint("a cloud without any valid point")
    return found


def valid(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which points of a cloud (N, 4) are returns: neither NaN nor at (0, 0, 0). A return may lack intensity."""
    return np.isfinite(rows[:, :3]).all(axis=1) & rows[:, :3].any(axis=1)


def check_image(message: Any) -> None:
    """Raise Unreadable of an image that `read_image` would refuse, in a fraction of its time."""
    if hasattr(message, "format"):
        _compressed(message)
    else:
        _pixels(message)


def read_image(message: Any) -> tuple[str, bytes]:
    """Bring an Image or CompressedImage to the suffix and the bytes of a file, without loss.

    Raises:
        Unreadable: an encoding without one right reading as 8-bit RGB, or data that are cut off or of another length
            than it says.
    """
    if hasattr(message, "format"):
        return _compressed(message)
    encoding, pixels = _pixels(message)
    if encoding in _BAYER:
        with extra("folder"):
            import cv2
        picture = Image.fromarray(cv2.cvtColor(pixels[..., 0].copy(), getattr(cv2, f"COLOR_{_BAYER[encoding]}2RGB")))
    else:
        turned = pixels[..., 2::-1] if encoding.startswith("bgr") else pixels[..., :3]
        picture = Image.fromarray(np.ascontiguousarray(turned if pixels.shape[2] > 1 else pixels[..., 0]))
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return ".png", out.getvalue()


def _pixels(message: Any) -> tuple[str, NDArray[np.uint8]]:
    """The encoding of an Image, and its bytes (H, W, C)."""
    encoding, height, width, step = message.encoding.lower(), int(message.height), int(message.width), int(message.step)
    channels = 1 if encoding in _BAYER else _PLAIN.get(encoding, (0, ""))[0]
    if not channels:
        known = ", ".join((*_PLAIN, *_BAYER))
        raise Unreadable(f"images in {message.encoding}; {known} have one reading as 8-bit colours")
    data = np.frombuffer(bytes(message.data), np.uint8)
    if step < width * channels or height * step != len(data) or not len(data):
        raise Unreadable(f"{len(data):,} bytes in an image of {width} x {height} in {encoding}")
    return encoding, data.reshape(height, step)[:, : width * channels].reshape(height, width, channels)


def _compressed(message: Any) -> tuple[str, bytes]:
    data = bytes(message.data)
    if not data.startswith((b"\xff\xd8", b"\x89PNG")):
        raise Unreadable(f"compressed images of format {message.format!r}, neither JPEG nor PNG")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            kind, mode = picture.format, picture.mode
            picture.verify()  # of a PNG, to its end
    except faults(Exception) as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error
        raise Unreadable(f"{len(data):,} bytes of a damaged image") from error
    if kind == "JPEG" and b"\xff\xd9" not in data[len(data) // 2 :]:  # a thumbnail ends in the first half
        raise Unreadable(f"{len(data):,} bytes of a JPEG that is cut off")
    if mode.startswith(("I", "F")):
        raise Unreadable(f"images of more than 8 bits a channel in {message.format!r}")
    return (".jpg" if kind == "JPEG" else ".png"), data


def camera_model(message: Any, rectified: bool) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Bring a CameraInfo to the model of a calibration file.

    Args:
        rectified: its images have no distortion any more: P and R are theirs, not K and D.

    Returns:
        The model, and the rotation (4, 4) from the camera's own frame to that of its images.

    Raises:
        Unreadable: not calibrated, binned, cut out of a larger image, or with a distortion that is not known.
    """
    # ROS 1 writes these names large
    k, d, r, p = (np.array(getattr(message, n, getattr(message, n.upper(), ())), float) for n in "kdrp")
    roi = message.roi
    if not all(np.isfinite(values).all() for values in (k, d, r, p)):
        raise Unreadable("a CameraInfo with NaN or infinity")
    if not k.any():
        raise Unreadable("a CameraInfo that is not calibrated: K is 0")
    if max(message.binning_x, message.binning_y) > 1 or roi.x_offset or roi.y_offset:
        raise Unreadable("a CameraInfo with binning or a region of interest: rectify the images first")
    if rectified and not p.any():
        raise Unreadable("a CameraInfo without P, which is that of images that are rectified, as the topic says")
    matrix = p.reshape(3, 4)[:, :3] if rectified else k.reshape(3, 3)
    turned = np.eye(4)
    if rectified and r.any():
        turned[:3, :3] = r.reshape(3, 3)
    about: dict[str, Any] = {
        "width": int(message.width),
        "height": int(message.height),
        "fx": float(matrix[0, 0]),
        "fy": float(matrix[1, 1]),
        "cx": float(matrix[0, 2]),
        "cy": float(matrix[1, 2]),
    }
    model, counts = _MODELS.get(message.distortion_model, ("", ()))
    if rectified or (model != "fisheye" and not d.any()):
        return about, turned
    if not d.any():  # an ideal fisheye, which no pinhole is
        d = np.zeros(4)
    if len(d) not in counts:
        raise Unreadable(f"distortion {message.distortion_model!r} with {len(d)} coefficients")
    return about | {"model": model, "distortion": d.tolist()}, turned


def matrix_of(transform: Any) -> NDArray[np.float64]:
    """Bring a geometry_msgs/Transform to a matrix (4, 4), metres.

    Raises:
        Unreadable: a rotation that is none, or a place that is no number.
    """
    from ovps.datasets.folder.calibration import rotation_of

    q, t = transform.rotation, transform.translation
    wxyz = (q.w, q.x, q.y, q.z)
    if not np.isfinite((t.x, t.y, t.z)).all():
        raise Unreadable(f"the translation {(t.x, t.y, t.z)}")
    if not abs(float(np.linalg.norm(wxyz)) - 1) <= 0.01:  # of NaN neither holds
        raise Unreadable(f"the quaternion (w, x, y, z) {wxyz}, which is no rotation")
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_of(wxyz)
    matrix[:3, 3] = t.x, t.y, t.z
    return matrix
