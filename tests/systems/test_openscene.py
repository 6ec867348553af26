"""The voxel baseline against loops over voxels; its loss also by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ovps.entries import NO_ENTRY
from ovps.model.panoptic import MergeConfig
from ovps.systems.openscene import VoxelAnswer, VoxelNetwork, distillation_loss, ensemble_features, segment
from tests.model import tiny
from tests.training.small import same_bits, small_run, weights

CHANNELS = tiny.CLIP_DIM


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def cosine(a, b):
    return float(a @ b) / (float(a.norm()) * float(b.norm()))


def nearest(feature, text, class_index, classes):
    """Best cosine of each class over its synonyms."""
    return [max(cosine(feature, text[t]) for t in range(len(text)) if class_index[t] == c) for c in range(classes)]


TEXT, INDEX, IS_THING = random(6, CHANNELS, seed=9), [1, 0, 2, 3, 1, 2], [True, False, True, False]
CLASSES = tiny.classes(TEXT, INDEX, IS_THING)


def test_the_loss_is_the_mean_distance_over_valid_voxels():
    features, clip = random(9, 5), random(9, 5, seed=1)
    valid = torch.tensor([True, False, True] * 3)
    expected = [1 - cosine(features[v], clip[v]) for v in range(9) if valid[v]]
    assert float(distillation_loss(features, clip, valid)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(distillation_loss(clip, 3 * clip, valid)) == pytest.approx(0, abs=1e-6)
    assert float(distillation_loss(features, clip, torch.zeros(9, dtype=torch.bool))) == 0


def test_the_gradient_of_the_loss():
    features = random(7, 4, dtype=torch.float64).requires_grad_()
    clip, valid = random(7, 4, seed=1, dtype=torch.float64), torch.tensor([True, True, False, True, True, False, True])
    assert torch.autograd.gradcheck(lambda f: distillation_loss(f, clip, valid), (features,))
    distillation_loss(features, clip, valid).backward()
    assert not features.grad[~valid].any()
    assert features.grad[valid].abs().sum(dim=1).gt(0).all()


def test_of_two_features_a_voxel_keeps_the_one_nearer_to_some_text():
    batch = tiny.frame(60)
    features = random(len(batch.coords), CHANNELS, seed=3)
    found = ensemble_features(features, batch, CLASSES)
    taken = 0
    for v in range(len(features)):
        own = max(nearest(features[v], TEXT, INDEX, 4))
        clip = max(nearest(batch.clip[v], TEXT, INDEX, 4)) if batch.clip_valid[v] else -2.0
        assert torch.equal(found[v], batch.clip[v] if clip > own else features[v])
        taken += clip > own
    assert 0 < taken < int(batch.clip_valid.sum())


def test_segments_are_pieces_of_the_nearest_class():
    batch = tiny.frame(80)
    features = random(len(batch.coords), CHANNELS, seed=4)
    config = MergeConfig(split_gap=1.2, split_gap_per_metre=0)
    found = segment(features, batch, CLASSES, config)
    chosen = ensemble_features(features, batch, CLASSES)
    classes = [int(np.argmax(nearest(f, TEXT, INDEX, 4))) for f in chosen]
    assert found.voxel_class.tolist() == classes
    assert (found.voxel_query == NO_ENTRY).all()

    # pieces by growing: every voxel of one class within the gap of another belongs to it
    plane = batch.position[:, :2].numpy()
    piece = [-1] * len(classes)
    for start in range(len(classes)):
        if piece[start] >= 0:
            continue
        piece[start], grow = start, [start]
        while grow:
            v = grow.pop()
            for u in range(len(classes)):
                if piece[u] < 0 and classes[u] == classes[v] and np.linalg.norm(plane[u] - plane[v]) <= 1.2:
                    piece[u] = start
                    grow.append(u)
    instance = found.voxel_instance.tolist()
    for v in range(len(classes)):
        assert (instance[v] > 0) == bool(IS_THING[classes[v]])
        for u in range(v):
            if instance[v] and instance[u]:
                assert (instance[u] == instance[v]) == (piece[u] == piece[v])
    assert len(set(instance)) > 3


def test_the_network_gives_a_feature_per_voxel_whatever_the_cameras_saw():
    batch = tiny.frame(50)
    torch.manual_seed(0)
    network = VoxelNetwork(tiny.config(fusion=False), tiny.INPUT_DIM, CHANNELS).eval()
    features = network(batch)
    assert features.shape == (50, CHANNELS)
    batch.clip = -batch.clip
    assert torch.equal(network(batch), features)


def test_no_label_is_used(store, tmp_path):
    """Which is why one training serves every split."""
    small_run(store, tmp_path / "a", "steps=3", system="openscene", split="all")
    small_run(store, tmp_path / "b", "steps=3", system="openscene", split="b11n5")
    assert same_bits(weights(tmp_path / "a")["network"], weights(tmp_path / "b")["network"])


def test_a_voxel_is_the_more_unknown_the_farther_its_nearest_text():
    batch = tiny.frame(60)
    features = random(len(batch.coords), CHANNELS, seed=3)
    chosen = ensemble_features(features, batch, CLASSES)
    expected = [(1 - max(nearest(feature, TEXT, INDEX, 4))) / 2 for feature in chosen]
    found = VoxelAnswer(features, batch, CLASSES).unknown(MergeConfig())
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
