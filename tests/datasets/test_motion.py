"""Poses that no vehicle has."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ovps import datasets
from ovps.datasets.motion import odd_motion
from ovps.frame import Camera, Frame
from tests.helpers.mini_nuscenes import write_mini_nuscenes

SENSOR = Rotation.from_euler("z", 90, degrees=True)  # x of the vehicle is y of the LiDAR, as on nuScenes


def drive(
    heading: np.ndarray, *, order: str = "wxyz", world: Rotation | None = None, slope: float = 0.0
) -> list[Frame]:
    """Frames 5 m apart along a heading (N,) in degrees; the rotation's numbers are read in another order than wxyz."""
    world = world or Rotation.identity()
    frames, place = [], np.zeros(3)
    for number, yaw in enumerate(heading):
        own = world * Rotation.from_euler("z", yaw, degrees=True) * Rotation.from_euler("y", slope, degrees=True)
        place = place + own.apply([5.0, 0.0, 0.0])
        x, y, z, w = own.as_quat()
        read = {"wxyz": [x, y, z, w], "xyzw": [y, z, w, x]}[order]  # scipy's order: (x, y, z, w) taken for (w, x, y, z)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = (Rotation.from_quat(read) * SENSOR).as_matrix(), place
        frames.append(Frame("plain", "1", "val", "drive", str(number), number, number, "points", None, (), pose))
    return frames


@pytest.mark.parametrize("slope", [0.0, 15.0])
@pytest.mark.parametrize("world", [None, Rotation.from_euler("x", 90, degrees=True)])  # the world of a camera
@pytest.mark.parametrize("heading", [[0] * 8, [90] * 8, range(0, 360, 30), [200, 180, 160, 140]])
def test_a_vehicle_may_drive_where_it_will(heading, world, slope):
    assert odd_motion(drive(heading, world=world, slope=slope)) == []


@pytest.mark.parametrize("heading", [[90] * 8, [60] * 4, range(0, 100, 20), [270] * 3])
def test_a_rotation_in_another_order_lays_the_vehicle_on_its_side(heading):
    (said,) = odd_motion(drive(heading, order="xyzw"))
    assert said.startswith("in drive the LiDAR moves along its own z axis")


def test_scenes_are_judged_apart():
    frames = [*drive([0] * 4), *(replace(f, scene="other") for f in drive([90] * 4, order="xyzw"))]
    assert odd_motion(frames)[0].startswith("in other the LiDAR")


def test_who_stands_moves_nowhere_though_its_height_trembles():
    still = drive([0] * 200)
    for number, frame in enumerate(still):
        pose = np.eye(4)
        pose[2, 3] = 0.3 * (number % 3)
        still[number] = replace(frame, global_from_lidar=pose)
    assert odd_motion(still) == []


def test_whatever_the_data_set_it_is_told(tmp_path):
    class Plain:
        name = "plain"

    assert datasets.warnings_of(Plain(), tmp_path, drive([90] * 4, order="xyzw"))


def seen(frame: Frame, late_us: int, ahead: float) -> Frame:
    """The frame with an image that was taken later, after the vehicle has driven some metres ahead."""
    pose = np.eye(4)  # a camera in the place of the LiDAR
    pose[1, 3] = -ahead
    camera = Camera("front", "image", 100, 100, np.eye(3), pose, frame.timestamp_us + late_us)
    return replace(frame, cameras=(camera,))


@pytest.mark.parametrize(
    ("late_us", "ahead", "told"),
    [
        (50_000, [1.5] * 4, 0),  # 30 m/s
        (20_000, [0, 0, 8.0, 0], 1),  # 400 m/s
        (0, [0, 0, 8.0, 8.0], 1),
        (0, [0.0, 0.5, 0, 0], 0),
        (100_000, [0, 0, 8.0, 0], 0),  # as fast as a racing car
    ],
)
def test_a_vehicle_does_not_jump_between_sweep_and_image(late_us, ahead, told):
    frames = [seen(frame, late_us, x) for frame, x in zip(drive([0] * 4), ahead, strict=True)]
    found = odd_motion(frames)
    assert len(found) == told
    assert all("jumps between sweep and image of front in " in text for text in found)


@pytest.mark.parametrize(
    ("ahead", "times", "told"),
    [
        ([0, 5, 10, 15], [0, 100, 200, 300], None),  # 50 m/s
        ([0, 500, 2, 3], [0, 100, 200, 300], "up to 5,000 m/s, in 2 of 3 steps between sweeps, the first of 500 m"),
        ([0, 500, 501, 502], [0, 20_000, 20_100, 20_200], None),  # sweeps in between were left out
        ([0, 3, 6, 9], [0, 199, 200, 399], None),  # times of their arrival tremble
        ([0, 3, 300, 303], [0, 0, 0, 0], None),  # no times: told of elsewhere
    ],
)
def test_a_vehicle_does_not_jump_between_sweeps(ahead, times, told):
    frames = []
    for frame, x, time in zip(drive([0] * 4), ahead, times, strict=True):
        pose = np.eye(4)
        pose[0, 3] = x
        frames.append(replace(frame, global_from_lidar=pose, timestamp_us=1000 * time))
    found = odd_motion(frames)
    assert len(found) == (told is not None)
    assert all(text.startswith(f"in drive the vehicle would drive at {told}") for text in found)
    both = odd_motion([*frames, *(replace(frame, scene="next") for frame in frames)])
    assert all(text.startswith("in drive, next the vehicle") for text in both), "a step is none from scene to scene"


def changed_tables(root, **changes):
    """Change rows of key frames of CAM_FRONT in sample_data.json: a value, or what makes it of the one before."""
    file = root / "v1.0-trainval" / "sample_data.json"
    rows = json.loads(file.read_text())
    for row in rows:
        if row["is_key_frame"] and "CAM_FRONT/" in row["filename"]:
            row |= {name: value(row[name]) if callable(value) else value for name, value in changes.items()}
    file.write_text(json.dumps(rows))
    nuscenes = datasets.get("nuscenes")
    frames = nuscenes.frames(root, "v1.0-trainval", ("train", "val"))
    return list(datasets.warnings_of(nuscenes, root, frames)), frames


def test_files_of_several_frames_are_told(tmp_path):
    root, first = write_mini_nuscenes(tmp_path / "world"), {}
    assert changed_tables(root)[0] == []
    (told,), frames = changed_tables(root, filename=lambda name: first.setdefault("", name))
    assert f"1 files are those of several frames or sensors by sample_data.json, the first is {root}" in told
    assert f"({len(frames)} times)" in told


@pytest.mark.parametrize(("late_us", "said"), [(250_000, None), (250_001, "250 ms"), (3_000_000, "3 s")])
def test_images_far_from_their_sweep_are_told(tmp_path, late_us, said):
    root = write_mini_nuscenes(tmp_path / "world")
    (frame, *_) = changed_tables(root)[1]
    there = {camera.channel: camera.timestamp_us - frame.timestamp_us for camera in frame.cameras}["CAM_FRONT"]
    told, _ = changed_tables(root, timestamp=lambda time: time + late_us - there)
    assert len(told) == (said is not None)
    assert all(
        text.startswith("the image of CAM_FRONT and its sweep ") and f" are {said} apart" in text for text in told
    )
