"""Mask losses against loops over voxels and against the plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from ovps.losses.mask_loss import Masks, Members, exclusion_loss, focal, mask_losses
from tests.losses import plain


def slow_focal(x: float, target: bool, gamma: float, alpha: float) -> float:
    """The formula of the paper."""
    p = 1 / (1 + math.exp(-x))
    p_t, alpha_t = (p, alpha) if target else (1 - p, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * math.log(p_t)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def losses(logits, query, segment, voxel_segment, segments, counted, gamma=2.0, alpha=0.25):
    masks = Masks.of(logits, gamma, alpha)
    members = Members.of(segment, voxel_segment, segments)
    return mask_losses(masks, masks.totals(counted)[0], query, members)


@pytest.mark.parametrize(("gamma", "alpha"), [(4.0, 0.25), (2.0, 0.25), (0.0, 0.5)])
def test_focal(gamma, alpha):
    x, target = some(4, 5), some(4, 5, seed=1) > 0
    got = focal(x, target, gamma, alpha)
    for i in range(4):
        for j in range(5):
            want = slow_focal(x[i, j].item(), bool(target[i, j]), gamma, alpha)
            assert got[i, j].item() == pytest.approx(want)
            assert plain.focal(x, target, gamma, alpha)[i, j].item() == pytest.approx(want)


def test_focal_is_finite_far_out():
    x = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    for target in (True, False):
        focal(x, torch.tensor([[target, target]]), 4.0, 0.25).sum().backward()
        assert x.grad.isfinite().all()
    Masks.of(x, 2.0, 0.25).outside.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("all_count", [True, False])
def test_mask_losses_against_loops(all_count):
    """Queries 4 and 1 answer for segments 2 and 0; segment 1 has no query, some voxels no segment."""
    x = some(5, 9)
    voxel_segment = torch.tensor([0, 2, -1, 1, 2, -1, 0, 2, 1])
    counted = torch.ones(9, dtype=torch.bool) if all_count else voxel_segment >= 0
    got = losses(x, torch.tensor([4, 1]), torch.tensor([2, 0]), voxel_segment, 3, counted)
    want_focal = want_dice = 0.0
    voxels = [v for v in range(9) if counted[v]]
    for q, s in ((4, 2), (1, 0)):
        inside = {v: voxel_segment[v].item() == s for v in voxels}
        want_focal += sum(slow_focal(x[q, v].item(), inside[v], 2.0, 0.25) for v in voxels) / len(voxels)
        p = {v: 1 / (1 + math.exp(-x[q, v].item())) for v in voxels}
        top, bottom = 2 * sum(p[v] for v in voxels if inside[v]), sum(p[v] ** 2 for v in voxels) + sum(inside.values())
        want_dice += 1 - top / (bottom + 2e-3)
    assert got[0].item() == pytest.approx(want_focal)
    assert got[1].item() == pytest.approx(want_dice)
    target = torch.stack([voxel_segment == 2, voxel_segment == 0])
    assert plain.mask_focal(x[[4, 1]], target, counted, 2.0, 0.25).item() == pytest.approx(want_focal)
    assert plain.mask_dice(x[[4, 1]], target, counted).item() == pytest.approx(want_dice)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 30), st.integers(0, 5), st.sampled_from([0.0, 2.0, 3.0])
)
def test_mask_losses_and_gradients_are_those_of_the_plain_formulas(seed, queries, voxels, segments, gamma):
    g = torch.Generator().manual_seed(seed)
    voxel_segment = torch.randint(-1, segments, (voxels,), generator=g) if segments else torch.full((voxels,), -1)
    counted = (voxel_segment >= 0) | (torch.rand(voxels, generator=g) < 0.5)
    matched = min(queries, segments)
    query, segment = torch.randperm(queries, generator=g)[:matched], torch.randperm(segments, generator=g)[:matched]
    x = some(queries, voxels, seed=seed).requires_grad_()
    got = losses(x, query, segment, voxel_segment, segments, counted, gamma)
    target = voxel_segment == segment[:, None]
    want = (
        plain.mask_focal(x[query], target, counted, gamma, 0.25) if matched else x.sum() * 0,
        plain.mask_dice(x[query], target, counted) if matched else x.sum() * 0,
    )
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)
        one, other = (torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in (ours, theirs))
        torch.testing.assert_close(one, other)


def test_voxels_that_do_not_count_get_no_gradient():
    x = some(2, 4).requires_grad_()
    counted = torch.tensor([True, True, False, True])
    sum(losses(x, torch.arange(2), torch.arange(2), torch.tensor([0, 1, -1, -1]), 2, counted)).backward()
    assert (x.grad[:, 2] == 0).all()
    assert (x.grad[:, [0, 1, 3]] != 0).all()


def test_gradcheck():
    voxel_segment, counted = torch.tensor([0, 1, -1, 0, -1]), torch.tensor([1, 1, 0, 1, 1]).bool()
    x = some(3, 5).requires_grad_()
    target = some(3, 5, seed=1) > 0
    assert gradcheck(lambda x: focal(x, target, 4.0, 0.25), (x,))
    assert gradcheck(lambda x: losses(x, torch.tensor([2, 0]), torch.arange(2), voxel_segment, 2, counted), (x,))


def test_members():
    members = Members.of(torch.tensor([3, 0]), torch.tensor([0, -1, 3, 2, 0, 3, 3]), 4)
    assert members.voxel.tolist() == [0, 2, 4, 5, 6]
    assert members.row.tolist() == [1, 0, 1, 0, 0]
    assert members.size.tolist() == [3, 2]


def test_exclusion_keeps_masks_off_labelled_voxels_and_off_nothing_else():
    logits, labelled = some(4, 6).requires_grad_(), torch.tensor([1, 0, 1, 1, 0, 0]).bool()
    unmatched = torch.tensor([True, True, False, True])

    def loss(x, voxels=labelled, queries=unmatched):
        return exclusion_loss(Masks.of(x, 2.0, 0.25).totals(voxels)[0], queries)

    want = sum(slow_focal(logits[m, v].item(), False, 2.0, 0.25) for m in (0, 1, 3) for v in (0, 2, 3)) / 3
    assert loss(logits).item() == pytest.approx(want)
    assert plain.exclusion(logits[unmatched], labelled, 2.0, 0.25).item() == pytest.approx(want)
    loss(logits).backward()
    assert (logits.grad[:, ~labelled] == 0).all()
    assert (logits.grad[2] == 0).all()
    assert (logits.grad[unmatched][:, labelled] > 0).all()  # a step downhill makes the masks smaller there
    assert gradcheck(loss, (logits,))
    assert loss(logits, queries=torch.zeros(4, dtype=torch.bool)) == 0
    assert loss(logits, voxels=torch.zeros(6, dtype=torch.bool)) == 0
