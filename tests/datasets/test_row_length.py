"""The length of the rows of a file without a header: wrong ones are told, right ones never suspected."""

from __future__ import annotations

import numpy as np
import pytest

from ovps.datasets.folder.row_length import row_length
from tests.helpers.recording import rows_of
from tests.helpers.spinning import BEAMS, spinning_sweep

COUNTS = (3, 4, 5, 6, 7, 8, 12)


def columns(count):
    return [*"xyz", *(f"c{place}" for place in range(3, count))]


def layouts(sweep):
    """Rows as programs write them, by name."""
    rng = np.random.default_rng(1)
    xyz, light = sweep[:, :3], sweep[:, 3:4]
    one, nought = np.ones_like(light), np.zeros_like(light)
    ring = np.resize(np.arange(BEAMS), light.shape)
    time = np.linspace(0, 0.1, len(light))[:, None]
    normal = rng.normal(size=xyz.shape)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    colours = rng.integers(0, 256, xyz.shape)
    parts = {
        "coordinates": [xyz],
        "KITTI": [xyz, light],
        "nuScenes": [xyz, np.round(255 * light), ring],
        "rings and times": [xyz, light, ring, time],
        "colours": [xyz, colours],
        "normals": [xyz, normal],
        "PointXYZI of PCL": [xyz, one, light, nought, nought, nought],
        "PointNormal of PCL": [xyz, one, normal, nought, light, nought, nought, nought],
    }
    return {name: np.concatenate(columns, axis=1).astype(np.float32) for name, columns in parts.items()}


def orders(rows):
    """The same rows otherwise, by name."""
    rng = np.random.default_rng(2)
    twice = np.repeat(rows, 2, axis=0)
    twice[1::2, :3] *= 1 + 0.3 * (rng.random((len(rows), 1)) < 0.2)
    every_other, some, nan = np.repeat(rows, 2, axis=0), rows.copy(), rows.copy()
    every_other[1::2], some[rng.random(len(rows)) < 0.3], nan[rng.random(len(rows)) < 0.3, :3] = 0, 0, np.nan
    return {
        "pulse after pulse": rows,
        "beam after beam": rows.reshape(-1, BEAMS, rows.shape[1]).transpose(1, 0, 2).reshape(rows.shape),
        "shuffled": rng.permutation(rows),
        "ahead alone": rows[rows[:, 0] > 0],
        "two returns": twice,
        "a second return that is never there": every_other,
        "without some returns": some,
        "with NaN": nan,
        "on the ground": rows + np.float32([0, 0, 1.8, *[0] * (rows.shape[1] - 3)]),
    }


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("layout", layouts(spinning_sweep(1)))
def test_the_right_length_is_never_suspected(layout, alternating):
    rows = layouts(spinning_sweep(150, alternating))[layout]
    for name, others in orders(rows).items():
        assert row_length(others.ravel(), columns(rows.shape[1])) is None, name


@pytest.mark.parametrize("order", ["beam after beam", "shuffled"])
@pytest.mark.parametrize("layout", ["KITTI", "nuScenes", "rings and times", "PointXYZI of PCL"])
def test_a_wrong_length_is_told_with_the_right_one(layout, order):
    rows = layouts(spinning_sweep(200))[layout]
    values = orders(rows)[order].ravel()
    for count in COUNTS:
        if count != rows.shape[1]:
            assert row_length(values, columns(count)) == rows.shape[1], count


def test_the_names_may_stand_in_any_order():
    rows = layouts(spinning_sweep())["PointXYZI of PCL"]
    assert row_length(rows.ravel(), ["x", "z", "intensity", "y"]) == 8
    assert row_length(rows[:, [3, 0, 1, 2]].ravel(), ["intensity", "x", "y", "z"]) is None


def test_what_tells_nothing_is_not_suspected():
    rng = np.random.default_rng(4)
    for values in (
        spinning_sweep(20).ravel(),  # too few
        np.zeros(40_000, np.float32),
        np.full(40_000, np.nan, np.float32),
        rng.normal(size=40_000).astype(np.float32),
        rng.permutation(spinning_sweep().ravel()),
    ):
        for count in COUNTS:
            assert row_length(values, columns(count)) is None


def test_bytes_of_another_type_are_not_taken_for_other_columns():
    """A type that is wrong is another mistake, which reading tells."""
    rows = spinning_sweep(200)
    with np.errstate(all="ignore"):
        for count in COUNTS:
            assert row_length(np.frombuffer(rows.astype("<f8").tobytes(), "<f4"), columns(count)) is None
            assert row_length(np.frombuffer(rows.tobytes(), "<f8"), columns(count)) is None


def test_the_small_recordings_of_the_tests_are_right():
    assert row_length(np.concatenate([rows_of(number) for number in range(4)]).ravel(), columns(4)) is None


def test_real_sweeps_are_right_as_they_are_and_wrong_otherwise(real_nuscenes):
    root = real_nuscenes.parent
    found = [(path, 4) for path in root.glob("*/sequences/*/velodyne/*.bin")]
    found += [(path, 5) for path in root.glob("nuscenes*/samples/LIDAR_TOP/*.bin")]
    assert len(found) > 10
    sweeps = [np.fromfile(path, np.float32).reshape(-1, right) for path, right in found]
    for path in root.glob("ddad/**/point_cloud/LIDAR/*.npz"):
        with np.load(path) as archive:
            sweeps.append(archive[archive.files[0]].astype(np.float32))
    assert len(sweeps) > len(found)
    for rows in sweeps:
        right = rows.shape[1]
        assert [row_length(rows.ravel(), columns(count)) for count in (3, right, 8)] == [right, None, right]
