"""Numbers that no rig of cameras has are told apart from those that real ones have."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.errors import FrameError
from ovps.frame import Frame
from ovps.geometry.calibration import check_calibration, intrinsics_fault, odd_intrinsics, rigid_fault
from tests.helpers.cameras import make_camera
from tests.helpers.mini_nuscenes import VERSION

FRAME = Frame("nuscenes", "v", "train", "scene", "token", 0, 0, "points.bin", None, (make_camera(),), np.eye(4))
SIZES = st.tuples(st.integers(64, 4096), st.integers(64, 4096)).filter(lambda s: 0.2 < s[0] / s[1] < 5)


@st.composite
def cameras(draw):
    """Matrix and size: wide angles to telephoto, centres off the middle, pixels not quite square."""
    width, height = draw(SIZES)
    focal = draw(st.floats(0.3, 4)) * max(width, height)
    centre = draw(st.floats(-0.15, 0.15)), draw(st.floats(-0.15, 0.15))
    stretch = draw(st.floats(0.8, 1.25))
    return _matrix(focal, focal * stretch, width * (0.5 + centre[0]), height * (0.5 + centre[1])), width, height


def _plus(row, column, value):
    matrix = np.zeros((3, 3))
    matrix[row, column] = value
    return matrix


def _matrix(fx, fy, cx, cy):
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


@given(cameras())
def test_sensible_cameras_are_accepted(camera):
    assert intrinsics_fault(*camera) is None


@given(cameras(), st.floats(0.2, 0.4), st.booleans(), st.booleans())
def test_cropped_images_are_accepted(camera, share, top, side):
    """A strip cut off on one side moves the centre on one axis."""
    matrix, width, height = camera
    matrix = matrix.copy()
    if side:
        width = int(width * (1 - share))
        matrix[0, 2] -= share * camera[1] * top
    else:
        height = int(height * (1 - share))
        matrix[1, 2] -= share * camera[2] * top
    assert intrinsics_fault(matrix, width, height) is None


SENSELESS = {
    "the identity": (lambda k, w, h: np.eye(3), "identity"),
    "transposed": (lambda k, w, h: k.T, "transposed"),
    "normalised by the size": (lambda k, w, h: np.diag([1 / w, 1 / h, 1]) @ k, "normalised"),
    "normalised by the width": (lambda k, w, h: np.diag([1 / w, 1 / w, 1]) @ k, "normalised|another resolution|last"),
    "no fx": (lambda k, w, h: k * [[0, 1, 1], [1, 1, 1], [1, 1, 1]], "focal length of 0"),
    "no fy": (lambda k, w, h: k * [[1, 1, 1], [1, 0, 1], [1, 1, 1]], "focal length of 0"),
    "negative fx": (lambda k, w, h: k * [[-1, 1, 1], [1, 1, 1], [1, 1, 1]], "negative focal length"),
    "zeros": (lambda k, w, h: np.zeros((3, 3)), "last row"),
    "scaled as a whole": (lambda k, w, h: k * 2, "last row"),
    "NaN": (lambda k, w, h: k * np.nan, "NaN"),
    "infinite": (lambda k, w, h: k + np.diag([np.inf, 0, 0]), "NaN or infinity"),
    "centre far off": (lambda k, w, h: k + _plus(0, 2, 2 * w), "far outside the image"),
    "centre far above": (lambda k, w, h: k - _plus(1, 2, 2 * h), "far outside the image"),
    "of half the size": (lambda k, w, h: np.diag([0.5, 0.5, 1]) @ k, "another resolution"),
    "of a quarter of the size": (lambda k, w, h: np.diag([0.25, 0.25, 1]) @ k, "another resolution"),
    "of twice the size": (lambda k, w, h: np.diag([2, 2, 1]) @ k, "another resolution"),
    "of a fisheye lens": (lambda k, w, h: k * [[0.005, 1, 1], [1, 0.005, 1], [1, 1, 1]], "field of view"),
    "a skew": (lambda k, w, h: k + _plus(0, 1, k[0, 0]), "skew"),
    "metres instead of pixels": (lambda k, w, h: np.diag([1e-5, 1e-5, 1]) @ k, "normalised|resolution|focal"),
}


@pytest.mark.parametrize("what", SENSELESS)
@settings(max_examples=25)
@given(camera=cameras())
def test_senseless_matrices_are_told(camera, what):
    change, words = SENSELESS[what]
    matrix, width, height = camera
    middle = _matrix(matrix[0, 0], matrix[1, 1], width * 0.51, height * 0.53)  # as of every real camera, or nearly
    fault = intrinsics_fault(np.asarray(change(middle, width, height)), width, height)
    assert fault is not None
    assert re.search(words, fault)


@given(st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_rigid_motions_are_accepted_and_what_is_none_is_told(seed, metres):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    pose[:3, 3] = metres
    assert rigid_fault(pose) is None
    assert rigid_fault(pose.astype(np.float32).astype(np.float64)) is None
    assert rigid_fault(pose.round(4)) is None
    assert "left-handed" in rigid_fault(pose @ np.diag([1, 1, -1, 1]))
    assert "scaled by 100" in rigid_fault(pose @ np.diag([100, 100, 100, 1]))
    assert "no rotation" in rigid_fault(pose @ np.diag([1, 1, 2, 1]))
    assert "last row" in rigid_fault(pose.T + np.diag([0, 0, 0, 1]))
    assert "NaN" in rigid_fault(pose * np.nan)
    assert "no rotation" in rigid_fault(np.diag([0.0, 0.0, 0.0, 1.0]))


def test_a_frame_is_refused_with_its_camera_and_token():
    check_calibration(FRAME)
    camera = FRAME.cameras[0]
    far = camera.camera_from_lidar.copy()
    far[0, 3] = 1180.0
    bad = {
        "intrinsics are the identity matrix": replace(camera, intrinsics=np.eye(3)),
        "pose is a mirror image": replace(camera, camera_from_lidar=camera.camera_from_lidar @ np.diag([1, 1, -1, 1])),
        "pose puts the camera 1,180 m from the LiDAR": replace(camera, camera_from_lidar=far),
        "image size is given as 0x900": replace(camera, width=0),
    }
    for words, changed in bad.items():
        with pytest.raises(FrameError, match=words) as caught:
            check_calibration(replace(FRAME, cameras=(camera, changed)))
        assert (caught.value.path, caught.value.frame) == (camera.image_path, "token")
        assert camera.channel in caught.value.message
    with pytest.raises(FrameError, match="pose of the LiDAR holds NaN") as caught:
        check_calibration(replace(FRAME, global_from_lidar=np.full((4, 4), np.nan)))
    assert caught.value.path == "points.bin"


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ((1062.4, 1056.8, 939.5, 622.5), []),
        ((1062.4, 622.5, 939.5, 1056.8), ["1062.4, 622.5", "centre at (939.5, 1056.8) of 1936x1216"]),
        ((1062.4, 1056.8, 622.5, 939.5), ["centre at (622.5, 939.5)"]),
        ((1062.4, 1400.0, 939.5, 622.5), ["scaled by different factors"]),
    ],
)
def test_numbers_of_intrinsics_that_may_be_exchanged_are_told_once(numbers, says):
    """Those of a camera of DDAD: fy and cy exchanged, cx and cy."""
    camera = replace(FRAME.cameras[0], intrinsics=_matrix(*numbers), width=1936, height=1216)
    assert intrinsics_fault(camera.intrinsics, 1936, 1216) is None
    frame = replace(FRAME, cameras=(camera,))
    found = odd_intrinsics([frame, frame])
    assert len(found) == len(says)
    assert all(camera.channel in text and part in text for text, part in zip(found, says, strict=True))


def test_mini_frames_are_accepted(mini_nuscenes):
    for frame in nuscenes.frames(mini_nuscenes, VERSION, ("train", "val")):
        check_calibration(frame)


def test_real_rigs_are_accepted(real_nuscenes):
    """nuScenes, KITTI in its four image sizes, and DDAD."""
    frames = nuscenes.frames(real_nuscenes, VERSION, ("train",))
    for frame in frames:
        check_calibration(frame)
    assert odd_intrinsics(frames) == []
    found = 0
    for path in sorted(real_nuscenes.parent.glob("*/sequences/*/calib.txt")):
        rows = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        numbers = {name: np.array(values.split(), np.float64).reshape(3, 4) for name, values in rows.items()}
        assert rigid_fault(np.vstack([numbers["Tr"], (0, 0, 0, 1)])) is None
        for size in ((1242, 375), (1241, 376), (1226, 370), (1224, 370)):
            assert intrinsics_fault(numbers["P2"][:, :3], *size) is None
            assert intrinsics_fault(numbers["P2"][:, :3].T, *size) is not None
            found += 1
    for path in sorted(real_nuscenes.parent.glob("ddad/*/*/calibration/*.json")):
        rig = json.loads(path.read_text())
        for name, k in zip(rig["names"], rig["intrinsics"], strict=True):
            if name.startswith("CAMERA"):
                matrix = _matrix(k["fx"], k["fy"], k["cx"], k["cy"])
                assert intrinsics_fault(matrix, 1936, 1216) is None
                assert "another resolution" in intrinsics_fault(matrix, 968, 608)
                found += 1
    assert found >= 15
