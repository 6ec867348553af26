"""Frames of a store as tensors, for trainers of others."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ovps.batch.frames import FrameDataset, FrameTensors, join_frames
from ovps.cache.layout import partition_key
from ovps.cache.manifest import read_manifests
from ovps.cache.reader import Store
from ovps.cache.where import storage_of
from ovps.errors import ConfigError, CorruptStoreError
from tests.helpers.synthetic_store import write_synthetic_store


@pytest.fixture(scope="module", params=["cells", "dense"])
def path(request, tmp_path_factory):
    return write_synthetic_store(tmp_path_factory.mktemp("frames") / request.param, codec=request.param, frames=3)


def test_a_frame_is_that_of_the_reader(path):
    store = Store.open(path)
    dataset = FrameDataset(path)
    assert len(dataset) == len(store.frames)
    for ref, frame in zip(store.frames, (dataset[number] for number in range(len(dataset))), strict=True):
        read = store.read(ref)
        assert frame.tokens == (ref.token,)
        np.testing.assert_allclose(frame.features().numpy(), read.clip, atol=1e-6)
        for name in ("xyz", "intensity", "point_voxel", "coords", "valid"):
            np.testing.assert_array_equal(getattr(frame, name).numpy(), getattr(read, name))
        np.testing.assert_array_equal(frame.label.numpy(), read.label)


def test_no_frames_are_no_batch():
    with pytest.raises(ConfigError, match="no frames to join"):
        join_frames([])


def test_a_batch_holds_its_frames_one_after_another(path):
    assert len(FrameDataset(path, subset=["train", "val"])) == len(FrameDataset(path))
    dataset = FrameDataset(path, subset="val")
    frames = [dataset[number] for number in range(len(dataset))]
    batch = join_frames(part for part in (join_frames(frames[:2]), frames[2]))
    assert batch.tokens == tuple(token for frame in frames for token in frame.tokens)
    assert torch.equal(batch.features(), torch.cat([frame.features() for frame in frames]))
    for number, frame in enumerate(frames):
        points, voxels = batch.point_frame == number, batch.voxel_frame == number
        assert torch.equal(batch.xyz[points], frame.xyz)
        assert torch.equal(batch.coords[voxels], frame.coords)
        assert torch.equal(batch.coords[batch.point_voxel[points]], frame.coords[frame.point_voxel])


def test_a_gradient_reaches_the_cells(path):
    frame = FrameDataset(path)[0]
    frame.cells.requires_grad_()
    frame.features().sum().backward()
    shares = torch.zeros(len(frame.cells)).index_add_(0, frame.cell, frame.share)
    torch.testing.assert_close(frame.cells.grad[:, 0], shares)


def test_loader_processes_read_it(path):
    dataset = FrameDataset(path)
    method = multiprocessing.get_context("forkserver")
    loader = DataLoader(dataset, batch_size=2, collate_fn=join_frames, num_workers=1, multiprocessing_context=method)
    batches = list(loader)
    assert all(isinstance(batch, FrameTensors) for batch in batches)
    assert sum((batch.tokens for batch in batches), ()) == tuple(ref.token for ref in dataset.refs)


def test_frames_without_labels_and_subsets_that_are_none(tmp_path):
    store = write_synthetic_store(tmp_path / "s", frames=1, labelled=False)
    assert (FrameDataset(store)[0].label == -1).all()
    with pytest.raises(ConfigError, match=r"no frames of test; it has train, val"):
        FrameDataset(store, subset="test")


def test_damage_is_told_and_never_trained_on(tmp_path):
    store = write_synthetic_store(tmp_path / "s", frames=1)
    row = next(read_manifests(storage_of(store)))
    shard = store / partition_key(row.features.folder) / "clip/cells/c/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptStoreError, match="clip/cells"):
        FrameDataset(store)[0]
