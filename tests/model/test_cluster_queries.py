"""Queries that start from clusters: which, from what, where they look, and towards what they lean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ovps.model.clusters import ClusterConfig, clusters, clusters_by_size
from ovps.model.decoder import Decoder, DecoderLayer
from ovps.model.queries import Queries
from tests.model import tiny
from tests.model.test_network import network

LEARNED, STUFF, WIDTH = 5, 2, 24


def queries(count: int) -> Queries:
    torch.manual_seed(0)
    return Queries(LEARNED, count, STUFF, WIDTH)


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_clusters_are_numbered_by_size(seed, count):
    """The same pieces as `clusters` makes, counted one by one."""
    position = np.random.default_rng(seed).uniform((-20, -20, -2), (20, 20, 3), (count, 3))
    config = ClusterConfig(
        gap=3.0, smallest=2, column=100.0
    )  # wider than the frame: all but the lowest are off the ground
    found, ranked = clusters(position, np.ones(count, bool), config), clusters_by_size(position, config)
    pieces = [set(np.flatnonzero(found == number)) for number in range(found.max(initial=-1) + 1)]
    ordered = [set(np.flatnonzero(ranked == number)) for number in range(len(pieces))]
    assert sorted(map(sorted, pieces)) == sorted(map(sorted, ordered))
    assert [len(piece) for piece in ordered] == sorted(map(len, pieces), reverse=True)
    assert ((ranked < 0) == (found < 0)).all()
    assert ranked.max(initial=-1) + 1 == len(pieces)


def test_the_largest_cluster_is_number_0():
    """A pair, five and three in this order, above ground far away; what is too small is no cluster."""
    place = [(x, 0.0) for x in (1.0, 1.2, 9.0, 9.2, 9.4, 9.6, 9.8, 20.0, 20.2, 20.4, 30.0)]
    position = np.array([(*xy, 1.0) for xy in place] + [(40.0, 40.0, 0.0)])
    found = clusters_by_size(position, ClusterConfig(smallest=2, column=200.0))
    assert found.tolist() == [2] * 2 + [0] * 5 + [1] * 3 + [-1] * 2


def test_a_query_starts_from_the_mean_of_its_cluster():
    module = queries(3)
    voxels, cluster = torch.randn(9, WIDTH), torch.tensor([0, 1, 0, -1, 1, 0, -1, 3, 4])  # the last two have no query
    started, own = module([voxels], [cluster])
    assert started.shape == (1, LEARNED + 3 + STUFF, WIDTH)
    for number in (0, 1):
        mean = torch.stack([voxels[v] for v in range(9) if cluster[v] == number]).mean(dim=0)
        torch.testing.assert_close(started[0, LEARNED + number], module.from_cluster(mean[None])[0])
        assert own[0][LEARNED + number].tolist() == [int(c) == number for c in cluster]
    assert torch.equal(started[0, LEARNED + 2], module.no_cluster)  # the frame has no cluster 2
    assert torch.equal(started[0, :LEARNED], module.learned)
    assert torch.equal(started[0, -STUFF:], module.stuff)
    assert not own[0][[*range(LEARNED), LEARNED + 2, -2, -1]].any()


def test_masks_lean_towards_the_cluster():
    net, batch = network(cluster_queries=3), tiny.frame()
    leaning = net(batch)[0].mask_logits[0]
    with torch.no_grad():
        lean = float(net.decoder.heads.lean)
        net.decoder.heads.lean.zero_()
    plain = net(batch)[0].mask_logits[0]
    expected = torch.zeros_like(plain)
    for number in range(3):
        expected[net.config.queries + number, batch.cluster == number] = lean
    assert lean > 0
    torch.testing.assert_close(leaning - plain, expected, atol=1e-5, rtol=0)


def test_a_query_looks_at_its_cluster_wherever_its_mask_lies(monkeypatch):
    seen = []
    real = DecoderLayer.forward
    monkeypatch.setattr(
        DecoderLayer, "forward", lambda self, q, v, allowed: (seen.append(allowed), real(self, q, v, allowed))[1]
    )
    net, batch = network(cluster_queries=tiny.CLUSTERS, mask_prior=0.5), tiny.frame()
    with torch.no_grad():
        net.decoder.heads.lean.fill_(-9.0)  # away from the cluster
    outputs = net(batch)
    assert len(seen) == 2
    assert any(
        m.any() and not m[batch.cluster == 0].any() for m in (outputs[0].mask_logits[0] > 0)[net.config.queries :]
    )
    for output, (allowed,) in zip(outputs, seen, strict=False):
        mask = output.mask_logits[0] > 0
        for query in range(len(mask)):
            number = query - net.config.queries
            cluster = batch.cluster == number if 0 <= number < tiny.CLUSTERS else torch.zeros_like(mask[query])
            where = mask[query] if mask[query].any() else torch.ones_like(mask[query])
            assert torch.equal(allowed[query], where | cluster)


def test_without_queries_of_clusters_the_batch_needs_none():
    batch = tiny.frame()
    for one, other in zip(network()(batch), network()(replace(batch, cluster=None)), strict=True):
        assert torch.equal(one.mask_logits[0], other.mask_logits[0])
    with pytest.raises(ValueError, match="no clusters"):
        network(cluster_queries=3)(replace(batch, cluster=None))


def test_the_decoder_alone_needs_no_clusters():
    decoder = Decoder(tiny.config(cluster_queries=3), tiny.CLIP_DIM)
    voxels = torch.randn(20, WIDTH)
    assert decoder(torch.randn(1, 4, WIDTH), [voxels], [voxels])[-1].mask_logits[0].shape == (4, 20)


def test_gradients_reach_what_clusters_start_from():
    net, batch = network(cluster_queries=6), tiny.frame()  # two more than there are clusters
    sum(m.sum() for output in net(batch) for m in output.mask_logits).backward()
    for parameter in (*net.queries.from_cluster.parameters(), net.queries.no_cluster, net.decoder.heads.lean):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
