"""Recordings of one's own: each format of points gives the same points, each way to say a calibration the same."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from ovps import datasets
from ovps.datasets.folder.calibration import Calibration, load_calibration
from ovps.datasets.folder.layout import find_scenes
from ovps.datasets.folder.undistort import odd_lens, pinhole, undistort
from ovps.errors import DatasetError, FrameError
from ovps.geometry.projection import project
from ovps.geometry.transforms import inverse
from pipelines.recording_findings import odd_points
from tests.helpers.recording import (
    CAMERA_FROM_LIDAR,
    HEIGHT,
    WIDTH,
    calibration,
    image_of,
    rows_of,
    write_calibration,
    write_labels,
    write_readings,
    write_recording,
    write_taxonomy,
    xyz_of,
)
from tests.helpers.spinning import spinning_sweep


def frames_of(root, subsets=("val",)):
    data = datasets.at("folder", root)
    return data, data.frames(root, "1", subsets)


def structured(rows, pad=True):
    names = ["x", "y", "z", "intensity"]
    types = [(name, "<f4") for name in names] + ([("ring", "<u2")] if pad else [])
    array = np.zeros(len(rows), types)
    for place, name in enumerate(names):
        array[name] = rows[:, place]
    return array


def write_pcd(path, rows, encoding):
    from pypcd4 import Encoding, PointCloud

    fields = ("x", "y", "z", "intensity", "ring")
    types = (np.float32, np.float32, np.float32, np.float32, np.uint16)
    columns = [*rows.T, np.arange(len(rows)) % 32]
    PointCloud.from_points([c.astype(t) for c, t in zip(columns, types, strict=True)], fields, types).save(
        path, encoding=Encoding(encoding)
    )


def write_pcd_in_capitals(path, rows):
    write_pcd(path, rows, "binary")
    path.write_bytes(path.read_bytes().replace(b"FIELDS x y z", b"FIELDS X Y Z"))


def write_padded_pcd(path, rows):
    """As PCL writes PointXYZI: padding fields between what is meant."""
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z _ intensity _\nSIZE 4 4 4 1 4 1\n"
        f"TYPE F F F U F U\nCOUNT 1 1 1 4 1 12\nWIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {len(rows)}\nDATA binary\n"
    )
    body = np.zeros(len(rows), [("xyz", "<f4", 3), ("a", "u1", 4), ("i", "<f4"), ("b", "u1", 12)])
    body["xyz"], body["i"], body["a"], body["b"] = rows[:, :3], rows[:, 3], 7, 9
    path.write_bytes(header.encode() + body.tobytes())


def write_ply(path, rows, text):
    from plyfile import PlyData, PlyElement

    PlyData([PlyElement.describe(structured(rows), "vertex")], text=text).write(str(path))


WRITERS = {
    ".bin": lambda path, rows: path.write_bytes(rows.tobytes()),
    ".npy": np.save,
    "structured.npy": lambda path, rows: np.save(path, structured(rows)),
    ".npz": lambda path, rows: np.savez_compressed(path, data=rows.astype(np.float64)),
    "columns.npz": lambda path, rows: np.savez(path, x=rows[:, 0], y=rows[:, 1], z=rows[:, 2], intensity=rows[:, 3]),
    "ascii.pcd": lambda path, rows: write_pcd(path, rows, "ascii"),
    "binary.pcd": lambda path, rows: write_pcd(path, rows, "binary"),
    "compressed.pcd": lambda path, rows: write_pcd(path, rows, "binary_compressed"),
    "capitals.npz": lambda path, rows: np.savez(path, X=rows[:, 0], Y=rows[:, 1], Z=rows[:, 2], intensity=rows[:, 3]),
    "capitals.pcd": write_pcd_in_capitals,
    "padded.pcd": write_padded_pcd,
    "text.ply": lambda path, rows: write_ply(path, rows, True),
    "binary.ply": lambda path, rows: write_ply(path, rows, False),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_points(kind, tmp_path):
    root = write_recording(tmp_path / "drive")
    for number, file in enumerate(sorted((root / "points").iterdir())):
        file.unlink()
        WRITERS[kind](file.with_suffix("." + kind.rpartition(".")[2]), rows_of(number))
    data, frames = frames_of(root)
    assert [frame.token for frame in frames] == ["drive.000", "drive.001"]
    for number, frame in enumerate(frames):
        cloud = data.points(frame)
        assert (cloud.xyz.dtype, cloud.intensity.dtype) == (np.float32, np.float32)
        np.testing.assert_allclose(cloud.xyz, xyz_of(number), atol=1e-4)
        np.testing.assert_allclose(cloud.intensity, np.linspace(0, 1, len(cloud)), atol=1e-5)


def test_points_that_are_python_objects_are_told_as_that(tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    (file,) = (root / "points").iterdir()
    file.unlink()
    for suffix, save in ((".npy", np.save), (".npz", np.savez)):
        path = file.with_suffix(suffix)
        save(path, np.array(rows_of(0).tolist(), object))
        data, (frame,) = frames_of(root)
        with pytest.raises(FrameError, match="it holds Python objects") as error:
            data.points(frame)
        assert "numpy.array(rows" in (error.value.remedy or "")
        path.unlink()


def test_a_text_pcd_that_is_damaged_is_told_in_our_words(tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    (file,) = (root / "points").iterdir()
    file.unlink()
    path = file.with_suffix(".pcd")
    write_pcd(path, rows_of(0), "ascii")
    whole = path.read_bytes()
    count = len(rows_of(0))
    start = whole.index(b"DATA ascii\n") + len(b"DATA ascii\n")
    header, body = whole[:start], whole[start:]
    for content, says in (
        (whole.rstrip().rpartition(b" ")[0], f"it is cut off: point {count - 1} has 4 values, expected 5"),
        (whole.rstrip().rpartition(b"\n")[0], f"it is cut off: {count - 1} of {count} points"),
        (whole + b"1 2 3 4 5\n", f"it has {count + 1} rows, and its header says {count} points"),
        (header + body.replace(b" ", b" 7 ", 1), "point 0 has 6 values, expected 5"),
        (whole.replace(b"TYPE F", b"TYPE X"), "its header has no TYPE, or none as it can be"),
        (re.sub(rb"POINTS \d+\n", b"", whole), "its header has no POINTS, or none as it can be"),
        (whole.replace(b"SIZE 4", b"SIZE 3"), "its header has no SIZE, TYPE and COUNT that go together"),
    ):
        path.write_bytes(content)
        data, (frame,) = frames_of(root)
        with pytest.raises(FrameError, match="the point file cannot be read: ") as error:
            data.points(frame)
        assert f"cannot be read: {says}" in error.value.message
        assert not re.search("usecols|https:", error.value.message)
    path.write_bytes(header + body.replace(b" ", b"  ").replace(b"\n", b" \n"))
    data, (frame,) = frames_of(root)
    assert len(data.points(frame)) == count, "spaces more are no fault"


_SENSORS = (("lidar", "points", "bin"), ("front", "images/front", "png"))


def test_labels_where_a_table_names_the_sweeps_are_named_after_it(tmp_path):
    root = write_recording(tmp_path / "rec", frames=2)
    lines = [f"s{n},{s},{folder}/{n:03d}.{ending},{n * 100_000}" for n in range(2) for s, folder, ending in _SENSORS]
    write_readings(root, ["sweep,sensor,file,time_us", *lines])
    write_taxonomy(root, {10: 1})
    write_labels(root, 1, np.full(len(rows_of(1)), 10_000, np.int64))
    with pytest.raises(DatasetError, match=r"labels of no sweep .*001.npy.*column `sweep` of .*readings.csv: s1.npy"):
        frames_of(root)
    (root / "labels/001.npy").rename(root / "labels/s1.npy")
    data, frames = frames_of(root)
    assert [data.labels(frame) is not None for frame in frames] == [False, True]


def test_points_and_images_arrive_as_they_are(tmp_path):
    data, frames = frames_of(write_recording(tmp_path / "a b=c é", frames=3))
    assert (len(frames), data.taxonomy.name, data.labels(frames[0])) == (3, "street", None)
    (camera,) = frames[1].cameras
    np.testing.assert_array_equal(camera.camera_from_lidar, CAMERA_FROM_LIDAR)
    np.testing.assert_array_equal(data.image(camera), image_of(1))
    assert [f.timestamp_us for f in frames] == [0, 100_000, 200_000]
    again = pickle.loads(pickle.dumps(frames[1]))  # as workers get them
    np.testing.assert_array_equal(data.image(again.cameras[0]), image_of(1))


def test_images_that_a_camera_dropped_leave_out_the_camera_or_the_sweep(tmp_path):
    root = write_recording(tmp_path / "rec", frames=5)
    content = calibration()
    content["cameras"]["left"] = content["cameras"]["front"]
    content["transforms"].append(content["transforms"][0] | {"to": "left"})
    write_calibration(root, content)
    shutil.copytree(root / "images" / "front", root / "images" / "left")
    for camera, number in (("front", 1), ("front", 3), ("left", 3)):
        (root / "images" / camera / f"{number:03d}.png").unlink()
    folder = datasets.at("folder", root)
    frames = folder.frames(root, "1", ("val",))
    seen = {frame.index: [camera.channel for camera in frame.cameras] for frame in frames}
    assert seen == {0: ["front", "left"], 1: ["left"], 2: ["front", "left"], 4: ["front", "left"]}
    assert [frame.timestamp_us for frame in frames] == [0, 100_000, 200_000, 400_000], "time goes on without it"
    told = folder.warnings(root, frames)
    (bare,) = [text for text in told if "no frame" in text]
    assert bare == f"1 sweep without an image, used as no frame: the first is {root / 'points' / '003.bin'}"
    (without,) = [text for text in told if "without it" in text]
    assert without.startswith("1 sweep without an image of front, used without it: the first is ")
    assert without.endswith("images/front/001")
    (root / "images" / "front" / "000.png").unlink()
    with pytest.raises(DatasetError, match=r"3 of 5 sweeps have no image of front, the first is 000"):
        folder.frames(root, "1", ("val",))


def test_a_camera_of_the_calibration_without_an_image_is_told(tmp_path):
    root = write_recording(tmp_path / "rec", frames=2)
    content = calibration()
    content["cameras"]["left"] = content["cameras"]["front"]
    content["transforms"].append(content["transforms"][0] | {"to": "left"})
    write_calibration(root, content)
    folder = datasets.at("folder", root)
    for readings in (False, True):
        if readings:
            lines = [f"{n},{s},{f}/00{n}.{e},{n}" for n in (0, 1) for s, f, e in _SENSORS]
            write_readings(root, ["sweep,sensor,file,time_us", *lines])
        told = [w for w in folder.warnings(root, folder.frames(root, "1", ("val",))) if "image" in w]
        assert told == ["no sweep of rec has an image of left, which the calibration file describes"]


def test_a_scene_without_images_leaves_the_others_as_they_are(tmp_path):
    root = write_recording(tmp_path / "rec", scene="a", frames=2)
    shutil.copytree(root / "a", root / "b")
    shutil.rmtree(root / "a" / "images")
    folder = datasets.at("folder", root)
    frames = folder.frames(root, "1", ("val",))
    assert [frame.token for frame in frames] == ["b.000", "b.001"]
    points = root / "a" / "points"
    assert folder.unseen(root) == {"a.000": points / "000.bin", "a.001": points / "001.bin"}
    told = folder.warnings(root, frames)
    assert told == [f"2 sweeps without an image, used as no frame: the first is {root / 'a' / 'points' / '000.bin'}"]
    shutil.rmtree(root / "b" / "images")
    with pytest.raises(DatasetError, match="scene a has no images: CLIP sees nothing without"):
        folder.frames(root, "1", ("val",))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tiff", ".webp", ".gif", ".ppm", ".JPEG"])
def test_images_of_any_format_are_read(suffix, tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    (file,) = (root / "images" / "front").iterdir()
    Image.new("RGB", (WIDTH, HEIGHT), (200, 30, 60)).save(file.with_suffix(suffix))
    file.unlink()
    data, (frame,) = frames_of(root)
    assert np.abs(data.image(frame.cameras[0]).astype(int) - (200, 30, 60)).max() < 12


@settings(max_examples=30, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    shift=st.tuples(*[st.floats(-3, 3)] * 3),
    way=st.sampled_from(["matrix", "quaternion", "rotation matrix", "inverse", "through the vehicle"]),
)
def test_every_way_to_say_a_transform_means_the_same(angles, shift, way):
    pose = np.eye(4)  # lidar_from_front
    pose[:3, :3], pose[:3, 3] = Rotation.from_euler("xyz", angles).as_matrix(), shift
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    named = {"from": "front", "to": "lidar", "translation": list(shift)}
    transforms = {
        "matrix": [{"from": "front", "to": "lidar", "matrix": pose.tolist()}],
        "quaternion": [named | {"rotation_wxyz": [w, x, y, z]}],
        "rotation matrix": [named | {"rotation_matrix": pose[:3, :3].tolist()}],
        "inverse": [{"from": "lidar", "to": "front", "matrix": inverse(pose).tolist()}],
        "through the vehicle": [
            {"from": "lidar", "to": "vehicle", "translation": [0, 0, 1.8], "rotation_wxyz": [1, 0, 0, 0]},
            {"from": "front", "to": "vehicle", "matrix": (shifted(1.8) @ pose).tolist()},
        ],
    }[way]
    read = Calibration.model_validate(calibration() | {"transforms": transforms})
    np.testing.assert_allclose(read.between("front", "lidar"), pose, atol=1e-9)
    np.testing.assert_allclose(read.between("lidar", "front"), np.linalg.inv(pose), atol=1e-9)


def shifted(height):
    matrix = np.eye(4)
    matrix[2, 3] = height
    return matrix


def test_yaml_and_json_say_the_same(tmp_path):
    write_calibration(tmp_path, calibration())
    (tmp_path / "calibration.json").write_text("\ufeff" + json.dumps(calibration()), encoding="utf-8")
    assert load_calibration(tmp_path / "calibration.yaml") == load_calibration(tmp_path / "calibration.json")


def test_points_in_the_vehicle_frame_are_brought_to_the_lidar(tmp_path):
    lift = {"from": "lidar", "to": "vehicle", "translation": [0.5, 0, 1.8], "rotation_wxyz": [1, 0, 0, 0]}
    points = calibration()["points"] | {"frame": "vehicle", "into": "lidar"}
    changed = {"points": points, "transforms": [*calibration()["transforms"], lift]}
    data, frames = frames_of(write_recording(tmp_path / "drive", changed=changed))
    np.testing.assert_allclose(data.points(frames[0]).xyz, xyz_of(0) - (0.5, 0, 1.8), atol=1e-4)
    np.testing.assert_allclose(frames[0].cameras[0].camera_from_lidar, CAMERA_FROM_LIDAR)


@pytest.mark.parametrize("poses_of", ["vehicle", "sensor", "lidar"])
def test_poses_carry_points_to_where_the_camera_is_later(poses_of, tmp_path):
    """The car drives 1 m between sweep and image, and turns: a point of the world falls where the camera is then."""
    vehicle_from_lidar = shifted(1.8)
    vehicle_from_camera = vehicle_from_lidar @ inverse(CAMERA_FROM_LIDAR)
    transforms = [
        *calibration()["transforms"],
        {"from": "lidar", "to": "vehicle", "matrix": vehicle_from_lidar.tolist()},
    ]
    root = write_recording(tmp_path / "drive", frames=1, changed={"poses_of": poses_of, "transforms": transforms})
    world = [np.eye(4), np.eye(4)]  # of the vehicle at the sweep, and at the image
    world[0][:3, 3] = 100, 50, 3
    world[1][:3, :3], world[1][:3, 3] = Rotation.from_euler("z", 0.1).as_matrix(), (101, 50.2, 3)
    of = {"vehicle": (np.eye(4), np.eye(4)), "lidar": (vehicle_from_lidar, vehicle_from_lidar)}
    mounts = of.get(poses_of, (vehicle_from_lidar, vehicle_from_camera))
    lines = ["sweep,sensor,file,time_us,x,y,z,qw,qx,qy,qz"]
    for sensor, file, time, pose in (
        ("lidar", "points/000.bin", 5_000_000, world[0] @ mounts[0]),
        ("front", "images/front/000.png", 5_040_000, world[1] @ mounts[1]),
    ):
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        lines.append(",".join(map(str, ("000", sensor, file, time, *pose[:3, 3], w, x, y, z))))
    write_readings(root, lines)
    _, (frame,) = frames_of(root)
    (camera,) = frame.cameras
    expected = np.linalg.inv(world[1] @ vehicle_from_camera) @ world[0] @ vehicle_from_lidar
    np.testing.assert_allclose(camera.camera_from_lidar, expected, atol=1e-9)
    np.testing.assert_allclose(frame.global_from_lidar, world[0] @ vehicle_from_lidar, atol=1e-9)
    assert (frame.timestamp_us, camera.timestamp_us) == (5_000_000, 5_040_000)


def test_a_table_matches_what_names_do_not_and_may_leave_cameras_out(tmp_path):
    root = write_recording(tmp_path / "drive", frames=2)
    write_readings(
        root,
        [
            "sweep,sensor,file,time_us",
            "later,lidar,points/000.bin,900",
            "early,lidar,points/001.bin,100",
            "later,front,images/front/000.png,920",
        ],
    )
    text = (root / "readings.csv").read_bytes()
    (root / "readings.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    _, frames = frames_of(root)
    assert [(f.token, len(f.cameras), f.index) for f in frames] == [("drive.later", 1, 1)], "early is seen by none"
    assert frames[0].cameras[0].image_path.endswith("000.png")


def test_a_table_without_times_is_in_the_order_of_its_lines(tmp_path):
    root = write_recording(tmp_path / "drive", frames=3)
    lines = [(name, sensor) for name in (2, 0, 1) for sensor in ("front", "lidar")]
    files = {"front": "images/front/{:03d}.png", "lidar": "points/{:03d}.bin"}
    write_readings(root, ["sweep,sensor,file,time_us", *(f"s{n},{s},{files[s].format(n)}," for n, s in lines)])
    _, frames = frames_of(root)
    assert [f.points_path[-7:] for f in frames] == ["002.bin", "000.bin", "001.bin"]
    times = [f.timestamp_us for f in frames]
    assert times == sorted(set(times))
    assert all(f.cameras[0].timestamp_us == f.timestamp_us for f in frames)
    table = (root / "readings.csv").read_text()
    (root / "readings.csv").write_text(table.replace("points/000.bin,", "points/000.bin,7"))
    with pytest.raises(DatasetError, match=r"line \d: some lines have a time_us.*Give each its time, or none"):
        frames_of(root)
    (root / "readings.csv").write_text(table.replace("time_us\n", "time_us,\n", 1))
    with pytest.raises(DatasetError, match=r"lack nothing, others: '' .*or a comma at its end"):
        frames_of(root)


def test_scenes_have_splits_and_may_have_a_calibration_of_their_own(tmp_path):
    root = tmp_path / "recordings"
    for scene in ("monday", "tuesday", "wednesday"):
        write_recording(root, frames=1, scene=scene, changed={"splits": {"train": ["tuesday"]}})
    other = calibration()
    other["cameras"]["front"]["fx"] = 70.0
    write_calibration(root / "wednesday", other)
    data, frames = frames_of(root)
    assert [f.scene for f in frames] == ["monday", "wednesday"]
    assert [f.cameras[0].intrinsics[0, 0] for f in frames] == [60.0, 70.0]
    assert [f.scene for f in frames_of(root, ("train",))[1]] == ["tuesday"]
    assert data.subsets(root) == ("train", "val")


def test_splits_of_the_recording_hold_for_scenes_with_a_calibration_of_their_own(tmp_path):
    root = tmp_path / "recordings"
    for scene in ("monday", "tuesday"):
        write_recording(root, frames=1, scene=scene, changed={"splits": {"train": ["tuesday"]}})
    write_calibration(root / "tuesday", calibration())
    data, frames = frames_of(root, ("train",))
    assert [f.scene for f in frames] == ["tuesday"]
    write_calibration(root / "monday", calibration())  # now nobody is calibrated by the recording's own file
    assert [f.scene for f in frames_of(root, ("train",))[1]] == ["tuesday"]
    assert data.subsets(root) == ("train", "val")
    write_calibration(root / "tuesday", calibration() | {"splits": {"test": ["tuesday"]}})
    with pytest.raises(DatasetError, match=r"put tuesday in test, those of .*recordings/calibration.* in train"):
        frames_of(root)


@pytest.mark.parametrize("order", [("val", "train"), ("train", "val")])
def test_a_scene_in_two_splits_is_refused(tmp_path, order):
    """It would be in the one that stands first in the file: training frames among those that are scored."""
    root = tmp_path / "recordings"
    splits = {split: {"train": ["monday", "tuesday"], "val": ["tuesday"]}[split] for split in order}
    for scene in ("monday", "tuesday"):
        write_recording(root, frames=1, scene=scene, changed={"splits": splits})
    with pytest.raises(DatasetError, match=rf"scene tuesday in two splits, {order[0]} and {order[1]}.*Take it out"):
        frames_of(root)
    write_calibration(root, calibration() | {"splits": splits | {"val": []}})
    assert [f.scene for f in frames_of(root, ("train", "val"))[1]] == ["monday", "tuesday"]


def test_splits_in_the_file_of_a_scene_hold_for_the_others_it_names(tmp_path):
    root = tmp_path / "recordings"
    for scene in ("monday", "tuesday"):
        write_recording(root, frames=1, scene=scene)
    write_calibration(root / "monday", calibration() | {"splits": {"train": ["monday", "tuesday"]}})
    assert [f.scene for f in frames_of(root, ("train",))[1]] == ["monday", "tuesday"]
    write_calibration(root / "tuesday", calibration() | {"splits": {"val": ["tuesday"]}})
    with pytest.raises(DatasetError, match=r"put tuesday in val, those of .*monday/calibration.* in train"):
        frames_of(root)


def test_scenes_of_a_split_of_another_name_are_told(tmp_path):
    root = tmp_path / "recordings"
    for scene in ("monday", "tuesday"):
        write_recording(root, frames=1, scene=scene, changed={"splits": {"training": ["tuesday"]}})
    data, frames = frames_of(root, ("train", "val"))
    assert [f.scene for f in frames] == ["monday"]
    assert data.warnings(root, frames) == [
        "split training was not asked for, which has tuesday: `ovps precompute --split training` takes it"
    ]
    _, frames = frames_of(root, ("training", "val"))
    assert data.warnings(root, frames) == []


TAXONOMY = {
    "name": "balls",
    "min_points": 3,
    "instance_divisor": 1000,
    "classes": [
        {"id": 1, "name": "ball", "kind": "thing", "color": [255, 0, 0], "synonyms": ["ball"]},
        {"id": 2, "name": "floor", "kind": "stuff", "color": [0, 255, 0], "synonyms": ["floor"]},
    ],
    "raw_to_id": {1: 1, 2: 2},
}


@pytest.mark.parametrize(("suffix", "dtype"), [(".npy", np.uint16), (".npz", np.int64), (".npy", np.uint32)])
def test_labels_are_read_by_a_taxonomy_of_ones_own(suffix, dtype, tmp_path):
    root = write_recording(tmp_path / "drive")
    (root / "taxonomy.yaml").write_text(yaml.safe_dump(TAXONOMY))
    (root / "labels").mkdir()
    label = np.where(np.arange(len(rows_of(1))) < 216, 1001, 2000).astype(dtype)
    write = np.save if suffix == ".npy" else np.savez_compressed
    write(root / "labels" / f"001{suffix}", label)
    data, frames = frames_of(root)
    assert data.taxonomy.name == "balls"
    assert data.labels(frames[0]) is None
    found = data.labels(frames[1])
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, label)
    (root / "taxonomy.yaml").write_text("name: x")
    with pytest.raises(DatasetError, match=r"not a valid taxonomy.*or take it out of the recording") as caught:
        frames_of(root)
    assert caught.value.exit_code == 3


def test_points_without_a_return_are_dropped_with_their_labels_where_that_is_asked_for(tmp_path):
    points = calibration()["points"] | {"invalid": "drop"}
    root = write_recording(tmp_path / "drive", frames=1, changed={"points": points})
    rows = rows_of(0)
    rows[5, 0], rows[9, :3], rows[11, 1] = np.nan, 0, np.inf
    (root / "points" / "000.bin").write_bytes(rows.tobytes())
    (root / "taxonomy.yaml").write_text(yaml.safe_dump(TAXONOMY))
    (root / "labels").mkdir()
    np.save(root / "labels" / "000.npy", np.arange(len(rows), dtype=np.uint32))
    data, (frame,) = frames_of(root)
    kept = np.delete(np.arange(len(rows)), [5, 9, 11])
    np.testing.assert_array_equal(data.labels(frame), kept)
    np.testing.assert_array_equal(data.points(frame).xyz, rows[kept, :3])


@pytest.mark.parametrize(
    ("change", "points"),
    [
        (lambda rows: None, {}),  # a third of the rows at (0, 0, 0)
        (lambda rows: np.put(rows, 0, np.nan), {"columns": ["x", "y", "z", "intensity", "ring"]}),
        (lambda rows: None, {"columns": ["x", "y", "z", "a", "b", "intensity"], "invalid": "drop"}),
        (lambda rows: None, {"columns": ["x", "y", "z", "intensity", "ring", "time", "echo"]}),  # no such rows
    ],
)
def test_a_file_of_other_columns_is_refused_as_that(change, points, tmp_path):
    """And not with an advice that would let it pass."""
    root = write_recording(tmp_path / "drive", frames=1, changed={"points": {"frame": "lidar"} | points})
    sweep = spinning_sweep(200)
    rows = np.zeros((len(sweep) - len(sweep) % 5, 8), np.float32)  # as PCL writes them
    rows[:, [0, 1, 2, 4]], rows[:, 3] = sweep[: len(rows)], 1
    rows[: len(rows) // 2, 4] = 0
    change(rows)
    (root / "points" / "000.bin").write_bytes(rows.tobytes())
    data, (frame,) = frames_of(root)
    with pytest.raises(FrameError, match="seems to have 8 columns, not") as refused:
        data.points(frame)
    assert "Name all 8 as `columns`" in str(refused.value)
    assert "drop" not in str(refused.value)
    assert data.warnings(root, [frame]) == [str(refused.value)]
    # the remedy works
    columns = ["x", "y", "z", "one", "intensity", "a", "b", "c"]
    write_calibration(root, calibration() | {"points": {"columns": columns, "invalid": "drop"}})
    data, (frame,) = frames_of(root)
    assert data.warnings(root, [frame]) == []
    np.testing.assert_array_equal(data.points(frame).xyz[-3000:], sweep[: len(rows), :3][-3000:])


def test_one_scene_with_other_columns_is_told_where_nothing_else_is_wrong(tmp_path):
    root = tmp_path / "recordings"
    for scene, count in (("monday", 4), ("tuesday", 3)):
        write_recording(root, frames=2, scene=scene, changed={"points": {"columns": ["x", "y", "z"]}})
        for file in (root / scene / "points").iterdir():
            file.write_bytes(spinning_sweep(150)[:, :count].tobytes())
    data, frames = frames_of(root)
    (warning,) = data.warnings(root, frames)
    assert "monday.000" in warning
    assert "seems to have 4 columns, not 3 (x, y, z)" in warning
    assert data.warnings(root, frames[2:]) == []
    assert len(data.points(frames[0]).xyz) == 150 * 16 * 4 // 3, "it is likely, not sure: it is read"


@pytest.mark.parametrize("columns", [["x", "y", "z", "intensity"], ["x", "y", "z", "ring"], ["x", "y", "z"]])
@pytest.mark.parametrize(("written", "named"), [("float64", "float32"), ("float32", "float64")])
def test_numbers_of_another_size_are_named_and_the_remedy_works(columns, written, named, tmp_path):
    how = {"columns": columns, "dtype": named}
    root = write_recording(tmp_path / "drive", frames=1, changed={"points": how})
    sweep = spinning_sweep(200)[:, : len(columns)]
    sweep = np.concatenate([sweep, sweep[: len(sweep) % 2]])  # an even number of rows
    (root / "points" / "000.bin").write_bytes(sweep.astype(written).tobytes())
    data, frames = frames_of(root)
    (warning,) = data.warnings(root, frames)
    assert f"seems to hold {written}, not {named}" in warning
    assert warning.endswith(f"Set `dtype: {written}` under `points` of the calibration file")
    with pytest.raises(FrameError, match=f"seems to hold {written}"):
        data.points(frames[0])
    write_calibration(root, calibration() | {"points": how | {"dtype": written}})
    data, frames = frames_of(root)
    assert data.warnings(root, frames) == []
    np.testing.assert_array_equal(data.points(frames[0]).xyz, sweep[:, :3])


@pytest.mark.parametrize("far", [np.nan, 1e10, -1e10])
def test_a_room_without_returns_is_not_taken_for_numbers_of_another_size(far, tmp_path):
    """Bytes of small numbers make small ones of the other size too."""
    rng = np.random.default_rng(0)
    root = write_recording(tmp_path / "drive", frames=1)
    rows = np.column_stack([rng.uniform(-3, 3, (4000, 3)), rng.uniform(0, 1, 4000)]).astype("<f4")
    rows[::50, 0] = far  # the lower half of a float64
    (root / "points" / "000.bin").write_bytes(rows.tobytes())
    data, frames = frames_of(root)
    assert not any("seems to hold" in warning for warning in data.warnings(root, frames))


@pytest.mark.parametrize("ending", [".bin", ".npy"])
@pytest.mark.parametrize("empty", [256, 700])  # 9 % of the rows, and a quarter
def test_a_copy_that_was_not_finished_is_told(empty, ending, tmp_path):
    """Its end is zeros; pulses without a return are everywhere."""
    rows = np.random.default_rng(0).uniform(1, 20, (2800, 4)).astype(np.float32)
    root = write_recording(tmp_path / "drive", frames=1)
    path = root / "points" / f"000{ending}"
    (root / "points" / "000.bin").unlink()

    def read(rows: np.ndarray) -> int:
        np.save(path, rows) if ending == ".npy" else path.write_bytes(rows.tobytes())
        data, (frame,) = frames_of(root)
        return len(data.points(frame))

    rows[-255:] = 0
    assert read(rows) == len(rows), "no block"
    rows[-empty:] = 0
    with pytest.raises(FrameError, match=f"ends in {empty} of 2800 points that are zeros.*not copied") as caught:
        read(rows)
    assert caught.value.path == str(path)
    write_calibration(root, calibration() | {"points": calibration()["points"] | {"invalid": "drop"}})
    assert read(rows) == len(rows) - empty
    data, (frame,) = frames_of(root)
    cloud = data.points(frame)
    told = odd_points(frame, cloud.xyz, cloud.intensity)["end"]
    assert f"ends in {empty} points of zeros and has no others, which `invalid: drop` leaves out" in told
    write_calibration(root, calibration())
    rows[7] = 0
    if empty == 256:
        assert read(rows) == len(rows)
    else:
        with pytest.raises(FrameError, match=r"701 of 2800 points at \(0, 0, 0\), pulses without a return"):
            read(rows)


@pytest.mark.parametrize("invalid", ["refuse", "drop"])
def test_intensities_that_are_all_nan_are_told_and_the_remedies_work(invalid, tmp_path):
    root = write_recording(tmp_path / "drive", frames=1, changed={"points": {"invalid": invalid}})
    rows = rows_of(0)
    rows[:, 3] = np.nan
    (root / "points" / "000.bin").write_bytes(rows.tobytes())
    data, (frame,) = frames_of(root)
    with pytest.raises(FrameError, match="no valid intensity: it is NaN or infinity in all of"):
        data.points(frame)
    for how in ({"columns": ["x", "y", "z", "unused"]}, {"intensity": "none"}):
        write_calibration(root, calibration() | {"points": {"invalid": invalid} | how})
        data, (frame,) = frames_of(root)
        assert len(data.points(frame)) == len(rows)
        assert not data.points(frame).intensity.any()


HEAD = "sweep,sensor,file,time_us"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["0,front,000,5", "1,front,001,100005"], None),
        (["0,front,000,5", "1,front,000,5"], None),  # of a slow camera
        (["0,front,000,5", "1,front,000,100005"], "images for several times, 1 in all"),
        (["0,front,000,5", "0,left,001,5", "1,front,000,5", "1,left,001,100005"], "images for several times"),
        (["0,front,000,5", "0,left,000,5"], "images for several cameras, 1 in all"),
        (["0,lidar,000,0", "1,lidar,000,100000"], "point files for several sweeps, 1 in all"),
        (["0,lidar,000,", "1,lidar,000,"], "point files for several sweeps, 1 in all"),
        (["0,lidar,000,", "1,lidar,001,", "0,front,000,", "1,front,000,"], None),  # nobody knows the times
    ],
)
def test_files_named_as_if_recorded_more_than_once_are_told(lines, says, tmp_path):
    root = write_recording(tmp_path / "drive")
    left = {"from": "left", "to": "lidar", "translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0]}
    content = calibration()
    content["cameras"]["left"] = content["cameras"]["front"]
    write_calibration(root, content | {"transforms": [*content["transforms"], left]})
    if not any(",lidar," in line for line in lines):
        lines = ["0,lidar,000,0", "1,lidar,001,100000", *lines]
    if not any(",front," in line for line in lines):
        empty = lines[0].endswith(",")
        lines = [*lines, "0,front,000," + "0" * (not empty)]
    table = [HEAD]
    for line in lines:
        sweep, sensor, name, time = line.split(",")
        file = f"points/{name}.bin" if sensor == "lidar" else f"images/front/{name}.png"
        table.append(f"{sweep},{sensor},{file},{time}")
    write_readings(root, table)
    data, frames = frames_of(root)
    found = [warning for warning in data.warnings(root, frames) if "for several" in warning]
    if says is None:
        assert found == []
    else:
        assert says in found[0]
        assert f"000.{'bin' if 'point' in says else 'png'} (" in found[0] or "001.png (" in found[0]


LENSES = {
    "opencv": {"model": "opencv", "distortion": [-0.25, 0.06, 0.002, -0.001, 0.0]},
    "rational": {"model": "opencv", "distortion": [0.3, 0.1, 0.0, 0.001, 0.01, 0.5, 0.2, 0.01]},
    "fisheye": {"model": "fisheye", "distortion": [0.05, -0.01, 0.002, 0.0]},
}


def distort(xyz, camera):
    """The published models by hand: where a point in the camera's frame falls in the stored image, (2,)."""
    x, y = xyz[0] / xyz[2], xyz[1] / xyz[2]
    r2 = x * x + y * y
    d = [*camera["distortion"], 0, 0, 0, 0][:8]
    if camera["model"] == "fisheye":
        r = np.sqrt(r2)
        a = np.arctan(r)
        bent = a * (1 + d[0] * a**2 + d[1] * a**4 + d[2] * a**6 + d[3] * a**8)
        x, y = x * bent / r, y * bent / r
    else:
        radial = (1 + d[0] * r2 + d[1] * r2**2 + d[4] * r2**3) / (1 + d[5] * r2 + d[6] * r2**2 + d[7] * r2**3)
        p1, p2 = d[2:4]
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return camera["fx"] * x + camera["cx"], camera["fy"] * y + camera["cy"]


@pytest.mark.parametrize("name", LENSES)
def test_a_point_falls_on_its_own_pixel_through_a_lens_that_bends(name, tmp_path):
    """A dot is painted where the published model puts a point; the undistorted image has it where the pinhole does."""
    lens = {"width": 960, "height": 640, "fx": 600.0, "fy": 610.0, "cx": 470.0, "cy": 330.0, **LENSES[name]}
    root = write_recording(tmp_path / "drive", frames=1, changed={"cameras": {"front": lens}})
    targets = np.array([[0.3, 0.1, 2.0], [-0.9, 0.5, 2.0], [1.0, -0.6, 2.0], [-0.2, -0.7, 2.0]]) * 3
    for target in targets:
        image = np.zeros((640, 960, 3), np.uint8)
        u, v = distort(target, lens)
        image[round(v) - 3 : round(v) + 4, round(u) - 3 : round(u) + 4] = 255
        Image.fromarray(image).save(root / "images" / "front" / "000.png")
        data, (frame,) = frames_of(root)
        (camera,) = frame.cameras
        flat = data.image(camera)[..., 0].astype(float)
        rows, columns = np.nonzero(flat > 100)
        assert len(rows), "the dot is still in the image"
        in_lidar = inverse(camera.camera_from_lidar) @ [*target, 1]
        (found,) = project(in_lidar[None, :3], camera).uv
        assert np.hypot(columns.mean() - found[0], rows.mean() - found[1]) < 1.5
        assert np.hypot(u - found[0], v - found[1]) > 2, "a lens that does nothing would be no test"


def test_no_pixel_of_an_undistorted_image_is_made_up():
    for lens in LENSES.values():
        content = {"width": 960, "height": 640, "fx": 600, "fy": 610, "cx": 470, "cy": 330} | lens
        camera = Calibration.model_validate(calibration() | {"cameras": {"front": content}}).cameras["front"]
        white = undistort(np.full((640, 960, 3), 255, np.uint8), camera)
        assert white.min() > 250
        assert pinhole(camera)[0] > 0


def test_a_camera_may_be_called_sensor_and_needs_transforms_as_any(tmp_path):
    """As `poses_of` the word has another meaning."""
    cameras = {"sensor": KITTI}
    moved = [{**transform, "to": "sensor"} for transform in calibration()["transforms"]]
    assert Calibration.model_validate(calibration() | {"cameras": cameras, "transforms": moved})
    with pytest.raises(ValidationError, match="no transforms lead from lidar to sensor"):
        Calibration.model_validate(calibration() | {"cameras": cameras})


KITTI = {"width": 1242, "height": 375, "fx": 721.5, "fy": 721.5, "cx": 609.6, "cy": 172.9}


def camera_of(model, distortion, rest=KITTI):
    return Calibration.model_validate(
        calibration() | {"cameras": {"front": rest | {"model": model, "distortion": distortion}}}
    ).cameras["front"]


@pytest.mark.parametrize(
    ("model", "distortion", "says"),
    [
        ("opencv", [-31.0, 0.11, 0, 0], "made up"),  # -0.31
        ("opencv", [-5.0, 0, 0, 0], "folded over itself"),
        ("opencv", [-2.0, 0, 0, 0], "36% of an undistorted image is folded over itself"),
        ("opencv", [-0.31, -11, 0, 0], "folded"),
        ("opencv", [-0.31, 0.11, 0.3, 0], "folded"),  # a radial one where a tangential belongs
        ("opencv", [-0.31, 0.11, 0, 0, -5], "folded"),
        ("fisheye", [50.0, -100, 0, 0], "made up"),
        ("opencv", [31.0, 0, 0, 0], r"shows 0\.2% of the image"),
        ("opencv", [1e308] * 4, "folded"),
        ("fisheye", [1e308] * 4, "no pinhole camera fits"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_lens_that_no_picture_is_left_of_is_refused_by_its_coefficients(model, distortion, says, tmp_path):
    lens = KITTI | {"model": model, "distortion": distortion}
    root = write_recording(tmp_path / "drive", frames=1, changed={"cameras": {"front": lens}})
    with pytest.raises(DatasetError, match=says) as error:
        frames_of(root)
    assert f"camera front: {'' if 'fits' in says else 'by '}" in error.value.message
    assert f"distortion {list(map(float, distortion))} of model {model}" in error.value.message
    assert error.value.path == str(root / "calibration.yaml")


REAL = {  # published, or of the kind; the last two turn back within the corners of the stored image, as fits do
    "kitti raw": (1392, 512, 960, "opencv", [-0.3728755, 0.2037299, 0.002219, 0.001383, -0.07233722]),
    "euroc": (752, 480, 458, "opencv", [-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05]),
    "action camera": (1920, 1080, 940, "opencv", [-0.26, 0.08, 0, 0, -0.011]),
    "kinect": (1280, 720, 605, "opencv", [0.4464, -2.5487, 0.0006, -0.0002, 1.5034, 0.3259, -2.3684, 1.4258]),
    "telephoto": (1920, 1200, 6000, "opencv", [-0.2, 8.0, 0, 0, -100]),
    "fisheye of 195 degrees": (512, 512, 191, "fisheye", [0.0034823894, 0.0007150348, -0.0020532361, 0.00020293673]),
    "surround view": (1280, 966, 339.7, "fisheye", [-0.03, -0.006, 0.002, -0.0003]),
    "fisheye of 220 degrees": (400, 400, 104.2, "fisheye", [0.0, 0, 0, 0]),
    "wide": (1920, 1080, 929, "opencv", [-0.3165, 0.0995, 0.0007, -0.0013, -0.0137]),
    "k1 alone": (1280, 720, 800, "opencv", [-0.3, 0, 0, 0]),
}


@pytest.mark.parametrize("name", REAL)
def test_real_lenses_are_taken_without_a_word(name):
    width, height, focal, model, distortion = REAL[name]
    rest = {"width": width, "height": height, "fx": focal, "fy": focal, "cx": width / 2, "cy": height / 2}
    camera = camera_of(model, distortion, rest)
    assert pinhole(camera)[0] > 0
    assert odd_lens(camera) is None


@pytest.mark.filterwarnings("error")
def test_a_wide_fisheye_that_looks_past_its_image_is_no_camera():
    rest = {"width": 640, "height": 480, "fx": 100, "fy": 100, "cx": -64, "cy": 240}
    with pytest.raises(ValueError, match="no pinhole camera fits"):
        pinhole(camera_of("fisheye", [0, 0, 0, 0], rest))


@pytest.mark.parametrize("width", [400, 711])
@pytest.mark.parametrize("degrees", [150, 180, 200])
def test_a_fisheye_too_wide_for_a_pinhole_keeps_its_middle(width, degrees):
    """By the ideal lens: a ray at the angle t falls f t from the centre, in the image that is made f tan t."""
    focal = width / np.radians(degrees)
    rest = {"width": width, "height": 400, "fx": focal, "fy": focal, "cx": width / 2, "cy": 200}
    camera = camera_of("fisheye", [0, 0, 0, 0], rest)
    fx, fy, cx, cy = pinhole(camera)
    assert np.degrees(np.arctan([cx / fx, cy / fy])).max() < 70.1
    for angle in np.arctan(cx / fx) * np.array([-0.8, -0.4, 0.2, 0.6]):
        image = np.zeros((400, width, 3), np.uint8)
        place = round(width / 2 + focal * angle)
        image[:, place - 2 : place + 3] = 255
        row = undistort(image, camera)[int(cy), :, 0].astype(float)
        assert (row * np.arange(width)).sum() / row.sum() == pytest.approx(cx + fx * np.tan(angle), abs=3)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(("fy", "says"), [(1.0, []), (1.5, ["front has the focal lengths"])])
def test_focal_lengths_are_judged_as_they_are_written(name, fy, says, tmp_path):
    """The pinhole camera that a lens with distortion is brought to may have two, and nobody has written them."""
    width, height, focal, model, distortion = REAL[name]
    rest = {"width": width, "height": height, "fx": focal, "fy": fy * focal, "cx": width / 2, "cy": height / 2}
    lens = rest | {"model": model, "distortion": distortion}
    root = write_recording(tmp_path / "drive", frames=1, changed={"cameras": {"front": lens}})
    data, frames = frames_of(root)
    told = [text for text in datasets.warnings_of(data, root, frames) if "focal lengths" in text]
    assert len(told) == len(says)
    assert all(text.startswith(f"{part} {focal:g}") for text, part in zip(told, says, strict=True)), told


def test_a_lens_that_loses_much_is_told(tmp_path):
    lens = KITTI | {"model": "opencv", "distortion": [-0.5, 0, 0, 0]}
    root = write_recording(tmp_path / "drive", frames=1, changed={"cameras": {"front": lens, "unused": lens}})
    transforms = calibration()["transforms"] + [{"from": "unused", "to": "front", "matrix": np.eye(4).tolist()}]
    write_calibration(root, calibration() | {"cameras": {"front": lens, "unused": lens}, "transforms": transforms})
    data, frames = frames_of(root)
    (warning,) = [text for text in data.warnings(root, frames) if "has an image of unused" not in text]
    assert warning.startswith("camera front: by distortion [-0.5, 0.0, 0.0, 0.0] of model opencv 7% of an undistorted")


@pytest.mark.parametrize(
    ("occlusion", "says"),
    [
        ({"vertical_deg": 0.0105}, r"occlusion: vertical_deg is 0\.0105, .*radians\? They would be 0\.602 degrees"),
        ({"horizontal_deg": 0.00524}, r"horizontal_deg is 0\.00524, .*radians\? They would be 0\.3 degrees"),
        ({"vertical_deg": 1e-6}, r"0\.05 to 10 degrees: the gap between two beams \("),
        ({"vertical_deg": 60, "horizontal_deg": 30}, "vertical_deg is 60, expected 0.05 to 10 degrees"),
        ({"horizontal_deg": 1e6}, "the step between two pulses"),
        ({"vertical_deg": float("inf")}, "vertical_deg"),
        ({"tolerance_ratio": 3}, "a share of the distance"),
    ],
)
def test_angles_that_no_lidar_has_are_refused(occlusion, says, tmp_path):
    root = write_recording(tmp_path / "drive", changed={"occlusion": occlusion})
    with pytest.raises(DatasetError, match=says) as error:
        frames_of(root)
    assert error.value.path == str(root / "calibration.yaml")


@pytest.mark.parametrize(("vertical", "horizontal"), [(0.05, 0.02), (0.17, 0.1), (0.6, 0.3), (2.0, 0.4), (10, 10)])
def test_angles_of_lidars_are_taken(vertical, horizontal, tmp_path):
    occlusion = {"vertical_deg": vertical, "horizontal_deg": horizontal}
    root = write_recording(tmp_path / "drive", changed={"occlusion": occlusion})
    assert frames_of(root)[0].occlusion.vertical_deg == vertical


@pytest.mark.parametrize(("column", "text"), [("x", "nan"), ("z", "inf"), ("qw", "nan"), ("qz", "-inf")])
def test_a_pose_that_is_no_number_is_told_by_its_column(column, text, tmp_path):
    root = write_recording(tmp_path / "drive", frames=1, changed={"poses_of": "lidar"})
    names = ["x", "y", "z", "qw", "qx", "qy", "qz"]
    pose = dict(zip(names, ["1", "2", "3", "1", "0", "0", "0"], strict=True)) | {column: text}
    line = ",".join(["000,lidar,points/000.bin,0", *pose.values()])
    write_readings(root, [",".join(["sweep,sensor,file,time_us", *names]), line])
    with pytest.raises(DatasetError, match=rf"line 2: the pose is no place: {column} is {text} \(") as error:
        frames_of(root)
    assert "quaternion" not in str(error.value)


def test_another_occlusion_of_a_later_scene_is_told(tmp_path):
    root = write_recording(tmp_path / "drives", scene="monday")
    write_recording(root, scene="tuesday")
    write_calibration(root / "tuesday", calibration() | {"occlusion": {"vertical_deg": 2.0}})
    data, frames = frames_of(root)
    assert data.occlusion.vertical_deg == 1.4
    (warning,) = data.warnings(root, frames)
    assert re.match(r"`occlusion` .* of monday, .* of tuesday", warning)
    write_calibration(root / "tuesday", calibration())
    assert not data.warnings(root, frames)


@pytest.mark.parametrize("read", [lambda data, root: data.subsets(root), lambda data, root: frames_of(root)])
def test_a_wrong_calibration_of_one_scene_names_it(read, tmp_path):
    root = write_recording(tmp_path / "drives", scene="monday")
    write_recording(root, scene="tuesday")
    bad = calibration()
    bad["cameras"]["front"]["fx"] = -721
    write_calibration(root / "tuesday", bad)
    with pytest.raises(DatasetError, match=r"of scene tuesday: cameras.front: the intrinsics have a neg") as error:
        read(datasets.at("folder", root), root)
    assert "move the folder of the scene out of the recording" in error.value.remedy
    shutil.move(root / "tuesday", tmp_path / "elsewhere")
    assert len(frames_of(root)[1]) == 2
    write_calibration(root, bad)
    with pytest.raises(DatasetError, match=r"^cameras.front: the intrinsics"):  # it is everyone's
        read(datasets.at("folder", root), root)


def test_a_recording_that_moved_is_the_same(tmp_path):
    root = write_recording(tmp_path / "one" / "drive")
    there = shutil.copytree(root, tmp_path / "two" / "drive")
    assert [f.token for f in frames_of(root)[1]] == [f.token for f in frames_of(there)[1]]


def test_another_version_of_the_layout_is_refused(tmp_path):
    root = write_recording(tmp_path / "drive")
    with pytest.raises(DatasetError, match="There is but version 1"):
        datasets.at("folder", root).frames(root, "2", ("val",))


def test_no_camera_is_called_as_sweeps_are():
    with pytest.raises(ValidationError, match=r"a camera called lidar: readings\.csv calls sweeps so"):
        Calibration.model_validate(calibration() | {"cameras": {"lidar": KITTI}})


def test_a_scene_is_called_as_the_folder_that_its_link_leads_to_and_two_of_one_name_are_refused(tmp_path):
    root = tmp_path / "rec"
    root.mkdir()
    write_calibration(root, calibration())
    for folder in ("x/run", "y/run", "z/a"):
        write_recording(tmp_path / folder, frames=1)
    (root / "a").symlink_to(tmp_path / "x/run")
    assert [scene.name for scene in find_scenes(root)] == ["run"]
    (root / "b c").symlink_to(tmp_path / "y/run")
    with pytest.raises(DatasetError, match="a and b c would be scenes of one name, run: a link is called") as caught:
        find_scenes(root)
    subprocess.run(caught.value.remedy.partition(": ")[2], shell=True, check=True)
    (root / "d").symlink_to(tmp_path / "z/a")
    assert [scene.name for scene in find_scenes(root)] == ["run", "b c", "a"]
    (root / "e").symlink_to(tmp_path / "z/a")
    with pytest.raises(DatasetError, match="Remove this link: both are one and the same folder"):
        find_scenes(root)


@pytest.mark.parametrize("name", ["x", "time_us"])
def test_a_column_that_is_there_twice_is_told(tmp_path, name):
    root = write_recording(tmp_path / "rec", frames=1)
    head = f"sweep,sensor,file,time_us,x,y,z,qw,qx,qy,qz,{name}"
    write_readings(root, [head, "000,lidar,points/000.bin,0,0,0,0,1,0,0,0,0"])
    with pytest.raises(DatasetError, match=f"line 1: column {name} is there twice"):
        find_scenes(root)
