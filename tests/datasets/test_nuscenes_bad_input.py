"""Every fault of a dataroot is a typed error that names the file and ends with what to do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovps.datasets import nuscenes
from ovps.errors import DatasetError, FrameError
from tests.helpers.mini_nuscenes import VERSION


@pytest.fixture
def root(mini_nuscenes, tmp_path) -> Path:
    return Path(shutil.copytree(mini_nuscenes, tmp_path / "nuscenes"))


@pytest.fixture
def frame(root):
    return nuscenes.load_frames(root, VERSION, ("train",))[0]


def _change(root, table, change):
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(change(rows)))


def _row(rows, **wanted):
    return next(r for r in rows if all(wanted[k] in r[k] for k in wanted))


def _refused(kind, path, call, *args):
    """The message; checks type, file and remedy."""
    with pytest.raises(DatasetError) as caught:
        call(*args)
    error = caught.value
    assert type(error) is kind
    assert error.path == str(path)
    assert error.remedy
    assert error.exit_code != 0
    return str(error)


def _refused_tables(root, path):
    return _refused(DatasetError, path, nuscenes.load_frames, root, VERSION, ("train",))


# the dataroot and its tables


def test_no_dataroot(tmp_path):
    message = _refused_tables(tmp_path / "gone", tmp_path / "gone")
    assert "--dataroot" in message


def test_wrong_version_names_the_ones_there(root):
    message = _refused(DatasetError, root / "v1.0-mini", nuscenes.load_frames, root, "v1.0-mini", ("train",))
    assert VERSION in message


@pytest.mark.parametrize("table", ["sample_data", "ego_pose", "sensor", "map", "category"])
def test_missing_table(root, table):
    (root / VERSION / f"{table}.json").unlink()
    assert f"table {table} is missing" in _refused_tables(root, root / VERSION / f"{table}.json")


def test_table_that_is_not_json(root):
    path = root / VERSION / "sample_data.json"
    path.write_text(path.read_text()[:-100])
    assert "not JSON" in _refused_tables(root, path)


def test_missing_map_and_label_file_are_refused_by_the_devkit(root):
    (root / "maps" / "blank.png").rename(root / "map.png")
    assert "map mask" in _refused_tables(root, root / VERSION)
    (root / "map.png").rename(root / "maps" / "blank.png")
    next((root / "panoptic" / VERSION).glob("*.npz")).unlink()
    assert "3 label files but 4 panoptic records" in _refused_tables(root, root / VERSION)
    shutil.rmtree(root / "panoptic")
    _refused_tables(root, root / "panoptic" / VERSION)


@pytest.mark.parametrize("table", ["calibrated_sensor", "ego_pose"])
def test_missing_calibration_of_one_camera(root, table):
    rows = json.loads((root / VERSION / "sample_data.json").read_text())
    record = _row(rows, filename="CAM_BACK_LEFT/mini-0001")
    _change(root, table, lambda rows: [r for r in rows if r["token"] != record[f"{table}_token"]])
    message = _refused_tables(root, root / VERSION / f"{table}.json")
    assert "CAM_BACK_LEFT" in message
    assert record[f"{table}_token"] in message


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("camera_intrinsic", v) for v in ([], [[1.0, 0.0], [0.0, 1.0]], None, [[float("nan")] * 3] * 3)),
        *(("rotation", v) for v in ([0, 0, 0, 0], [1, 0, 0], "north", [float("nan")] * 4)),
        *(("translation", v) for v in ([], [0, 0], [float("inf"), 0, 0])),
    ],
)
def test_senseless_calibration(root, column, value):
    def change(rows):
        camera = next(r for r in rows if r["camera_intrinsic"])
        camera[column] = value
        return rows

    _change(root, "calibrated_sensor", change)
    assert f"no usable {column}" in _refused_tables(root, root / VERSION / "calibrated_sensor.json")


@pytest.mark.parametrize("channel", ["LIDAR_TOP", "CAM_FRONT"])
def test_sample_without_a_sensor(root, channel):
    _change(root, "sample_data", lambda rows: [r for r in rows if f"{channel}/mini-0001-001" not in r["filename"]])
    assert f"no key frame of {channel}" in _refused_tables(root, root / VERSION / "sample_data.json")


@pytest.mark.parametrize("name", ["../secret.jpg", "samples/../../secret.jpg", "/etc/hostname", ""])
@pytest.mark.parametrize("table", ["sample_data", "panoptic"])
def test_file_names_stay_inside_the_dataroot(root, table, name):
    _change(root, table, lambda rows: [r | {"filename": name} for r in rows])
    assert "outside the dataroot" in _refused_tables(root, name)


# splits


def test_unknown_split(root):
    message = _refused(DatasetError, root / VERSION / "splits.json", nuscenes.load_frames, root, VERSION, ("training",))
    assert "'training'" in message
    assert "mini_train" in message


def test_split_without_a_present_scene(root):
    # official and custom
    message = _refused(DatasetError, root / VERSION, nuscenes.load_frames, root, VERSION, ("mini_val",))
    assert "'mini_val'" in message
    splits = root / VERSION / "splits.json"
    splits.write_text('{"train": []}')
    assert "none of the 0 scenes of split 'train'" in _refused_tables(root, splits)


@pytest.mark.parametrize("text", ["[]", '{"train": "mini-0001"}', "{"])
def test_senseless_splits_json(root, text):
    splits = root / VERSION / "splits.json"
    splits.write_text(text)
    _refused_tables(root, splits)


# point files


def _write_points(frame, change):
    rows = np.fromfile(frame.points_path, np.float32).reshape(-1, 5)
    change(rows).tofile(frame.points_path)


def _refused_frame(frame, path, call):
    message = _refused(FrameError, path, call, frame)
    assert frame.token in message
    return message


def test_missing_points(frame):
    Path(frame.points_path).unlink()
    assert "does not exist" in _refused_frame(frame, frame.points_path, nuscenes.read_points)


def test_truncated_points(frame):
    path = Path(frame.points_path)
    path.write_bytes(path.read_bytes()[:-7])
    assert "cut off: 7993 bytes" in _refused_frame(frame, frame.points_path, nuscenes.read_points)


def test_no_points(frame):
    Path(frame.points_path).write_bytes(b"")
    assert "empty" in _refused_frame(frame, frame.points_path, nuscenes.read_points)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 2, 3])
def test_points_that_are_not_finite(frame, column, value):
    def change(rows):
        rows[[17, 30], column] = value
        return rows

    _write_points(frame, change)
    message = _refused_frame(frame, frame.points_path, nuscenes.read_points)
    assert "2 of 400 points" in message
    assert "point 17" in message


def test_a_folder_where_points_should_be(frame):
    path = Path(frame.points_path)
    path.unlink()
    path.mkdir()
    _refused_frame(frame, path, nuscenes.read_points)


# label files


def test_missing_labels(frame):
    Path(frame.labels_path).unlink()
    assert "does not exist" in _refused_frame(frame, frame.labels_path, nuscenes.read_labels)


def test_truncated_labels(frame):
    path = Path(frame.labels_path)
    path.write_bytes(path.read_bytes()[:-40])
    _refused_frame(frame, path, nuscenes.read_labels)


def test_flipped_byte_in_labels(frame):
    path = Path(frame.labels_path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(bytes(raw))
    _refused_frame(frame, path, nuscenes.read_labels)


def test_pickled_labels_are_never_loaded(frame):
    np.savez(frame.labels_path, data=np.array([{"a": 1}], dtype=object))
    assert "allow_pickle=False" in _refused_frame(frame, frame.labels_path, nuscenes.read_labels)
    Path(frame.labels_path).write_bytes(b"not an archive")
    _refused_frame(frame, frame.labels_path, nuscenes.read_labels)
    with Path(frame.labels_path).open("wb") as file:
        np.save(file, np.zeros(400, np.uint16))  # a bare array where an archive should be
    _refused_frame(frame, frame.labels_path, nuscenes.read_labels)


def test_labels_under_another_key_or_of_another_type(frame):
    np.savez(frame.labels_path, labels=np.zeros(400, np.uint16))
    _refused_frame(frame, frame.labels_path, nuscenes.read_labels)
    np.savez(frame.labels_path, data=np.zeros(400, np.int64))
    assert "int64" in _refused_frame(frame, frame.labels_path, nuscenes.read_labels)


def test_more_labels_than_points(frame):
    np.savez(frame.labels_path, data=np.zeros(401, np.uint16))
    assert "401 labels for 400 points" in _refused_frame(frame, frame.labels_path, nuscenes.read_labels)


def test_label_of_no_class(frame):
    np.savez(frame.labels_path, data=np.full(400, 32_000, np.uint16))
    assert "class 32" in _refused_frame(frame, frame.labels_path, nuscenes.read_labels)
    np.savez(frame.labels_path, data=np.full(400, 31_999, np.uint16))
    assert nuscenes.read_labels(frame).max() == 31_999


# images


def _refused_image(camera):
    return _refused(FrameError, camera.image_path, nuscenes.read_image, camera)


def test_missing_image(frame):
    Path(frame.cameras[2].image_path).unlink()
    assert "CAM_BACK_RIGHT does not exist" in _refused_image(frame.cameras[2])


@pytest.mark.parametrize("keep", [0, 10, 300, 1200])
def test_truncated_image(frame, keep):
    path = Path(frame.cameras[0].image_path)
    path.write_bytes(path.read_bytes()[:keep])
    _refused_image(frame.cameras[0])


def test_image_of_another_size(frame):
    Image.new("RGB", (64, 36)).save(frame.cameras[0].image_path)
    assert "64x36 pixels, its calibration is for 128x72" in _refused_image(frame.cameras[0])


def test_grey_image_becomes_rgb(frame):
    Image.new("L", (128, 72), 77).save(frame.cameras[0].image_path)
    pixels = nuscenes.read_image(frame.cameras[0])
    assert pixels.shape == (72, 128, 3)
    assert pixels.dtype == np.uint8


def test_frame_error_does_not_need_the_tables(frame):
    with pytest.raises(FrameError, match="somewhere/else"):
        nuscenes.read_points(replace(frame, points_path="/somewhere/else.pcd.bin"))
