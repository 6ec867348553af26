"""Proposals as targets: what training may know of objects without labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ovps.batch.proposals import make_proposals
from ovps.losses.config import ProposalConfig
from ovps.losses.targets import Proposals
from ovps.model.clusters import ClusterConfig, clusters
from ovps.model.unclaimed import mean_features
from tests.model import tiny
from tests.model.test_unclaimed import block, street

OFF_GROUND = ProposalConfig(at_ground=False)


def on_the_street():
    """Ground, two blocks that nobody labelled, one that somebody did."""
    position = torch.from_numpy(street(block(1, 1), block(3, 3), block(-3, -3))).float()
    v = len(position)
    batch = tiny.frame(v)
    assert len(batch.coords) == v
    segment = torch.full((v,), -1)
    segment[:576], segment[594:] = 0, 1
    return replace(batch, position=position), segment


def test_only_unlabelled_voxels_off_the_ground_are_proposed():
    batch, segment = on_the_street()
    got = make_proposals(batch, segment, OFF_GROUND)
    assert got.voxel_proposal[:576].tolist() == [-1] * 576
    assert got.voxel_proposal[594:].tolist() == [-1] * 9
    first, second = (set(got.voxel_proposal[a : a + 9].tolist()) for a in (576, 585))
    assert first | second == {0, 1}
    assert len(first) == len(second) == 1
    assert [int((got.voxel_proposal == k).sum()) for k in (0, 1)] == [9, 9]


def test_embeddings_are_the_mean_of_what_cameras_see():
    batch, segment = on_the_street()
    seen = batch.clip_valid.clone()
    seen[576:580], seen[580:585], seen[585:594] = True, False, False
    got = make_proposals(replace(batch, clip_valid=seen), segment, OFF_GROUND)
    row, blind = int(got.voxel_proposal[576]), int(got.voxel_proposal[585])
    want = sum(batch.clip[i] for i in range(576, 580)) / 4
    torch.testing.assert_close(got.embedding[row], want)
    assert got.valid[row]
    assert not got.valid[blind]
    assert not got.embedding[blind].any()


def test_which_segment_a_labelled_voxel_has_does_not_matter():
    """Proposals see where base labels are, never which."""
    batch, segment = on_the_street()
    other = torch.where(segment >= 0, torch.randint(0, 5, segment.shape), segment)
    one, two = (make_proposals(batch, s, ProposalConfig()) for s in (segment, other))
    assert all(torch.equal(getattr(one, k), getattr(two, k)) for k in ("voxel_proposal", "embedding", "valid"))


def test_they_are_what_inference_finds():
    batch, segment = on_the_street()
    got = make_proposals(batch, segment, OFF_GROUND)
    found = clusters(batch.position.numpy(), (segment < 0).numpy(), ClusterConfig())
    assert np.array_equal(got.voxel_proposal.numpy(), found)


def test_unlabelled_ground_is_proposed_after_the_clusters():
    batch, segment = on_the_street()
    position = batch.position
    lawn = (position[:, 2] == 0) & (position[:, 0] < -4)
    segment[lawn] = -1
    clip = torch.zeros_like(batch.clip)
    clip[:, 0], clip[lawn] = 1, torch.eye(clip.shape[1])[1]
    batch = replace(batch, clip=clip, clip_valid=torch.ones_like(batch.clip_valid))
    got = make_proposals(batch, segment, ProposalConfig())
    assert torch.equal(got.voxel_proposal == 2, lawn)
    torch.testing.assert_close(got.embedding[2], torch.eye(clip.shape[1])[1])
    assert got.valid.tolist() == [True] * 3
    off = make_proposals(batch, segment, OFF_GROUND)
    assert torch.equal(off.voxel_proposal[~lawn], got.voxel_proposal[~lawn])
    assert len(off.valid) == 2


def test_mean_features_of_none():
    mean, valid = mean_features(torch.full((5,), -1), torch.ones(5, 3), torch.ones(5, dtype=torch.bool))
    assert mean.shape == (0, 3)
    assert valid.shape == (0,)


def test_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="proposals"):
        Proposals(torch.tensor([0, 1]), torch.zeros(1, 3), torch.ones(1, dtype=torch.bool))
