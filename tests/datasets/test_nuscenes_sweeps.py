"""Earlier sweeps, against the devkit's own joining of sweeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud

from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.errors import DatasetError, FrameError
from pipelines.precompute.compute_frame import earlier_cloud
from tests.helpers.earlier_sweeps import VERSION, add_earlier_sweeps
from tests.helpers.mini_nuscenes import write_mini_nuscenes


@pytest.fixture
def root(tmp_path):
    return add_earlier_sweeps(write_mini_nuscenes(tmp_path, scenes=2, frames=2))


@pytest.mark.parametrize("sweeps", [1, 3, 20])  # 20: more than there are, across key frames
def test_earlier_points_are_those_of_the_devkit(root, sweeps):
    devkit = NuScenes(VERSION, str(root), verbose=False)
    samples = {sample["data"]["LIDAR_TOP"]: sample for sample in devkit.sample}
    for frame in nuscenes.frames(root, VERSION, ("train", "val"), sweeps=sweeps):
        cloud, lag = LidarPointCloud.from_file_multisweep(
            devkit, samples[frame.token], "LIDAR_TOP", "LIDAR_TOP", nsweeps=sweeps + 1
        )
        before = cloud.points[:, lag[0] > 0]
        ours = nuscenes.earlier_points(frame)
        np.testing.assert_allclose(ours.xyz, before[:3].T, atol=2e-4)
        np.testing.assert_array_equal(ours.intensity, before[3] / np.float32(255))
        assert len(frame.earlier) == min(sweeps, 3 + 4 * frame.index)
        assert len(ours) > 0
        times = [sweep.timestamp_us for sweep in frame.earlier]
        assert times == sorted(times, reverse=True)
        assert times[0] == frame.timestamp_us - 50_000


def test_without_being_asked_for_there_are_none(root):
    frames = nuscenes.frames(root, VERSION, ("train",))
    assert [frame.earlier for frame in frames] == [(), ()]
    assert len(nuscenes.earlier_points(frames[0])) == 0


def test_a_sweep_that_is_missing_matters_only_to_who_asks_for_it(root):
    path = root / VERSION / "sample_data.json"
    rows = json.loads(path.read_text())
    gone = next(row for row in rows if not row["is_key_frame"])
    path.write_text(json.dumps([row for row in rows if row is not gone]))
    assert len(nuscenes.frames(root, VERSION, ("train", "val"))) == 4
    with pytest.raises(DatasetError, match=rf"sweep {gone['token']}, which lies before .* is missing") as caught:
        nuscenes.frames(root, VERSION, ("train", "val"), sweeps=3)
    assert caught.value.path == str(path)
    assert "use no earlier sweeps" in caught.value.remedy


def test_an_earlier_sweep_that_lies_far_away_is_told_as_that(root):
    frame = nuscenes.frames(root, VERSION, ("train",), sweeps=1)[0]
    (sweep,) = frame.earlier
    away = sweep.lidar_from_earlier.copy()
    away[0, 3] += 3000
    frame = replace(frame, earlier=(replace(sweep, lidar_from_earlier=away),))
    job = SimpleNamespace(dataset=nuscenes)
    with pytest.raises(FrameError, match=rf"of its earlier sweeps, {Path(sweep.points_path).name}, .* farther than"):
        earlier_cloud(frame, job)


def test_a_damaged_sweep_names_its_file_and_the_frame(root):
    frame = nuscenes.frames(root, VERSION, ("train",), sweeps=2)[0]
    with open(frame.earlier[1].points_path, "r+b") as file:
        file.truncate(1001)
    with pytest.raises(FrameError, match="cut off") as caught:
        nuscenes.earlier_points(frame)
    assert (caught.value.path, caught.value.frame) == (frame.earlier[1].points_path, frame.token)
