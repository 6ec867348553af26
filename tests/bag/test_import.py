"""Bags become recordings: two rates, a moving car, three kinds of bag; every fault names bag and remedy."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from ovps import cli, datasets
from ovps.datasets.folder.layout import POSE, UNFINISHED
from ovps.errors import ConfigError, DatasetError
from ovps.files import write_whole
from ovps.geometry.projection import project
from pipelines.bag import import_bag, list_topics
from pipelines.bag.calibration import doubts
from pipelines.bag.index import Index
from pipelines.bag.topics import COMPRESSED, IMAGE, INFO, POINTS, CameraTopic, Topic, choose, passed_over
from pipelines.data_check import check
from tests.bag.write import (
    BASE_FROM_CAMERA,
    BASE_FROM_LIDAR,
    BEGIN,
    FOCAL,
    HEIGHT,
    IMAGE_LATE,
    IMAGE_STEP,
    IMAGES,
    LIDAR_STEP,
    POSTS,
    SWEEPS,
    WIDTH,
    K,
    odom_from_base,
    write_bag,
)
from tests.helpers.stores import contents

NAMES = {"ros1": "drive one.bag", "ros2": "drive", "mcap": "drive=mcap"}


def frames_of(root):
    data = datasets.at("folder", root)
    return data, data.frames(root, "1", ("val",))


@pytest.mark.parametrize(("kind", "compressed"), [("ros1", False), ("ros2", True), ("mcap", False)])
def test_every_post_lies_on_its_dot_although_the_car_drives(kind, compressed, tmp_path, capsys):
    """A picture shows the posts from where the car was then: only poses at both times bring points onto dots."""
    bag = write_bag(tmp_path / NAMES[kind], kind, compressed=compressed)
    summary = import_bag(bag, tmp_path / "out")
    told = capsys.readouterr().err
    assert "read the bag: 0 of 92 messages" in told  # hours of driving take minutes
    assert "read the bag: 92 of 92 messages" in told
    assert (summary.sweeps, summary.moves, summary.intensity_max) == (SWEEPS, "base_link in odom", 255)
    assert summary.invalid_share == pytest.approx(2 / (len(POSTS) + 2))
    data, frames = frames_of(tmp_path / "out")
    on_dots, without_motion = [], []
    for frame in frames:
        cloud = data.points(frame)
        assert len(cloud) == len(POSTS)
        np.testing.assert_allclose(cloud.intensity, 100 / 255, rtol=1e-6)
        (camera,) = frame.cameras
        bright = data.image(camera).max(axis=2) > 128
        for pose, found in ((camera.camera_from_lidar, on_dots), (STANDING, without_motion)):
            seen = project(cloud.xyz, type(camera)(**{**vars(camera), "camera_from_lidar": pose}))
            u, v = np.round(seen.uv[seen.inside]).astype(int).T
            found.append(bright[v, u].mean())
    assert min(on_dots) > 0.95
    assert np.mean(without_motion) < 0.5, "without the motion between the two most points miss"


STANDING = np.linalg.inv(BASE_FROM_CAMERA) @ BASE_FROM_LIDAR


def test_the_nearest_image_is_taken_and_the_time_between_is_told(tmp_path):
    summary = import_bag(write_bag(tmp_path / "bag", "mcap"), tmp_path / "out")
    images = BEGIN + IMAGE_LATE + IMAGE_STEP * np.arange(IMAGES)
    apart = [np.abs(images - (BEGIN + 10**8 * n)).min() / 1e6 for n in range(SWEEPS)]
    assert summary.apart_ms["front"] == pytest.approx({"median": np.median(apart), "most": max(apart)})
    with open(tmp_path / "out" / "readings.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["sensor"] == "front"]
    assert [abs(int(row["time_us"]) * 1000 - BEGIN - 10**8 * n) / 1e6 for n, row in enumerate(rows)] == pytest.approx(
        apart, abs=1e-3
    )


def test_poses_are_those_of_the_car_at_the_time_of_each_reading(tmp_path):
    import_bag(write_bag(tmp_path / "bag", "ros2"), tmp_path / "out")
    _, frames = frames_of(tmp_path / "out")
    for frame in frames:
        world_from_lidar = odom_from_base(1000 * frame.timestamp_us) @ BASE_FROM_LIDAR
        np.testing.assert_allclose(frame.global_from_lidar, world_from_lidar, atol=1e-3)
        world_from_camera = odom_from_base(1000 * frame.cameras[0].timestamp_us) @ BASE_FROM_CAMERA
        expected = np.linalg.inv(world_from_camera) @ world_from_lidar
        np.testing.assert_allclose(frame.cameras[0].camera_from_lidar, expected, atol=1e-3)


def test_a_bag_without_moving_transforms_says_that_motion_is_not_known(tmp_path):
    summary = import_bag(write_bag(tmp_path / "bag", "mcap", moving=False), tmp_path / "out")
    assert summary.moves is None
    assert any("not known" in warning for warning in summary.warnings)
    assert "poses_of" not in (tmp_path / "out" / "calibration.yaml").read_text()
    frames_of(tmp_path / "out")


def readings(root: Path) -> np.ndarray:
    """Numbers of the table, without names."""
    with open(root / "readings.csv", newline="") as file:
        return np.array([[float(row[name]) for name in ("time_us", *POSE)] for row in csv.DictReader(file)])


def shifted(matrix: np.ndarray, metres: float) -> np.ndarray:
    moved = matrix.copy()
    moved[0, 3] += metres
    return moved


def test_a_pose_that_is_none_is_left_out_and_told(tmp_path):
    import_bag(write_bag(tmp_path / "right", "mcap"), tmp_path / "right-out")

    def lost(child, time, matrix):
        return [shifted(matrix, np.nan)] if time == BEGIN + 10**8 else [matrix]

    summary = import_bag(write_bag(tmp_path / "bag", "mcap", place=lost), tmp_path / "out")
    assert summary.sweeps == SWEEPS
    (told,) = [text for text in summary.warnings if text.startswith("/tf: ")]
    assert "1 transform from base_link to odom left out, the first recorded at 1700000000.100 s: " in told
    assert "nan" in told
    np.testing.assert_allclose(readings(tmp_path / "out"), readings(tmp_path / "right-out"), atol=1e-3)


@pytest.mark.parametrize("hole", [0, 4])
def test_sweeps_within_a_dropout_of_the_poses_are_left_out(hole, tmp_path):
    """Of half a second, while the car drives 4 m."""

    def dropped(child, time, matrix):
        lost = BEGIN + 5 * 10**7 < time < BEGIN + hole * 10**8 + 17 * 10**7
        return [] if child == "base_link" and lost else [matrix]

    summary = import_bag(write_bag(tmp_path / "bag", "mcap", place=dropped), tmp_path / "out")
    assert summary.sweeps + sum(summary.left_out.values()) == SWEEPS
    assert sum(summary.left_out.values()) == (5 if hole else 0)
    assert all("pose" in reason for reason in summary.left_out)
    _, frames = frames_of(tmp_path / "out")
    for frame in frames:
        np.testing.assert_allclose(
            frame.global_from_lidar, odom_from_base(1000 * frame.timestamp_us) @ BASE_FROM_LIDAR, atol=0.02
        )


def map_from_odom(time: int) -> np.ndarray:
    """Odometry drifts by two metres a second."""
    pose = np.eye(4)
    pose[1, 3] = 2.0 * (time - BEGIN) / 1e9
    return pose


@pytest.mark.parametrize("world", [None, "odom", "map"])
def test_poses_are_in_the_world_that_is_asked_for_through_all_that_moves(world, tmp_path):
    """From the car to the odometry, and from that to the map."""
    bag = write_bag(tmp_path / "bag", "mcap", map_from_odom=map_from_odom)
    summary = import_bag(bag, tmp_path / "out", world=world)
    assert (summary.sweeps, summary.moves) == (SWEEPS, f"base_link in {world or 'odom'}")
    _, frames = frames_of(tmp_path / "out")
    for frame in frames:
        time = 1000 * frame.timestamp_us
        expected = odom_from_base(time) @ BASE_FROM_LIDAR
        np.testing.assert_allclose(
            frame.global_from_lidar, map_from_odom(time) @ expected if world == "map" else expected, atol=1e-3
        )


def test_poses_that_jump_are_told(tmp_path):
    """Two nodes publish them, 50 m apart."""

    def doubled(child, time, matrix):
        return [shifted(matrix, 50.0 * (time // 20_000_000 % 2))] if child == "base_link" else [matrix]

    summary = import_bag(write_bag(tmp_path / "bag", "mcap", place=doubled), tmp_path / "out")
    (told,) = [text for text in summary.warnings if "jump" in text]
    assert re.match(r"poses in odom jump \d+ times, by up to 50\.\d m", told)
    assert not any("jump" in text for text in import_bag(write_bag(tmp_path / "r", "mcap"), tmp_path / "ro").warnings)


@pytest.mark.parametrize(("apart", "told"), [(1e-5, 0), (0.5, 1)])
def test_a_correction_of_a_standing_transform_holds_and_is_told(apart, told, tmp_path):
    def corrected(child, time, matrix):
        return [shifted(matrix, apart), matrix] if child == "front_optical" else [matrix]

    def places(root):
        _, frames = frames_of(root)
        return [camera.camera_from_lidar for frame in frames for camera in frame.cameras]

    summary = import_bag(write_bag(tmp_path / "bag", "mcap", place=corrected), tmp_path / "out")
    warnings = [text for text in summary.warnings if text.startswith("/tf_static places front_optical in base_link")]
    assert len(warnings) == told
    assert all(f"up to {apart:g} apart" in text for text in warnings)
    import_bag(write_bag(tmp_path / "right", "mcap"), tmp_path / "right-out")
    np.testing.assert_allclose(places(tmp_path / "out"), places(tmp_path / "right-out"), atol=1e-9)


def test_sweeps_that_are_left_out_are_counted(tmp_path):
    bag = write_bag(tmp_path / "bag", "mcap")
    summary = import_bag(bag, tmp_path / "near", apart_ms=20)
    assert summary.sweeps + sum(summary.left_out.values()) == SWEEPS
    assert summary.left_out
    assert import_bag(bag, tmp_path / "some", every=2, limit=2).sweeps == 2
    with pytest.raises(DatasetError, match=r"no image within 0\.1 ms"):
        import_bag(bag, tmp_path / "none", apart_ms=0.1)


def test_a_bag_is_read_again_only_to_the_last_sweep_that_is_asked_for(tmp_path, monkeypatch):
    from rosbags.highlevel import AnyReader

    whole, read = AnyReader.messages, []

    def seen(self, *arguments, **options):
        read.append(0)
        for message in whole(self, *arguments, **options):
            read[-1] += 1
            yield message

    bag = write_bag(tmp_path / "bag", "mcap")
    monkeypatch.setattr(AnyReader, "messages", seen)
    assert import_bag(bag, tmp_path / "out", limit=1).sweeps == 1
    assert read == [92, 2]  # one sweep and its image
    _, frames = frames_of(tmp_path / "out")
    assert len(frames[0].cameras) == 1


def test_clouds_with_one_time_stamp_or_none_get_that_of_the_recording(tmp_path):
    right = import_bag(write_bag(tmp_path / "right", "mcap"), tmp_path / "out")
    for name, stamp in (("stands", BEGIN), ("none", 0)):
        summary = import_bag(
            write_bag(tmp_path / name, "mcap", stamp_of=lambda _, s=stamp: s), tmp_path / f"{name}-out"
        )
        assert (summary.sweeps, summary.left_out) == (right.sweeps, {})
        assert "/points has no time stamps, or one for all: those of the recording are taken" in summary.warnings
        assert (tmp_path / f"{name}-out/readings.csv").read_bytes() == (tmp_path / "out/readings.csv").read_bytes()


def test_clouds_that_have_the_time_of_another_are_counted(tmp_path):
    bag = write_bag(tmp_path / "bag", "mcap", stamp_of=lambda time: time - (time - BEGIN) % (2 * LIDAR_STEP))
    summary = import_bag(bag, tmp_path / "out")
    assert summary.left_out == {"another has their time": SWEEPS // 2}
    assert summary.sweeps == SWEEPS // 2
    assert "3 sweeps left out: another has their time" in summary.warnings


def test_messages_of_another_sensor_on_a_topic_are_left_out(tmp_path):
    """As of two LiDARs of one topic: points of one would be placed as if the other had seen them."""

    def other(topic, number, message):
        frame = {"/points": "base_link", "/front/image_raw": "velodyne"}.get(topic)
        return {"header": replace(message.header, frame_id=frame)} if frame and number in (1, 4) else {}

    summary = import_bag(write_bag(tmp_path / "bag", "mcap", odd=other), tmp_path / "out")
    assert summary.unreadable == {"/points": 2, "/front/image_raw": 2}
    assert summary.left_out == {"their cloud is of another frame": 2}
    told = " ".join(summary.warnings)
    assert "of frame 'base_link', where the first one is of 'velodyne': give each sensor a topic" in told
    import_bag(write_bag(tmp_path / "whole", "mcap"), tmp_path / "all")
    kept = {path.read_bytes() for path in (tmp_path / "out/points").iterdir()}
    assert kept < {path.read_bytes() for path in (tmp_path / "all/points").iterdir()}


ODD = {
    "an image that is short": ("/front/image_raw", lambda m: {"data": m.data[:-7]}, "bytes in an image"),
    "an image in another encoding": ("/front/image_raw", lambda m: {"encoding": "mono16"}, "images in mono16"),
    "an image of nothing": ("/front/image_raw", lambda m: {"height": 0, "data": m.data[:0]}, "0 bytes in an image"),
    "a JPEG that is cut off": ("/front/image_raw/compressed", lambda m: {"data": m.data[:-900]}, "cut off"),
    "a JPEG without anything": ("/front/image_raw/compressed", lambda m: {"data": m.data[:9]}, "a damaged image"),
    "a cloud that is short": ("/points", lambda m: {"data": m.data[:-7]}, "bytes in a cloud"),
    "a cloud with other fields": ("/points", lambda m: {"fields": m.fields[1:]}, "a cloud without x"),
    "a cloud without a point": (
        "/points",
        lambda m: {"width": 0, "row_step": 0, "data": m.data[:0]},
        "any valid point",
    ),
    "a cloud of pulses without a return": ("/points", lambda m: {"data": 0 * m.data}, "any valid point"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_message_is_left_out_and_told(name, tmp_path):
    """The first one and a later one: neither its topic nor the bag is lost."""
    topic, change, says = ODD[name]
    cloud = topic == "/points"
    bag = write_bag(
        tmp_path / "bag",
        "mcap",
        compressed="compressed" in topic,
        odd=lambda at, number, message: change(message) if at == topic and number in (0, 3) else {},
    )
    summary = import_bag(bag, tmp_path / "out")
    reason = "their cloud has no valid point" if says == "any valid point" else "their cloud cannot be read"
    assert summary.left_out == ({reason: 2} if cloud else {})
    assert summary.unreadable == {topic: 2}
    assert summary.sweeps == SWEEPS - 2 * cloud
    (told,) = (w for w in summary.warnings if w.startswith(topic))
    time = BEGIN if cloud else BEGIN + IMAGE_LATE
    assert f"2 of {SWEEPS if cloud else IMAGES} messages left out, the first recorded at {time / 1e9:.3f} s" in told
    assert says in told
    data, frames = frames_of(tmp_path / "out")
    assert len(frames) == summary.sweeps
    with open(tmp_path / "out" / "readings.csv", newline="") as file:
        named = {row["file"] for row in csv.DictReader(file)}
    there = (p for part in ("points", "images") for p in (tmp_path / "out" / part).rglob("*") if p.is_file())
    assert {p.relative_to(tmp_path / "out").as_posix() for p in there} == named
    for frame in frames:
        assert len(data.points(frame)) == len(POSTS)
        assert data.image(frame.cameras[0]).shape == (HEIGHT, WIDTH, 3)


def cut_messages(monkeypatch, topic, numbers) -> None:
    """End some messages of a topic in the middle of their header."""
    from rosbags.highlevel import AnyReader

    whole = AnyReader.messages

    def cut(self, *arguments, **options):
        seen = 0
        for connection, time, raw in whole(self, *arguments, **options):
            seen += connection.topic == topic
            yield connection, time, raw[:10] if connection.topic == topic and seen - 1 in numbers else raw

    monkeypatch.setattr(AnyReader, "messages", cut)


@pytest.mark.parametrize(
    ("topic", "number", "says", "lost"),
    [
        ("/points", 1, "1 of 6 messages left out, the first recorded at 1700000000.100 s: 10 bytes", 1),
        ("/tf", 3, "1 of 65 messages left out, the first recorded at 1699999999.960 s: 10 bytes", 0),
        ("/front/camera_info", 0, "1 of 10 messages left out, the first recorded at 1700000000.021 s: 10 bytes", 0),
    ],
)
def test_a_message_whose_bytes_are_no_message_is_left_out(topic, number, says, lost, tmp_path, monkeypatch):
    bag = write_bag(tmp_path / "bag", "mcap")
    cut_messages(monkeypatch, topic, [number])
    summary = import_bag(bag, tmp_path / "out")
    left_out = {"their cloud cannot be read": 1} if lost else {}
    assert (summary.sweeps, summary.left_out, summary.unreadable) == (SWEEPS - lost, left_out, {topic: 1})
    (told,) = [text for text in summary.warnings if text.startswith(f"{topic}: ")]
    assert says in told


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("/tf_static", r"no standing transforms lead .*; /tf_static: 1 of 1 messages left out"),
        ("/front/camera_info", r"no message of /front/camera_info; /front/camera_info: 10 of 10 messages left out"),
    ],
)
def test_an_import_that_lacks_what_was_left_out_says_so(topic, says, tmp_path, monkeypatch):
    bag = write_bag(tmp_path / "bag", "mcap")
    cut_messages(monkeypatch, topic, range(10))
    with pytest.raises(DatasetError, match=says):
        import_bag(bag, tmp_path / "out")


def test_a_sweep_whose_only_near_image_is_odd_is_left_out(tmp_path):
    bag = write_bag(
        tmp_path / "bag", "mcap", odd=lambda at, n, m: {"data": m.data[:-7]} if "image" in at and n == 0 else {}
    )
    summary = import_bag(bag, tmp_path / "out", apart_ms=25)
    without = import_bag(write_bag(tmp_path / "whole", "mcap"), tmp_path / "all", apart_ms=25)
    assert summary.sweeps == without.sweeps - 1
    assert sum(summary.left_out.values()) == sum(without.left_out.values()) + 1


def test_nothing_is_written_where_nothing_can_be_read(tmp_path):
    bag = write_bag(tmp_path / "bag", "mcap", encoding="mono16")
    with pytest.raises(DatasetError, match=r"no sweep of /points can be used: .*10 of 10 messages left out"):
        import_bag(bag, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_field_of_intensity_that_is_not_there(tmp_path):
    bag = write_bag(tmp_path / "bag", "mcap")
    with pytest.raises(ConfigError, match=r"no field 'foo'.*with --intensity: x, y, z, intensity"):
        import_bag(bag, tmp_path / "out", intensity="foo")
    import_bag(bag, tmp_path / "out", intensity="x")
    renamed = import_bag(write_bag(tmp_path / "other", "mcap", reflected="reflectivity"), tmp_path / "zeros")
    assert [w for w in renamed.warnings if "no field 'intensity', so that all points have 0" in w]


@pytest.mark.parametrize("every", [1, 10])
def test_points_without_a_number_as_intensity_are_kept_and_told(every, tmp_path):
    """As drivers have it that do not fill the field; one stray reading is told, too, and no scale for the others."""

    def dark(topic, number, message):
        if topic != "/points":
            return {}
        rows = message.data.view(np.float32).reshape(-1, 5).copy()
        if number == 0:
            rows[1, 4] = 1e6
        rows[::every, 4] = np.nan
        return {"data": rows.reshape(-1).view(np.uint8)}

    summary = import_bag(write_bag(tmp_path / "bag", "mcap", odd=dark), tmp_path / "out")
    assert (summary.sweeps, summary.unreadable) == (SWEEPS, {})
    assert summary.intensity_max == (1 if every == 1 else 255)
    assert summary.invalid_share == pytest.approx(2 / (len(POSTS) + 2))
    (told,) = [text for text in summary.warnings if "have NaN or infinity as 'intensity'" in text]
    stray = [text for text in summary.warnings if "more than" in text]
    assert [text.partition(",")[0] for text in stray] == [
        f"1 of {SWEEPS * len(POSTS)} points have more than 255 as 'intensity'"
    ] * (every > 1)
    assert all("up to 1e+06, and got 255" in text for text in stray)
    lacking = len(range(0, len(POSTS), every))
    assert told.startswith(f"{SWEEPS * lacking} of {SWEEPS * len(POSTS)} points have")
    assert told.endswith("--intensity names another field: x, y, z, intensity")
    data, frames = frames_of(tmp_path / "out")
    for frame in frames:
        intensity = data.points(frame).intensity
        assert ((intensity == 0).sum(), (intensity > 0).sum()) == (lacking, len(POSTS) - lacking)
        assert intensity.max() in ((0,) if every == 1 else (1, np.float32(100 / 255)))


def half_as_large(topic, number, message):
    if not topic.startswith("/front/image"):
        return {}
    pixels = np.frombuffer(bytes(message.data), np.uint8).reshape(HEIGHT, WIDTH, 3)[::2, ::2]
    return {"height": HEIGHT // 2, "width": WIDTH // 2, "step": 3 * WIDTH // 2, "data": pixels.reshape(-1).copy()}


def below_zero(topic, number, message):
    if topic != "/points":
        return {}
    rows = message.data.view(np.float32).reshape(-1, 5).copy()
    rows[0, 4] = -1
    return {"data": rows.reshape(-1).view(np.uint8)}


def test_a_later_image_of_another_size_is_told(tmp_path):
    """By the import, and by a check that does not read the frame."""

    def later(topic, number, message):
        return half_as_large(topic, number, message) if number else {}

    found = import_bag(write_bag(tmp_path / "bag", "mcap", odd=later), tmp_path / "out").warnings
    (told,) = [text for text in found if "of another size" in text]
    assert re.search(rf"^{SWEEPS - 1} of {SWEEPS} images of front are .* the first is \S+ with 240x160 pixels", told)
    problems = check(tmp_path / "out", out=tmp_path / "page", count=1).problems
    assert any("images of front are of another size" in text for text in problems)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"odd": half_as_large}, "the image of front is 240x160 pixels, its calibration is for 480x320"),
        ({"odd": below_zero}, "intensities of -1 to 100, expected 0 to 255"),
        ({"info": {"K": np.eye(3).reshape(-1)}}, "the intrinsics are the identity matrix"),
        ({"info": {"D": np.array([-31.0, 1, 0, 0, 0])}}, "by distortion"),
        ({}, None),
    ],
)
def test_what_cannot_be_used_of_an_imported_recording_is_told_at_once(wrong, says, tmp_path):
    found = import_bag(write_bag(tmp_path / "bag", "mcap", **wrong), tmp_path / "out").warnings
    told = [text for text in found if text.startswith("the recording cannot be used as it is: ")]
    assert len(told) == (says is not None)
    assert all(says in text and f"`ovps data check {tmp_path / 'out'}`" in text for text in told)


def test_distortion_comes_into_the_calibration(tmp_path):
    bent = {"D": np.array([-0.2, 0.05, 0.001, 0.0, 0.0])}
    import_bag(write_bag(tmp_path / "bag", "ros2", info=bent), tmp_path / "out")
    data, frames = frames_of(tmp_path / "out")
    assert frames[0].cameras[0].intrinsics[0, 0] != pytest.approx(FOCAL)
    assert data.image(frames[0].cameras[0]).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("zeros", [4, 0])
def test_a_fisheye_without_distortion_is_no_pinhole(zeros, tmp_path):
    """r = f theta: at the edge of the image 35 degrees off the axis, which is nearer to its middle than a pinhole's."""
    ideal = {"distortion_model": "equidistant", "D": np.zeros(zeros)}
    summary = import_bag(write_bag(tmp_path / "bag", "ros2", info=ideal), tmp_path / "out")
    model = yaml.safe_load((tmp_path / "out" / "calibration.yaml").read_text())["cameras"]["front"]
    assert (model["model"], model["distortion"]) == ("fisheye", [0, 0, 0, 0])
    _, frames = frames_of(tmp_path / "out")
    edge = WIDTH / 2
    (told,) = [text for text in summary.warnings if text.startswith("front: its CameraInfo is that of a fisheye")]
    assert f"differs by {edge - FOCAL * np.arctan(edge / FOCAL):.0f} pixels" in told
    assert frames[0].cameras[0].undistorted


BASELINE = 0.5  # metres to the right of the first camera


@pytest.mark.parametrize("camera", ["/front/image_rect_color", "/front/image_raw"])
def test_a_camera_that_p_places_beside_the_first_of_a_pair_is_told(camera, tmp_path):
    """And what to add to its transform: the first camera's frame is where the bag has its images."""
    right = {"P": np.hstack([K, [[-FOCAL * BASELINE], [0], [0]]]).reshape(-1)}
    summary = import_bag(write_bag(tmp_path / "bag", "ros2", camera=camera, info=right), tmp_path / "out", limit=1)
    (told,) = [text for text in summary.warnings if text.startswith("front: by P of /front/camera_info it stands")]
    assert "stands 0.50 m beside the first camera of a pair; it is placed where the bag has front_optical" in told
    file = tmp_path / "out" / "calibration.yaml"
    calibration = yaml.safe_load(file.read_text())
    for row, more in zip((0, 1), re.search(r"add (\S+) and (\S+) to", told).groups(), strict=True):
        calibration["transforms"][0]["matrix"][row][3] += float(more)
    camera_from_lidar = np.array(calibration["transforms"][0]["matrix"])
    base_from_right = BASE_FROM_LIDAR @ np.linalg.inv(camera_from_lidar)
    np.testing.assert_allclose(base_from_right[:3, 3], BASE_FROM_CAMERA[:3, 3] + [0, -BASELINE, 0], atol=1e-9)


@pytest.mark.parametrize(("apart", "told"), [(BASELINE, []), (0.0, ["right"])])
def test_a_pair_whose_frames_stand_as_p_says_is_not_told(apart, told):
    """As most drivers have it: each camera with a frame of its own."""
    index, topics = Index(), [CameraTopic(n, f"/{n}/image_raw", f"/{n}/camera_info") for n in ("left", "right")]
    transforms = []
    for topic, beside in zip(topics, (0.0, BASELINE), strict=True):
        p = np.hstack([K, [[-FOCAL * beside], [0], [0]]])
        index.infos[topic.info] = SimpleNamespace(p=p, header=SimpleNamespace(frame_id=topic.name))
        matrix = STANDING.copy()
        matrix[0, 3] -= apart if beside else 0
        transforms.append({"from": "lidar", "to": topic.name, "matrix": matrix.tolist()})
    warnings = doubts({"cameras": {}, "transforms": transforms}, index, topics)
    assert [text.split(":")[0] for text in warnings] == told


def test_the_command_lists_topics_and_imports(tmp_path, monkeypatch, capsys):
    bag = write_bag(tmp_path / "bag", "mcap")

    def ovps(*arguments):
        monkeypatch.setattr(sys, "argv", ["ovps", "data", "import", str(bag), *arguments, "--json"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, json.loads(capsys.readouterr().out)

    code, topics = ovps("--list")
    assert code == 0
    assert topics["/points"].startswith("sensor_msgs/msg/PointCloud2, 6 messages")
    assert {t.name for t in list_topics(bag)} == set(topics)
    monkeypatch.setattr(sys, "argv", ["ovps", "data", "import", str(bag), "--list"])
    with contextlib.suppress(SystemExit):
        cli.main()
    assert "/front/image_raw: " in capsys.readouterr().out  # as --camera takes it
    out = ("--out", str(tmp_path / "out"), "--points", "/points", "--camera", "/front/image_raw", "--world", "odom")
    assert ovps(*out)[1]["sweeps"] == SWEEPS
    code, error = ovps(*out)
    assert (code, error["error"]) == (2, "config")
    assert "another folder" in error["remedy"]


FAULTS = {
    "a topic that is not there": ({}, {"points": "/lidar"}, ConfigError, "/points"),
    "a camera that is not there": ({}, {"cameras": ("/rear/image_raw",)}, ConfigError, "/front/image_raw"),
    "a camera twice": ({}, {"cameras": ("/front/image_raw", "/front/image_raw")}, ConfigError, "named twice"),
    "a world that is not there": ({}, {"world": "map"}, ConfigError, "base_link in odom"),
    "a world in which the LiDAR stands": ({}, {"world": "base_link"}, ConfigError, "moves in: odom"),
    "no standing transforms": ({"static": False}, {}, DatasetError, "/tf_static"),
    "16-bit images": ({"encoding": "mono16"}, {}, DatasetError, "rgb8"),
    "images of depth": ({"encoding": "32FC1"}, {}, DatasetError, "rgb8"),
    "an unknown distortion": (
        {"info": {"distortion_model": "cubic", "D": np.ones(3)}},
        {},
        DatasetError,
        "distortion 'cubic'",
    ),
    "a camera that is not calibrated": ({"info": {"K": np.zeros(9)}}, {}, DatasetError, "not calibrated"),
    "a camera whose distortion is no number": ({"info": {"D": np.full(5, np.nan)}}, {}, DatasetError, "with NaN"),
    "a camera whose name says that it is rectified": (
        {"info": {"P": np.zeros(12)}, "camera": "/front/image_rect"},
        {},
        DatasetError,
        "without P",
    ),
    "a cloud cut off": ({"cloud": {"width": 900}}, {}, DatasetError, "bytes in a cloud"),
    "a cloud whose points are too short": (
        {"cloud": {"point_step": 8, "row_step": 1120}},
        {},
        DatasetError,
        "8 bytes a point",
    ),
    "a cloud without coordinates": ({"cloud": {"fields": []}}, {}, DatasetError, "without x, y, z"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_the_bag_and_what_to_do(name, tmp_path):
    content, options, kind, says = FAULTS[name]
    bag = write_bag(tmp_path / "bag", "mcap", **content)
    with pytest.raises(kind) as error:
        import_bag(bag, tmp_path / "out", **options)
    assert says in str(error.value)
    assert error.value.path == str(bag)
    assert error.value.remedy


@pytest.mark.parametrize(("late", "says"), [(37 * 10**9, "are 3[67],"), (10**8 + 10**7, "--apart-ms")])
def test_images_that_are_too_far_from_any_sweep_say_how_far(late, says, tmp_path):
    """37 s: one clock keeps atomic time, the other UTC."""
    bag = write_bag(tmp_path / "bag", "mcap", stamp_of=lambda time: time + late)
    with pytest.raises(DatasetError, match=r"no image within 1 ms") as error:
        import_bag(bag, tmp_path / "out", apart_ms=1.0)
    assert re.search(says, error.value.remedy)
    assert "ms apart" in error.value.remedy


def test_poses_of_another_clock_are_told_as_that(tmp_path):
    """Sweep and image go together, an hour after all transforms: other topics would not help."""

    def late(topic, number, message):
        stamp = message.header.stamp
        return {"header": replace(message.header, stamp=replace(stamp, sec=stamp.sec + 3600))}

    bag = write_bag(tmp_path / "bag", "mcap", odd=late)
    with pytest.raises(DatasetError, match="no image within 100 ms with a known pose") as error:
        import_bag(bag, tmp_path / "out")
    assert "Poses of base_link are known from" in error.value.remedy
    assert "clocks of transforms and sensors differ" in error.value.remedy


def test_a_recording_whose_import_has_not_ended_says_so(tmp_path):
    import_bag(write_bag(tmp_path / "bag", "mcap"), tmp_path / "out")
    (tmp_path / "out" / "calibration.yaml").unlink()
    (tmp_path / "out" / UNFINISHED).touch()
    with pytest.raises(DatasetError, match=r"has not ended.*Run the same `ovps data import` again") as error:
        check(tmp_path / "out")
    assert error.value.path == str(tmp_path / "out")
    assert import_bag(tmp_path / "bag", tmp_path / "out").sweeps == SWEEPS
    assert check(tmp_path / "out").problems == ()


def test_an_import_that_is_stopped_says_that_it_begins_anew(tmp_path, monkeypatch):
    bag = write_bag(tmp_path / "bag", "mcap")

    def stopped(path, content):
        if path.suffix == ".npy" and path.stem == "000002":
            raise KeyboardInterrupt
        write_whole(path, content)

    monkeypatch.setattr("pipelines.bag.write.write_whole", stopped)
    with pytest.raises(KeyboardInterrupt) as stop:
        import_bag(bag, tmp_path / "out")
    assert stop.value.__notes__ == [f"nothing is kept: the import into {tmp_path / 'out'} begins anew"]
    monkeypatch.undo()
    assert import_bag(bag, tmp_path / "out").sweeps == SWEEPS


def test_a_transform_that_is_no_rotation_names_its_frames(tmp_path):
    bag = write_bag(tmp_path / "bag", "mcap", length=0.5)
    with pytest.raises(DatasetError, match="the transform from base_link to odom on /tf has the quaternion") as error:
        import_bag(bag, tmp_path / "out")
    assert error.value.path == str(bag)
    assert error.value.remedy


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/front/image_rect", True),
        ("/front/image_rect_color", True),
        ("/front/image_rectified", True),
        ("/front/rect/image", True),
        ("/front/image_rect/compressed", True),
        ("/front/image_raw", False),
        ("/front/image_unrectified", False),
        ("/front_direct/image", False),
        ("/direct/image_color", False),
    ],
)
def test_a_topic_says_whether_its_images_are_rectified(topic, rectified):
    assert CameraTopic("front", topic, "/front/camera_info").rectified == rectified


@pytest.mark.parametrize("kind", ["ros1", "mcap"])
def test_a_damaged_bag_is_told(kind, tmp_path):
    bag = write_bag(tmp_path / NAMES[kind], kind)
    file = bag if kind == "ros1" else next(bag.glob("*.mcap"))
    whole = file.read_bytes()
    for content in (b"", b"no bag at all", whole[: len(whole) // 3], b"\xff" * 64 + whole[64:]):
        file.write_bytes(content)
        with pytest.raises(DatasetError, match="cannot be read"):
            import_bag(bag, tmp_path / "out")
    with pytest.raises(DatasetError, match="no such bag"):
        list_topics(tmp_path / "nowhere.mcap")


@pytest.mark.parametrize("name", ["calib.txt", "drive", "drive.MCAP"])
def test_a_file_of_another_ending_is_told_and_renaming_a_bag_is_enough(name, tmp_path):
    (mcap,) = write_bag(tmp_path / "bag", "mcap").glob("*.mcap")
    other = mcap.rename(tmp_path / name)
    with pytest.raises(DatasetError, match="no bag by its name") as refused:
        import_bag(other, tmp_path / "out")
    assert "is to be renamed" in refused.value.remedy
    assert list_topics(other.rename(tmp_path / "renamed.mcap"))


def test_a_lone_mcap_file_is_a_bag_too(tmp_path):
    bag = write_bag(tmp_path / "bag", "mcap")
    (file,) = bag.glob("*.mcap")
    assert import_bag(file, tmp_path / "out").sweeps == SWEEPS


def test_a_bag_without_images_says_so():
    """Not that the calibration is missing."""
    topics = [Topic("/points", POINTS, 6, 10.0), Topic("/imu", "sensor_msgs/msg/Imu", 60, 100.0)]
    with pytest.raises(ConfigError, match="no topic of images"):
        choose(topics, None, (), Path("bag"))
    with pytest.raises(ConfigError, match="Images: none"):
        choose(topics, None, ("/nope",), Path("bag"))


@pytest.mark.parametrize(
    ("images", "infos", "taken", "told"),
    [
        (["/camera/debug_image", "/camera/image_raw"], ["/camera"], ["/camera/image_raw"], ["/camera/debug_image"]),
        (["/camera/det/image", "/camera/image_raw"], ["/camera"], ["/camera/image_raw"], ["/camera/det/image"]),
        (["/camera/image_mono", "/camera/image_raw"], ["/camera"], ["/camera/image_raw"], []),
        (["/front/image_raw", "/image_raw"], [""], ["/image_raw"], ["/front/image_raw"]),
        (["/a/image_raw", "/a/image_raw/compressed", "/b/image_raw"], ["/a"], ["/a/image_raw"], ["/b/image_raw"]),
        (
            ["/a/color/image_raw", "/b/image/compressed"],
            ["/a", "/b"],
            ["/a/color/image_raw", "/b/image/compressed"],
            [],
        ),
        (["/a/depth/image/compressedDepth", "/a/depth/image"], ["/a/depth"], ["/a/depth/image"], []),
    ],
)
def test_a_camera_info_goes_to_its_own_images_and_others_are_told(images, infos, taken, told):
    topics = [Topic("/points", POINTS, 6, 10.0), *(Topic(f"{i}/camera_info", INFO, 6, 10.0) for i in infos)]
    topics += [Topic(name, COMPRESSED if "compressed" in name else IMAGE, 6, 10.0) for name in images]
    _, cameras = choose(topics, None, (), Path("bag"))
    assert [camera.images for camera in cameras] == taken
    warnings = passed_over(topics, cameras)
    assert [re.search(r"not used: (\S+)\. ", text)[1] for text in warnings] == told
    assert all(("--camera" in text) == ("/b/" not in text) for text in warnings)


@pytest.mark.parametrize("named", [(), ("/front/image_raw",)])
def test_topics_that_are_not_used_are_told_unless_cameras_are_named(named, tmp_path, monkeypatch):
    rear = Topic("/rear/image_raw", IMAGE, 6, 10.0)
    monkeypatch.setattr("pipelines.bag.convert.list_topics", lambda path: [*list_topics(path), rear])
    summary = import_bag(write_bag(tmp_path / "bag", "mcap"), tmp_path / "out", cameras=named, limit=1)
    told = [text for text in summary.warnings if text.startswith("1 topic of images not used: /rear/image_raw. ")]
    assert len(told) == (0 if named else 1)


def test_an_import_that_was_stopped_begins_anew(tmp_path, monkeypatch):
    """The same command again, as Ctrl-C and a full disk advise."""
    bag, left = write_bag(tmp_path / "bag", "mcap"), iter(range(5))
    whole = import_bag(bag, tmp_path / "whole")

    def stopped(path, content):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return write_whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.bag.write.write_whole", stopped)
        with pytest.raises(KeyboardInterrupt):
            import_bag(bag, tmp_path / "out", apart_ms=20)
    assert import_bag(bag, tmp_path / "out").sweeps == whole.sweeps
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_imports_into_one_folder_do_not_mix(tmp_path, monkeypatch):
    """The second is refused while the first writes, and when it has written since the second began."""
    bag, refused = write_bag(tmp_path / "bag", "mcap"), []
    whole = import_bag(bag, tmp_path / "whole")

    def meanwhile(path, content):
        if not refused:
            with pytest.raises(ConfigError, match="another import is writing to this folder") as error:
                import_bag(bag, tmp_path / "out", every=2)
            refused.append(error.value.path)
        return write_whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.bag.write.write_whole", meanwhile)
        assert import_bag(bag, tmp_path / "out").sweeps == whole.sweeps
    assert refused == [str(tmp_path / "out")]

    def slow(path):
        with monkeypatch.context() as undone:
            undone.setattr("pipelines.bag.convert.list_topics", list_topics)
            import_bag(bag, tmp_path / "late")
        return list_topics(path)

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.bag.convert.list_topics", slow)
        with pytest.raises(ConfigError, match="not an empty folder"):
            import_bag(bag, tmp_path / "late", every=2)
    for name in ("out", "late"):
        assert contents(tmp_path / name) == contents(tmp_path / "whole")
