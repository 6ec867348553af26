"""Every fault of a dataroot is a typed error that names the file and ends with what to do."""

from __future__ import annotations

import json
import shutil
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.errors import DatasetError, FrameError
from tests.helpers.mini_nuscenes import VERSION


@pytest.fixture
def root(mini_nuscenes, tmp_path) -> Path:
    return Path(shutil.copytree(mini_nuscenes, tmp_path / "nuscenes"))


@pytest.fixture
def frame(root):
    return nuscenes.frames(root, VERSION, ("train",))[0]


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
    return _refused(DatasetError, path, nuscenes.frames, root, VERSION, ("train",))


# the dataroot and its tables


def test_no_dataroot(tmp_path):
    message = _refused_tables(tmp_path / "gone", tmp_path / "gone")
    assert "holds samples" in message


def test_wrong_version_names_the_ones_there(root):
    message = _refused(DatasetError, root / "v1.0-mini", nuscenes.frames, root, "v1.0-mini", ("train",))
    assert VERSION in message


@pytest.mark.parametrize("table", ["sample_data", "ego_pose", "sensor", "scene", "category"])
def test_missing_table(root, table):
    (root / VERSION / f"{table}.json").unlink()
    assert f"table {table} is missing" in _refused_tables(root, root / VERSION / f"{table}.json")


def test_table_that_is_not_json(root):
    path = root / VERSION / "sample_data.json"
    path.write_text(path.read_text()[:-100])
    assert "not JSON" in _refused_tables(root, path)


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
        *(("rotation", v) for v in ([0, 0, 0, 0], [1, 0, 0], "north", [float("nan")] * 4, [2, 0, 0, 0])),
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
    assert f"outside the dataroot: {name!r}" in _refused_tables(root, root / VERSION / f"{table}.json")


@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize("value", [0, -900, None, "900"])
def test_senseless_image_size(root, side, value):
    _change(root, "sample_data", lambda rows: [r | {side: value} if r["fileformat"] == "jpg" else r for r in rows])
    assert f"no usable {side}" in _refused_tables(root, root / VERSION / "sample_data.json")


@pytest.mark.parametrize("text", ["{}", "[1]", "null", '[{"name": "x"}]', '[{"token": ["a"]}]'])
@pytest.mark.parametrize("table", ["scene", "ego_pose", "panoptic"])
def test_a_table_that_is_not_rows_with_tokens(root, table, text):
    (root / VERSION / f"{table}.json").write_text(text)
    _refused_tables(root, root / VERSION / f"{table}.json")


@pytest.mark.parametrize(
    ("table", "column"),
    [("scene", "name"), ("sample", "timestamp"), ("sample_data", "filename"), ("calibrated_sensor", "sensor_token")],
)
def test_a_table_without_a_column_that_is_read(root, table, column):
    _change(root, table, lambda rows: [*rows[:-1], {k: v for k, v in rows[-1].items() if k != column}])
    assert f"no usable {column}" in _refused_tables(root, root / VERSION / f"{table}.json")


@pytest.mark.parametrize("table", ["sample_data", "ego_pose", "scene", "panoptic", "sensor"])
def test_a_token_that_occurs_twice(root, table):
    """As in tables that were joined; the devkit silently takes the last."""
    _change(root, table, lambda rows: [*rows, rows[0] | {"note": "another"}])
    rows = json.loads((root / VERSION / f"{table}.json").read_text())
    message = _refused_tables(root, root / VERSION / f"{table}.json")
    assert f"1 tokens twice, the first is {rows[0]['token']}" in message


@pytest.mark.parametrize("value", [None, [], {"a": 1}, 10**400, "x"], ids=["null", "list", "object", "huge", "text"])
def test_no_value_of_any_column_ends_in_a_traceback(root, value):
    """What is not read may be anything; the rest is refused."""
    for path in sorted((root / VERSION).glob("*.json")):
        text = path.read_text()
        rows = json.loads(text)
        for column in rows[0] if isinstance(rows, list) and rows else ():
            path.write_text(json.dumps([rows[0] | {column: value}, *rows[1:]]))
            with suppress(DatasetError):
                nuscenes.frames(root, VERSION, ("train",))
        path.write_text(text)


def test_byte_order_marks_and_line_ends_of_windows(root, mini_nuscenes):
    for path in (root / VERSION).glob("*.json"):
        text = json.dumps(json.loads(path.read_text()), indent=1).replace("\n", "\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    read, plain = (nuscenes.frames(r, VERSION, ("train", "val")) for r in (root, mini_nuscenes))
    assert [frame.token for frame in read] == [frame.token for frame in plain]


def test_a_table_in_utf_16(root):
    path = root / VERSION / "scene.json"
    path.write_bytes(path.read_text().encode("utf-16"))
    assert "not UTF-8" in _refused_tables(root, path)


def test_the_line_of_a_fault_is_named(root):
    path = root / VERSION / "ego_pose.json"
    lines = json.dumps(json.loads(path.read_text()), indent=0).split("\n")
    number = next(n for n, line in enumerate(lines) if n > 60 and ":" in line)
    lines[number] = lines[number].replace(":", ";")
    path.write_text("\n".join(lines))
    assert f"not JSON: Expecting ':' delimiter, line {number + 1}" in _refused_tables(root, path)


def test_two_key_frames_of_one_sensor(root):
    """The devkit silently takes the last."""
    _change(root, "sample_data", lambda rows: [*rows, rows[0] | {"token": "another"}])
    assert "two key frames of LIDAR_TOP" in _refused_tables(root, root / VERSION / "sample_data.json")


def test_categories_in_another_order(root):
    """Labels would mean something else."""

    def swap(rows):
        return [row | {"index": {17: 23, 23: 17}.get(row["index"], row["index"])} for row in rows]

    _change(root, "category", swap)
    message = _refused_tables(root, root / VERSION / "category.json")
    assert "category 23 is 'vehicle.car', in nuScenes it is 'vehicle.truck'" in message


# splits


def test_unknown_split(root):
    message = _refused(DatasetError, root / VERSION / "splits.json", nuscenes.frames, root, VERSION, ("training",))
    assert "'training'" in message
    names = message.rpartition(": ")[2].split(", ")
    assert "mini_train" in names
    assert len(names) == len(set(names)), "a split of splits.json that is official too is named once"


def test_split_without_a_present_scene(root):
    # official and custom
    message = _refused(DatasetError, root / VERSION, nuscenes.frames, root, VERSION, ("mini_val",))
    assert "'mini_val'" in message
    splits = root / VERSION / "splits.json"
    splits.write_text('{"train": []}')
    assert "none of the 0 scenes of split 'train'" in _refused_tables(root, splits)


@pytest.mark.parametrize("text", ["[]", '{"train": "mini-0001"}', '{"train": [["mini-0001"]]}', "{"])
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
    assert "does not exist" in _refused_frame(frame, frame.points_path, nuscenes.points)


def test_truncated_points(frame):
    path = Path(frame.points_path)
    path.write_bytes(path.read_bytes()[:-7])
    assert "cut off: 7993 bytes" in _refused_frame(frame, frame.points_path, nuscenes.points)


def test_no_points(frame):
    Path(frame.points_path).write_bytes(b"")
    assert "empty" in _refused_frame(frame, frame.points_path, nuscenes.points)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 2, 3])
def test_points_that_are_not_finite(frame, column, value):
    def change(rows):
        rows[[17, 30], column] = value
        return rows

    _write_points(frame, change)
    message = _refused_frame(frame, frame.points_path, nuscenes.points)
    assert "2 of 400 points" in message
    assert "point 17" in message


def _scan(points, columns):
    """As KITTI writes one: x, y, z, reflectance 0..1, and whatever else."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.uniform(-70, 70, (points, 3)), rng.integers(0, 100, points) / 100])
    return np.pad(rows, ((0, 0), (0, columns - 4))).astype(np.float32)


@pytest.mark.parametrize("points", [400, 401, 402, 403, 404])  # 400: also a whole number of rows of five
def test_a_kitti_scan(frame, points):
    _scan(points, 4).tofile(frame.points_path)
    message = _refused_frame(frame, frame.points_path, nuscenes.points)
    assert "4 columns of float32, a KITTI scan" in message


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (4, 3.5, "no ring in their last column, but 3.5"),
        (4, -1, "no ring"),
        (4, 1.6e9, "no ring"),
        (3, -2, "intensities outside 0..255: -2 to"),
        (3, 4095, "intensities outside 0..255: 0 to 4095"),
    ],
)
def test_rows_that_are_not_those_of_nuscenes(frame, column, value, words):
    def change(rows):
        rows[7, column] = value
        return rows

    _write_points(frame, change)
    message = _refused_frame(frame, frame.points_path, nuscenes.points)
    assert words in message
    assert "1 of 400 points" in message


def test_intensities_of_another_scale(frame):
    _scan(400, 5).tofile(frame.points_path)
    assert "they are of 0..1, expected 0..255" in _refused_frame(frame, frame.points_path, nuscenes.points)


def test_a_dark_sweep_and_one_without_rings_are_read(frame):
    """Zeros are what recordings without the column have."""
    _write_points(frame, lambda rows: rows * np.float32([1, 1, 1, 0, 0]))
    assert nuscenes.points(frame).intensity.max() == 0


def test_a_download_that_never_got_to_its_end(frame):
    """Some tools make the file in full length first and fill it then."""
    rows = np.fromfile(frame.points_path, np.float32).reshape(-1, 5)
    np.concatenate([rows, np.zeros((205, 5), np.float32)]).tofile(frame.points_path)
    assert "ends in zeros" in _refused_frame(frame, frame.points_path, nuscenes.points)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8000\n", "git lfs pull"),
        (b"# .PCD v0.7 - Point Cloud Data file format\n", "a PCD file"),
        (b"<!DOCTYPE html><html>403</html>", "a web page"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ", "a `._` file of macOS"),
    ],
)
def test_something_else_where_a_file_should_be(frame, content, words):
    camera = frame.cameras[0]
    for path in (frame.points_path, frame.labels_path, camera.image_path):
        Path(path).write_bytes(content)
    assert words in _refused_frame(frame, frame.points_path, nuscenes.points)
    assert words in _refused_frame(frame, frame.labels_path, nuscenes.labels)
    assert words in _refused(FrameError, camera.image_path, nuscenes.image, camera)


def test_real_sweeps_are_not_mistaken(real_nuscenes):
    """Nor a real KITTI scan for one of nuScenes, whatever its length."""
    (frame,) = nuscenes.frames(real_nuscenes, VERSION, ("train",))
    assert len(nuscenes.points(frame)) == 34_688
    for scan in sorted(real_nuscenes.parent.glob("*/sequences/*/velodyne/*.bin"))[:4]:
        with pytest.raises(FrameError, match="a KITTI scan"):
            nuscenes.points(replace(frame, points_path=str(scan)))


def test_a_folder_where_points_should_be(frame):
    path = Path(frame.points_path)
    path.unlink()
    path.mkdir()
    _refused_frame(frame, path, nuscenes.points)


# label files


def test_missing_labels(frame):
    Path(frame.labels_path).unlink()
    assert "does not exist" in _refused_frame(frame, frame.labels_path, nuscenes.labels)


def test_truncated_labels(frame):
    path = Path(frame.labels_path)
    path.write_bytes(path.read_bytes()[:-40])
    _refused_frame(frame, path, nuscenes.labels)


def test_flipped_byte_in_labels(frame):
    path = Path(frame.labels_path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(bytes(raw))
    _refused_frame(frame, path, nuscenes.labels)


def test_pickled_labels_are_never_loaded(frame):
    np.savez(frame.labels_path, data=np.array([{"a": 1}], dtype=object))
    assert "allow_pickle=False" in _refused_frame(frame, frame.labels_path, nuscenes.labels)
    Path(frame.labels_path).write_bytes(b"not an archive")
    _refused_frame(frame, frame.labels_path, nuscenes.labels)
    with Path(frame.labels_path).open("wb") as file:
        np.save(file, np.zeros(400, np.uint16))  # a bare array where an archive should be
    _refused_frame(frame, frame.labels_path, nuscenes.labels)


def test_labels_under_another_key_or_of_another_type(frame):
    np.savez(frame.labels_path, labels=np.zeros(400, np.uint16))
    _refused_frame(frame, frame.labels_path, nuscenes.labels)
    np.savez(frame.labels_path, data=np.zeros(400, np.int64))
    assert "int64" in _refused_frame(frame, frame.labels_path, nuscenes.labels)


def test_more_labels_than_points(frame):
    np.savez(frame.labels_path, data=np.zeros(401, np.uint16))
    message = _refused_frame(frame, frame.labels_path, nuscenes.labels)
    assert "401 labels for 400 points" in message
    assert frame.points_path in message


def test_labels_that_unpack_to_a_giant(frame):
    with (
        zipfile.ZipFile(frame.labels_path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("data.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": (40_000_000,)})
        for _ in range(80):
            file.write(bytes(1_000_000))
    assert Path(frame.labels_path).stat().st_size < 200_000
    assert "no sweep has so many labels" in _refused_frame(frame, frame.labels_path, nuscenes.labels)


def test_label_of_no_class(frame):
    np.savez(frame.labels_path, data=np.full(400, 32_000, np.uint16))
    assert "class 32" in _refused_frame(frame, frame.labels_path, nuscenes.labels)
    np.savez(frame.labels_path, data=np.full(400, 31_999, np.uint16))
    assert nuscenes.labels(frame).max() == 31_999


def test_frame_error_does_not_need_the_tables(frame):
    with pytest.raises(FrameError, match="somewhere/else"):
        nuscenes.points(replace(frame, points_path="/somewhere/else.pcd.bin"))
