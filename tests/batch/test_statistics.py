import os

import numpy as np
import pytest
import torch

from ovps.batch.loader import training_frames
from ovps.batch.statistics import ClipStatistics, load_statistics, measure, save_statistics
from ovps.cache.reader import Store
from ovps.errors import CheckpointError


def test_mean_and_distance_of_the_training_frames_only(store, tmp_path):
    opened = Store.open(store)
    frames = training_frames(opened, ("train",))
    rows = np.concatenate([f.clip[f.valid] for f in map(opened.read, frames)]).astype(np.float64)
    found = measure(opened, frames, limit=100)
    assert np.allclose(found.mean, rows.mean(axis=0), atol=1e-7)
    assert found.mean_l1 == pytest.approx(np.abs(rows - rows.mean(axis=0)).sum(axis=1).mean(), rel=1e-6)

    save_statistics(found, tmp_path / "statistics.safetensors")
    read = load_statistics(tmp_path / "statistics.safetensors")
    assert read.mean_l1 == found.mean_l1
    assert np.array_equal(read.mean, found.mean)


def test_a_sample_of_the_frames_is_spread_over_them(store):
    opened = Store.open(store)
    frames = training_frames(opened, ("train",))
    ends = [frames[0], frames[-1]]
    assert measure(opened, frames, limit=2).mean_l1 == measure(opened, ends, limit=9).mean_l1


def test_damaged_statistics_are_refused(tmp_path):
    path = tmp_path / "statistics.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="statistics"):
        load_statistics(path)


def test_a_number_that_is_another_than_was_written_is_damage(tmp_path):
    path = tmp_path / "statistics.safetensors"
    save_statistics(ClipStatistics(torch.arange(5.0), 0.25), path)
    assert load_statistics(path).mean_l1 == 0.25
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError,
        match=r"not what was written.*statistics\.safetensors.*train again: ovps train --restart, with",
    ):
        load_statistics(path)


def test_they_are_found_in_a_folder_whose_name_is_not_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"b\xe4d")
    folder.mkdir()
    save_statistics(ClipStatistics(torch.ones(3), 0.25), folder / "statistics.safetensors")
    assert load_statistics(folder / "statistics.safetensors").mean_l1 == 0.25
