"""Which sweeps are told of, and which are not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cache_schemas import CameraRow
from ovps.cache.sweeps import sweep_statistics, sweep_warnings
from tests.helpers.synthetic_store import camera_row


@dataclass
class Sweep:
    token: str
    points: int
    beyond_range: int = 0
    cameras: tuple[CameraRow, ...] = field(default=())
    global_from_lidar: tuple[float, ...] = tuple(np.eye(4).ravel().tolist())
    labelled: bool = False
    objects: int = 0
    voxels: int = 0

    def __post_init__(self) -> None:
        self.voxels = self.voxels or self.points // 4


def camera(channel, seen):
    row = camera_row(channel, 1600, 900, seen)
    return row.model_copy(
        update={"camera_from_lidar": (*row.camera_from_lidar[:3], len(channel), *row.camera_from_lidar[4:])}
    )


def sweeps_of(counts):
    return [Sweep(f"frame-{number}", int(count)) for number, count in enumerate(counts)]


def test_none():
    assert sweep_statistics([]) is None
    assert sweep_warnings([]) == ()


def test_shares_are_of_the_points_of_the_frames_with_that_camera():
    sweeps = [
        Sweep("a", 100, 10, (camera("LEFT", 50), camera("RIGHT", 0))),
        Sweep("b", 300, 0, (camera("LEFT", 30),)),
    ]
    found = sweep_statistics(sweeps)
    assert found.seen_share == {"LEFT": 0.2, "RIGHT": 0.0}
    assert found.beyond_range_share == 10 / 400
    assert (found.points_least, found.points_least_frame, found.points_median) == (100, "a", 200)


@given(st.integers(0, 2**32 - 1), st.integers(60, 200), st.floats(0, 0.1))  # a few sweeps may look alike by chance
def test_a_spread_of_its_own_is_no_outlier_but_half_a_sweep_is(seed, frames, spread):
    """From the constant sweeps of one LiDAR to the varying ones of another."""
    counts = 100_000 * (1 + spread * np.random.default_rng(seed).uniform(-1, 1, frames))
    assert sweep_warnings(sweeps_of(counts)) == ()
    counts[3] = min(counts) / 4
    (warning,) = sweep_warnings(sweeps_of(counts))
    assert "frame-3" in warning
    assert f"1 of {frames} frames" in warning


def test_five_percent_are_told_where_sweeps_are_alike():
    """As those of nuScenes are: 34,688 and 34,720 points are its two real ones at hand."""
    counts = [34_688, 34_720, 34_688, 34_752, 34_656, 34_720]
    assert sweep_warnings(sweeps_of(counts)) == ()
    (warning,) = sweep_warnings(sweeps_of([*counts, 0.95 * 34_688]))
    assert "32,953 (frame frame-6)" in warning


@pytest.mark.parametrize(
    ("points", "voxels", "told"),
    [
        (30_000, 300, None),
        (30_000, 299, "100 points share a voxel"),
        (30_000, 1, "30,000 points share a voxel"),
        (30_000, 29_800, None),
        (30_000, 29_900, "nearly every point has a voxel of its own"),
        (900, 900, None),
    ],
)
def test_a_grid_in_other_units_is_told(points, voxels, told):
    warnings = sweep_warnings([Sweep("a", points, voxels=voxels), Sweep("b", points, voxels=voxels)])
    assert len(warnings) == (told is not None)
    assert all(told in warning and "its cells in metres" in warning for warning in warnings)


def test_too_few_frames_say_nothing_of_a_spread():
    assert sweep_warnings(sweeps_of([100, 100, 100, 50])) == ()


def test_one_sentence_a_camera_however_many_frames():
    sweeps = [Sweep(str(n), 100, 0, (camera("UP", 0), camera("FRONT", 30))) for n in range(50)]
    (warning,) = sweep_warnings(sweeps)
    assert warning.startswith("UP sees no point in 50 of 50 frames")


def test_points_beyond_the_range_are_told_when_they_are_many():
    assert sweep_warnings([Sweep("a", 100, 16)]) == (), "as in a recording with returns to 231 m"
    (warning,) = sweep_warnings([Sweep("a", 100, 60)])
    assert warning.startswith("60% of the points")


def poses(order, world=np.eye(3)):
    """A drive round a block on a hill, with quaternions read in some order; `world` says which way is up."""
    sweeps = []
    for number, yaw in enumerate(np.linspace(0, 350, 36)):
        turn = Rotation.from_euler("zy", [yaw, 12 * np.sin(number)], degrees=True)
        x, y, z, w = turn.as_quat()
        pose = np.eye(4)
        read = {"wxyz": (x, y, z, w), "xyzw": (y, z, w, x)}[order]  # scipy has w last
        pose[:3, :3] = world @ Rotation.from_quat(read).as_matrix()
        sweeps.append(Sweep(str(number), 100, global_from_lidar=tuple(pose.ravel().tolist())))
    return sweeps


def test_quaternions_in_another_order_tilt_the_lidar():
    camera_world = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # KITTI's: y is down
    assert sweep_warnings(poses("wxyz")) == sweep_warnings(poses("wxyz", camera_world)) == ()
    (warning,) = sweep_warnings(poses("xyzw"))
    assert "(x, y, z, w) in place of (w, x, y, z)" in warning


def test_labels_of_no_class_are_told_and_frames_without_labels_are_not():
    def sweeps(*objects):
        """With labels where a number of objects is given."""
        return [Sweep(f"frame-{i}", 100, labelled=n is not None, objects=n or 0) for i, n in enumerate(objects)]

    assert sweep_warnings(sweeps(None, None)) == sweep_warnings(sweeps(3, None, 1)) == ()
    (warning,) = sweep_warnings(sweeps(None, 3, 0, 0))
    assert warning.startswith("2 of 3 frames with labels have not one labelled point, the first is frame-2:")
    (warning,) = sweep_warnings(sweeps(None, 0, 0))
    assert warning.startswith("not one point of 2 frames with labels is labelled")
    assert "raw_to_id" in warning


def test_cameras_that_stand_in_one_place_and_look_the_same_way():
    def at(channel, x, yaw=0.0):
        pose = np.eye(4)
        pose[:3, :3], pose[0, 3] = Rotation.from_euler("y", yaw, degrees=True).as_matrix(), x
        return camera_row(channel, 1600, 900, 5).model_copy(update={"camera_from_lidar": tuple(pose.ravel())})

    stereo = [Sweep("a", 10, cameras=(at("LEFT", 0.0), at("RIGHT", 0.06), at("BACK", 0.0, 180.0)))]
    assert not any("in one place" in warning for warning in sweep_warnings(stereo))
    copied = [Sweep("a", 10, cameras=(at("LEFT", 0.0), at("RIGHT", 0.0), at("BACK", 0.0, 180.0)))] * 2
    (warning,) = [warning for warning in sweep_warnings(copied) if "in one place" in warning]
    assert warning.startswith("LEFT and RIGHT stand in one place and look the same way in 2 of 2 frames")
