"""Places of frames between the times that a bag knows, against scipy's interpolation of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.spatial.transform import Rotation, Slerp

from pipelines.bag.transforms import Frames, Link


@given(st.lists(st.integers(0, 5 * 10**8), min_size=2, max_size=8, unique=True), st.integers(0, 10**6), st.floats(0, 1))
def test_a_place_lies_between_its_neighbours_in_time_whatever_order_they_came_in(times, seed, share):
    rng = np.random.default_rng(seed)
    link = Link("map")
    matrices = np.tile(np.eye(4), (len(times), 1, 1))
    matrices[:, :3, :3] = Rotation.random(len(times), random_state=seed).as_matrix()
    matrices[:, :3, 3] = rng.normal(0, 10, (len(times), 3))
    for time, matrix in zip(times, matrices, strict=True):
        link.times.append(time)
        link.matrices.append(matrix)
    order = np.argsort(times)
    known = np.array(times)[order]
    asked = int(known[0] + share * (known[-1] - known[0]))
    found = link.at(asked)
    assert found is not None
    turned = Slerp(known / 1e9, Rotation.from_matrix(matrices[order, :3, :3]))(asked / 1e9).as_matrix()
    np.testing.assert_allclose(found[:3, :3], turned, atol=1e-6)
    np.testing.assert_allclose(found[:3, 3], interp1d(known, matrices[order, :3, 3], axis=0)(asked), atol=1e-6)
    assert link.at(int(known[0]) - 1) is None
    assert link.at(int(known[-1]) + 1) is None


def driven(times, metres) -> Link:
    link = Link("map", list(times), [np.eye(4) for _ in times])
    for matrix, x in zip(link.matrices, metres, strict=True):
        matrix[0, 3] = x
    return link


@pytest.mark.parametrize(
    ("times", "metres", "known"),
    [
        ([0, 1, 2, 3, 20, 21], [0, 1, 2, 3, 20, 21], False),  # tenths of seconds
        ([0, 1, 2, 3, 20, 21], [0, 1, 2, 2, 2.1, 3], True),  # it stood, and nothing was published
        ([0, 1, 2, 3, 7, 8], [0, 1, 2, 3, 7, 8], True),  # some were lost
        ([0, 10, 20, 30, 40, 60], [0, 10, 20, 30, 40, 60], True),  # one a second
        ([0, 10, 20, 30, 65, 75], [0, 10, 20, 30, 65, 75], False),
    ],
)
def test_nobody_knows_the_way_in_a_dropout_of_a_frame_that_moves(times, metres, known):
    link = driven([10**8 * time for time in times], metres)
    asked = 10**8 * (times[3] + times[4]) // 2
    place = link.at(asked)
    assert (place is not None) == known
    if place is not None:
        assert place[0, 3] == pytest.approx((metres[3] + metres[4]) / 2)
    for time, x in zip(link.times, metres, strict=True):
        assert link.at(time)[0, 3] == x


def test_a_turn_on_the_spot_is_a_movement():
    link = driven([0, 10**8, 2 * 10**8, 2 * 10**9], [0, 0, 0, 0])
    assert link.at(10**9) is not None
    link.matrices[3][:3, :3] = Rotation.from_euler("z", 2, degrees=True).as_matrix()
    assert link.at(10**9) is None


def moved(x: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = x
    return matrix


def test_what_is_not_used_of_frames_is_told():
    frames = Frames()
    frames.add("lidar", "camera", 0, moved(1.0), static=True)
    frames.add("lidar", "camera", 1, moved(1.0 + 1e-6))
    assert frames.warnings() == []
    frames.add("base", "camera", 0, moved(0.5), static=True)
    frames.add("lidar", "camera", 2, moved(1.7))
    second, elsewhere = sorted(frames.warnings(), key=len)
    assert second == "camera has a place in base and one in lidar: the latter is taken"
    assert elsewhere.startswith("/tf places camera in lidar elsewhere than /tf_static, up to 0.7 apart")
    assert frames.still_between("camera", "lidar")[0, 3] == 1.0


def test_a_movement_is_known_where_all_of_its_links_are():
    frames = Frames()
    for time in range(11):
        frames.add("odom", "base", time * 10**8, moved(time))
    for time in (2, 4, 6):
        frames.add("map", "odom", time * 10**8, moved(100 + time))
    frames.add("earth", "map", 0, moved(1000.0), static=True)
    frames.add("base", "lidar", 0, moved(0.1), static=True)
    odom, earth = frames.moving("lidar", None), frames.moving("lidar", "earth")
    assert (odom.frame, odom.world, earth.frame, earth.world) == ("base", "odom", "base", "earth")
    assert (odom.known, earth.known) == ((0, 10**9), (2 * 10**8, 6 * 10**8))
    assert earth.at(3 * 10**8)[0, 3] == pytest.approx(1000 + 103 + 3)
    assert earth.at(10**8) is None
    assert odom.at(10**8)[0, 3] == 1.0
    assert frames.moving("lidar", "moon") is None
    assert frames.moving("lidar", "base").still
