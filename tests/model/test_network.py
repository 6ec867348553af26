"""The network as a whole: order, independence of frames, what it may and may not look at, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from ovps.losses.config import LossConfig
from ovps.model.config import EncoderConfig, ModelConfig
from ovps.model.decoder import attend_where
from ovps.model.encoder import SparseUNet
from ovps.model.fusion import Fusion
from ovps.model.network import Network
from ovps.model.position import MixedPosition, fourier
from tests.model import tiny


def network(seed: int = 0, **changes) -> Network:
    torch.manual_seed(seed)
    return Network(tiny.config(**changes), tiny.INPUT_DIM, tiny.CLIP_DIM, tiny.BASE_STUFF)


def reordered(batch, order):
    names = ("coords", "features", "position", "clip", "clip_valid", "cluster")
    return replace(batch, **{name: getattr(batch, name)[order] for name in names})


def assert_same(a, b, tolerance=2e-5):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x.class_embedding, y.class_embedding, atol=tolerance, rtol=0)
        for p, q in zip(x.mask_logits, y.mask_logits, strict=True):
            torch.testing.assert_close(p, q, atol=tolerance, rtol=0)


def test_shapes_and_norms():
    batch = tiny.together([tiny.frame(200, 0), tiny.frame(150, 1)])
    outputs = network()(batch)
    assert len(outputs) == 3
    for output in outputs:
        assert output.class_embedding.shape == (2, 12, tiny.CLIP_DIM)
        assert [tuple(m.shape) for m in output.mask_logits] == [(12, 200), (12, 150)]
        assert [tuple(m.shape) for m in output.position_logits] == [(12, 200), (12, 150)]
        torch.testing.assert_close(output.class_embedding.norm(dim=-1), torch.ones(2, 12))


def test_no_position_branch():
    assert all(output.position_logits is None for output in network(position_branch=False)(tiny.frame()))


@pytest.mark.parametrize("cluster_queries", [0, 6])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_two_frames_at_once_equal_each_alone(norm, cluster_queries):
    net = network(encoder=EncoderConfig(channels=(8, 12), blocks=1, norm=norm), cluster_queries=cluster_queries)
    net.train(norm == "layer")
    frames = [tiny.frame(200, 0), tiny.frame(150, 1)]
    both = net(tiny.together(frames))
    for b, one in enumerate(frames):
        for x, y in zip(net(one), both, strict=True):
            torch.testing.assert_close(x.class_embedding[0], y.class_embedding[b], atol=2e-5, rtol=0)
            torch.testing.assert_close(x.mask_logits[0], y.mask_logits[b], atol=2e-5, rtol=0)


@pytest.mark.parametrize("cluster_queries", [0, 3])
def test_the_order_of_voxels_does_not_matter(cluster_queries):
    net, batch = network(cluster_queries=cluster_queries), tiny.frame()
    order = torch.randperm(len(batch.coords))
    straight, shuffled = net(batch), net(reordered(batch, order))
    for output in straight:
        output.mask_logits = [output.mask_logits[0][:, order]]
    assert_same(straight, shuffled)


def test_encoder_keeps_the_order_of_voxels():
    """One level, kernel 1, layer norm: each voxel's feature depends on its own input alone, so order shows."""
    torch.manual_seed(0)
    encoder = SparseUNet(EncoderConfig(channels=(8,), blocks=1, kernel=1, norm="layer"), tiny.INPUT_DIM, 7)
    batch = tiny.together([tiny.frame(300, 0), tiny.frame(200, 1)])
    full = encoder(batch.coords, batch.features)
    for row in (0, 17, 299, 300, 499):
        alone = encoder(batch.coords[row : row + 1], batch.features[row : row + 1])
        torch.testing.assert_close(full[row : row + 1], alone, atol=1e-5, rtol=0)


def test_encoder_stays_in_float32_under_autocast():
    batch, net = tiny.frame(), network()
    plain = net.encoder(batch.coords, batch.features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            net.encoder(batch.coords, batch.features.bfloat16().float()),
            net.encoder(batch.coords, batch.features.bfloat16()),
        )
        assert torch.equal(net.encoder(batch.coords, batch.features), plain)
        outputs = net(batch)
    assert outputs[-1].class_embedding.dtype == outputs[-1].mask_logits[0].dtype == torch.float32
    torch.testing.assert_close(outputs[0].class_embedding, net(batch)[0].class_embedding, atol=0.05, rtol=0)


def test_fusion_never_reads_features_that_are_not_valid():
    net, batch = network(), tiny.frame()
    spoilt = replace(batch, clip=torch.where(batch.clip_valid[:, None], batch.clip, torch.nan))
    outputs = net(spoilt)
    assert_same(net(batch), outputs, 0)
    outputs[-1].mask_logits[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_fusion_sees_features_that_are_valid_and_knows_which_are_not():
    fusion, batch = Fusion(tiny.CLIP_DIM, 24), tiny.frame(50)
    lidar = torch.randn(50, 24)
    seen = fusion(lidar, batch.clip, batch.clip_valid, *batch.clip_rows)
    other = fusion(lidar, -batch.clip, batch.clip_valid, *batch.clip_rows)
    assert ((seen != other).any(dim=1) == batch.clip_valid).all()
    zeros = fusion(lidar, torch.zeros_like(batch.clip), batch.clip_valid, *batch.clip_rows)
    nothing = fusion(lidar, batch.clip, torch.zeros_like(batch.clip_valid), batch.clip_rows[0][:0])
    assert ((zeros != nothing).any(dim=1) == batch.clip_valid).all()


def test_a_feature_that_equals_the_stand_in_is_known_to_be_one():
    fusion, lidar, clip = Fusion(tiny.CLIP_DIM, 24), torch.randn(1, 24), torch.randn(1, tiny.CLIP_DIM)
    with torch.no_grad():
        fusion.no_clip.copy_(fusion.clip(clip)[0])
    there, none = torch.tensor([True]), torch.tensor([False])
    rows = torch.tensor([0])
    assert not torch.allclose(fusion(lidar, clip, there, rows), fusion(lidar, clip, none, rows[:0]))


def test_without_fusion_clip_is_never_used():
    net, batch = network(fusion=False), tiny.frame()
    spoilt = replace(batch, clip=torch.full_like(batch.clip, torch.nan), clip_valid=~batch.clip_valid)
    assert_same(net(batch), net(spoilt), 0)


def test_gradients_reach_every_parameter():
    net, batch = network(), tiny.together([tiny.frame(200, 0), tiny.frame(150, 1)])
    targets = [tiny.targets(tiny.frame(200, 0)), tiny.targets(tiny.frame(150, 1))]
    config = LossConfig(terms=("object", "voxel"))
    total, _ = tiny.total_loss(net(batch), batch, targets, net.class_logits, tiny.base_classes(), 1.0, config)
    total.backward()
    # a bias of the keys shifts all scores of a query alike, and softmax does not see it
    silent = {
        n
        for n, p in net.named_parameters()
        if (p.grad is None or not p.grad.abs().max() > 1e-9) and "key.bias" not in n
    }
    assert not silent


def test_same_seed_same_bits():
    batch = tiny.frame()
    assert_same(network()(batch), network()(batch), 0)


def test_vocabulary_order_and_distractors_leave_logits_alone():
    net, base = network(), tiny.base_classes()
    embedding = net(tiny.frame())[-1].class_embedding
    logits = net.class_logits(embedding, base)
    assert logits.shape == (1, 12, 5)
    # rows of the text matrix in another order, classes renumbered, and a class more
    rows = torch.randperm(7)
    to_new = torch.tensor([3, 0, 5, 1, 4])
    text = torch.cat([base.text[rows], torch.randn(2, tiny.CLIP_DIM)])
    index = torch.cat([to_new[base.class_index[rows]], torch.tensor([2, 2])])
    renamed = net.class_logits(embedding, tiny.classes(text, index, [True] * 6))
    torch.testing.assert_close(renamed[..., to_new], logits, atol=1e-5, rtol=0)


def test_tau_stays_within_its_range():
    net = network(tau=0.05, tau_range=(0.01, 0.5))
    assert net.classifier.tau.item() == pytest.approx(0.05)
    for raw, bound in ((-50.0, 0.01), (50.0, 0.5)):
        net.classifier.raw_tau.data.fill_(raw)
        assert net.classifier.tau.item() == pytest.approx(bound)


def test_attention_falls_back_to_everything():
    logits = torch.tensor([[1.0, -1.0], [-1.0, -1.0]])
    assert attend_where(logits).tolist() == [[True, False], [True, True]]


def test_position_is_seamless_behind_the_sensor():
    position = MixedPosition(16, 3, 50.0)
    left, right = position(torch.tensor([[-10.0, 1e-4, 0.0], [-10.0, -1e-4, 0.0]]))
    torch.testing.assert_close(left, right, atol=1e-3, rtol=0)
    x = torch.tensor([[0.25]])
    assert fourier(x, 2)[0].tolist() == pytest.approx([2**-0.5, 1.0, 2**-0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"width": 25}, {"tau": 2.0}, {"colour": 1}, {"encoder": {"kernel": 2}}, {"encoder": {"channels": ()}}]
)
def test_config_refuses_nonsense(wrong):
    with pytest.raises(ValidationError):
        ModelConfig(**({"heads": 2} | wrong))


def test_learns_one_frame():
    """Masks and classes of a frame with four segments, from scratch, in a hundred steps."""
    net, batch, base = network(), tiny.frame(400), tiny.base_classes()
    targets = tiny.targets(batch)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    config = LossConfig(terms=("voxel",), voxel_weight=0.1)
    first = None
    for _ in range(100):
        total, _ = tiny.total_loss(net(batch), batch, [targets], net.class_logits, base, 1.0, config)
        first = first or total.item()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
    assert total.item() < first / 3
    with torch.no_grad():
        output = net(batch)[-1]
        label = net.class_logits(output.class_embedding[0], base).argmax(dim=1)
    masks, truth = output.mask_logits[0] > 0, tiny.segments(targets)
    both = (masks[:, None] & truth).sum(dim=2)
    iou = both / (masks[:, None] | truth).sum(dim=2)
    best = iou.max(dim=0)
    assert best.values.min() > 0.9
    assert label[best.indices].tolist() == targets.segment_class.tolist()
    # the fixed query of the present stuff class, the second one, owns its segment
    assert best.indices[1] == 11
