"""The whole loss: layers, batches, weights, and what it may not see."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from ovps.losses.classes import class_loss, takes_part
from ovps.losses.config import PARTS, LossConfig
from ovps.losses.distillation import coverage_loss, object_loss, voxel_loss
from ovps.losses.targets import Proposals
from ovps.losses.total import gradient_ratio, loss_terms
from ovps.model.classify import class_logits
from ovps.model.inputs import LayerOutput
from tests.losses import plain
from tests.losses.plain import mask_dice, mask_focal
from tests.losses.test_assignment import matched
from tests.model import tiny

QUERIES = 8 + tiny.BASE_STUFF


def paper(**settings) -> LossConfig:
    """The paper's terms alone."""
    return LossConfig(terms=("object", "voxel"), **settings)


def classify(embedding, classes):
    return class_logits(embedding, classes, 0.1, -2.0)


def assigned(logits, masks, targets, counted, config):
    return matched(logits, masks, targets, torch.tensor([1, 4]), counted, config.costs)


def made_up(batch, seed: int, layers: int = 2) -> list[LayerOutput]:
    g = torch.Generator().manual_seed(seed)
    sizes = batch.voxel_offsets.diff().tolist()
    outputs = []
    for _ in range(layers):
        e = torch.nn.functional.normalize(torch.randn(len(sizes), QUERIES, tiny.CLIP_DIM, generator=g), dim=-1)
        masks, place = ([torch.randn(QUERIES, v, generator=g).requires_grad_() for v in sizes] for _ in range(2))
        outputs.append(LayerOutput(e.requires_grad_(), masks, place))
    return outputs


def one_of(outputs: list[LayerOutput], b: int) -> list[LayerOutput]:
    return [LayerOutput(o.class_embedding[b : b + 1], [o.mask_logits[b]], [o.position_logits[b]]) for o in outputs]


@pytest.fixture
def frame():
    batch = tiny.frame(60)
    return batch, tiny.targets(batch), made_up(batch, 0)


@pytest.mark.parametrize("unlabelled", ["negative", "ignore"])
def test_against_the_parts_by_hand(frame, unlabelled):
    batch, targets, outputs = frame
    base = tiny.base_classes()
    config = paper(class_weight=0.7, mask_weight=1.3, object_weight=0.5, voxel_weight=0.2, unlabelled=unlabelled)
    total, log = tiny.total_loss(outputs, batch, [targets], classify, base, 3.0, config)
    labelled = targets.voxel_segment >= 0
    counted = torch.ones(60, dtype=torch.bool) if unlabelled == "negative" else labelled
    want = 0.0
    for output in outputs:
        e, masks = output.class_embedding[0], output.mask_logits[0]
        logits = classify(e, base)
        pairs = assigned(logits, masks, targets, counted, config)
        assert len(pairs.query) == 4
        label = torch.full((QUERIES,), -1)
        label[pairs.query] = targets.segment_class[pairs.segment]
        truth = tiny.segments(targets)[pairs.segment]
        masks_of = masks[pairs.query]
        seen, rows = targets.object_valid[pairs.segment], batch.clip_valid.nonzero()[:, 0]
        parts = {
            "class": class_loss(logits, label, takes_part(masks, labelled, label >= 0), 4, 0.25) / 4,
            "mask_focal": mask_focal(masks_of, truth, counted, 2, 0.25) / 4,
            "mask_dice": mask_dice(masks_of, truth, counted) / 4,
            "position": mask_dice(output.position_logits[0][pairs.query], truth, counted) / 4,
            "object": object_loss(e[pairs.query[seen]], targets.object_embedding[pairs.segment[seen]]) / 3,
            "voxel": voxel_loss(masks.sigmoid(), e, batch.clip[rows], rows) / batch.clip_valid.sum() / 3.0,
        }  # fmt: skip
        want += 0.7 * parts["class"] + 0.5 * parts["object"] + 0.2 * parts["voxel"]
        want += 1.3 * (parts["mask_focal"] + 2 * (parts["mask_dice"] + 0.2 * parts["position"]))
    torch.testing.assert_close(total, want)
    for part, value in parts.items():
        torch.testing.assert_close(log[f"last/{part}"], value.detach())
    torch.testing.assert_close(log["supervised"] + log["voxel"], log["total"])
    assert not any(value.requires_grad for value in log.values())


def test_two_frames_are_one_loss_over_processes_too():
    """One process with both frames equals the mean over two processes with one each, counts averaged."""
    frames = [tiny.frame(60, 0), tiny.frame(45, 1)]
    batch, base, config = tiny.together(frames), tiny.base_classes(), paper()
    targets = [tiny.targets(f, seed) for seed, f in enumerate(frames)]
    targets[1] = replace(targets[1], object_valid=torch.tensor([False, True, False, False]))
    outputs = made_up(batch, 0)
    both, _ = tiny.total_loss(outputs, batch, targets, classify, base, 2.0, config)

    counts: list[torch.Tensor] = []
    apart = [one_of(outputs, b) for b in range(2)]
    for b in range(2):
        tiny.total_loss(
            apart[b], frames[b], targets[b : b + 1], classify, base, 2.0, config, lambda c: counts.append(c) or c
        )
    mean = torch.stack(counts).mean(dim=0)
    ranks = [
        tiny.total_loss(apart[b], frames[b], targets[b : b + 1], classify, base, 2.0, config, lambda _: mean)[0]
        for b in range(2)
    ]
    torch.testing.assert_close(sum(ranks) / 2, both, rtol=1e-5, atol=0)


def test_unlabelled_voxels_all_look_alike(frame):
    """Nothing but base segments is in the targets; an unlabelled voxel acts on the masks as outside, or not at all."""
    batch, targets, outputs = frame
    base = tiny.base_classes()
    unlabelled = targets.voxel_segment < 0
    for mode, moved in (("negative", True), ("ignore", False)):
        config = paper(unlabelled=mode, voxel_weight=0, class_weight=0)
        for output in outputs:
            output.mask_logits[0].grad = None
        tiny.total_loss(outputs, batch, [targets], classify, base, 1.0, config)[0].backward()
        assert bool((outputs[-1].mask_logits[0].grad[:, unlabelled] != 0).any()) == moved


def test_weights_of_zero_switch_parts_off(frame):
    batch, targets, outputs = frame
    config = paper(class_weight=0, mask_weight=0, object_weight=0, voxel_weight=0)
    total, log = tiny.total_loss(outputs, batch, [targets], classify, tiny.base_classes(), 1.0, config)
    assert total.item() == 0
    assert log["last/voxel"] == 0  # not even computed


def test_voxel_layers(frame):
    batch, targets, outputs = frame
    every, last = (
        loss_terms(outputs, batch, [targets], classify, tiny.base_classes(), 1.0, paper(voxel_layers=which))
        for which in ("all", "last")
    )
    assert every.parts["last/voxel"] == last.parts["last/voxel"] > 0
    torch.testing.assert_close(last.voxel, 0.3 * last.parts["last/voxel"])
    assert every.voxel > 1.2 * last.voxel


@pytest.mark.parametrize("form", ["sigmoid", "sigmoid_normalised", "softmax"])
def test_forms(frame, form):
    batch, targets, outputs = frame
    without, with_coverage = (
        tiny.total_loss(outputs, batch, [targets], classify, tiny.base_classes(), 1.0, config)
        for config in (paper(voxel_form=form), LossConfig(terms=("object", "voxel", "coverage"), voxel_form=form))
    )
    with_coverage[0].backward()
    assert with_coverage[0].isfinite()
    assert without[1]["last/coverage"] == 0  # not even computed
    assert with_coverage[1]["last/coverage"] > 0
    assert with_coverage[0] > without[0]


def test_a_frame_with_no_segment_and_no_clip_feature(frame):
    batch, targets, outputs = frame
    empty = replace(
        targets, voxel_segment=torch.full((60,), -1), segment_class=torch.zeros(0, dtype=torch.int64),
        segment_is_thing=torch.zeros(0, dtype=torch.bool), object_embedding=torch.zeros(0, tiny.CLIP_DIM),
        object_valid=torch.zeros(0, dtype=torch.bool),
    )  # fmt: skip
    blind = replace(batch, clip_valid=torch.zeros(60, dtype=torch.bool))
    for unlabelled in ("negative", "ignore"):
        config = paper(unlabelled=unlabelled)
        total, log = tiny.total_loss(outputs, blind, [empty], classify, tiny.base_classes(), 1.0, config)
        total.backward()
        assert total.isfinite()
        assert all(log[f"last/{part}"] == 0 for part in PARTS if part != "class")
        # the frame counts as one segment in the class loss: every query is a negative, unless its mask is unlabelled
        inside = outputs[-1].mask_logits[0].detach() > 0
        base = tiny.base_classes()
        logits = classify(outputs[-1].class_embedding[0], base)
        want = class_loss(logits, torch.full((QUERIES,), -1), ~inside.any(dim=1), 4, 0.25)
        assert log["last/class"].item() == pytest.approx(want.item())


def test_gradient_ratio(frame):
    batch, targets, outputs = frame
    masks = [output.mask_logits[0] for output in outputs]
    ratios = []
    for weight in (0.1, 0.2, 0.0):
        config = paper(voxel_weight=weight)
        terms = loss_terms(outputs, batch, [targets], classify, tiny.base_classes(), 1.0, config)
        ratios.append(gradient_ratio(terms, masks))
        terms.total.backward()  # the graph is still there
    assert ratios[1] == pytest.approx(2 * ratios[0], rel=1e-4)
    assert ratios[2] == 0
    norms = [
        torch.stack([g.norm() for g in torch.autograd.grad(term, masks)]).norm()
        for config in [paper(voxel_weight=0.1)]
        for pick in ("voxel", "supervised")
        for term in [getattr(loss_terms(outputs, batch, [targets], classify, tiny.base_classes(), 1.0, config), pick)]
    ]
    assert ratios[0] == pytest.approx(float(norms[0] / norms[1]), rel=1e-4)


def test_exclusion_is_of_unmatched_masks_and_coverage_of_unlabelled_voxels(frame):
    batch, targets, outputs = frame
    base, off = tiny.base_classes(), {"class_weight": 0, "mask_weight": 1, "focal_weight": 0, "dice_weight": 0}
    terms = ("voxel", "coverage", "exclusion")
    config = LossConfig(**off, terms=terms, voxel_weight=1, exclusion_weight=0.7, coverage_weight=0.3)
    terms = loss_terms(outputs, batch, [targets], classify, base, 1.0, config)
    labelled = targets.voxel_segment >= 0
    exclusion = coverage = 0.0
    for output in outputs:
        masks = output.mask_logits[0]
        logits = classify(output.class_embedding[0], base)
        pairs = assigned(logits, masks, targets, torch.ones(60, dtype=torch.bool), config)
        unmatched = [q for q in range(QUERIES) if q not in pairs.query.tolist()]
        assert 0 < len(unmatched) < QUERIES
        exclusion += plain.exclusion(masks[unmatched], labelled, config.mask_gamma, config.alpha)
        free = batch.clip_valid & ~labelled
        answers_for_none, rows = torch.tensor(unmatched), free.nonzero()[:, 0]
        assert 0 < int(free.sum()) < int(batch.clip_valid.sum())
        coverage += coverage_loss(masks.sigmoid(), answers_for_none, rows) / free.sum()
    assert terms.supervised.item() == pytest.approx(0.7 * exclusion.item(), rel=1e-5)
    alone = loss_terms(outputs, batch, [targets], classify, base, 1.0, config.model_copy(update={"coverage_weight": 0}))
    assert (terms.voxel - alone.voxel).item() == pytest.approx(0.3 * coverage.item(), rel=1e-4)


def proposals_of(batch, targets) -> Proposals:
    """The unlabelled sector in two halves, and a few of its voxels in neither; no camera sees the second."""
    free = (targets.voxel_segment < 0).nonzero()[:, 0]
    assert len(free) > 6
    voxel = torch.full((len(batch.coords),), -1)
    voxel[free[2 : len(free) // 2]], voxel[free[len(free) // 2 :]] = 0, 1
    return Proposals(voxel, torch.randn(2, tiny.CLIP_DIM), torch.tensor([True, False]))


def test_who_answers_for_a_proposal_covers_unlabelled_voxels_too(frame):
    batch, targets, outputs = frame
    base, targets = tiny.base_classes(), replace(targets, proposals=proposals_of(batch, targets))
    config = LossConfig(terms=("voxel", "proposal", "coverage"), voxel_weight=1, coverage_weight=0.3)
    free = (batch.clip_valid & (targets.voxel_segment < 0)).nonzero()[:, 0]
    coverage = 0.0
    for output in outputs:
        masks = output.mask_logits[0]
        pairs = assigned(
            classify(output.class_embedding[0], base), masks, targets, torch.ones(60, dtype=torch.bool), config
        )
        of_no_segment = torch.tensor([q for q in range(QUERIES) if q not in pairs.query.tolist()])
        coverage += coverage_loss(masks.sigmoid(), of_no_segment, free) / len(free)
    with_it, alone = (
        loss_terms(outputs, batch, [targets], classify, base, 1.0, config.model_copy(update={"coverage_weight": w}))
        for w in (0.3, 0)
    )
    assert (with_it.voxel - alone.voxel).item() == pytest.approx(0.3 * coverage.item(), rel=1e-4)


def test_proposals_against_the_parts_by_hand(frame):
    batch, targets, outputs = frame
    base, proposals = tiny.base_classes(), proposals_of(batch, targets)
    weights = {"class_weight": 0, "mask_weight": 0.5, "object_weight": 0.4, "exclusion_weight": 0.3}
    config = LossConfig(terms=("object", "exclusion"), **weights, proposal_weight=0.7)
    without = loss_terms(outputs, batch, [targets], classify, base, 1.0, config)
    config = config.model_copy(update={"terms": (*config.terms, "proposal")})
    terms = loss_terms(outputs, batch, [replace(targets, proposals=proposals)], classify, base, 1.0, config)
    labelled = targets.voxel_segment >= 0
    counted = torch.tensor([bool(a or b >= 0) for a, b in zip(labelled, proposals.voxel_proposal, strict=True)])
    assert 0 < int((~counted).sum()) < int((~labelled).sum())
    change = 0.0
    for output in outputs:
        masks, e = output.mask_logits[0], output.class_embedding[0]
        logits = classify(e, base)
        pairs = assigned(logits, masks, targets, torch.ones(60, dtype=torch.bool), config)
        free = [q for q in range(QUERIES - tiny.BASE_STUFF) if q not in pairs.query.tolist()]
        p, area = masks.sigmoid(), (masks.sigmoid() * counted).sum(dim=1)
        of = [proposals.voxel_proposal == k for k in range(2)]
        cost = {
            (q, k): mask_focal(masks[q][None], of[k][None], counted, 2, 0.25)
            + 2 * (1 - 2 * p[q, of[k]].sum() / (area[q] + of[k].sum() + 1e-3))
            for q in free for k in range(2)
        }  # fmt: skip
        best = min(itertools.permutations(free, 2), key=lambda q: (cost[q[0], 0] + cost[q[1], 1]).item())
        for k, q in enumerate(best):
            one = masks[q][None]
            focal, dice = mask_focal(one, of[k][None], counted, 2, 0.25), mask_dice(one, of[k][None], counted)
            change += 0.7 * 0.5 * (focal + 2 * dice) / 2
        cosine = torch.nn.functional.cosine_similarity(e[best[0]], proposals.embedding[0], dim=0)
        change += 0.7 * 0.4 * (1 - cosine)  # of the one that a camera sees
        # a mask that answers for a proposal is not told twice to keep off base voxels
        change -= 0.5 * 0.3 * plain.exclusion(masks[list(best)], labelled, 2, 0.25)
    assert (terms.supervised - without.supervised).item() == pytest.approx(change.item(), rel=1e-4)


def test_a_query_with_a_proposal_is_no_negative_of_any_class(frame):
    batch, targets, outputs = frame
    config = LossConfig(terms=("proposal",), mask_weight=0)
    # masks that are empty take part in L_cls, unless they answer for something
    empty = [LayerOutput(o.class_embedding, [o.mask_logits[0] - 10], o.position_logits) for o in outputs]
    base, proposals = tiny.base_classes(), proposals_of(batch, targets)
    total = tiny.total_loss(empty, batch, [replace(targets, proposals=proposals)], classify, base, 1.0, config)[0]
    gradients = torch.autograd.grad(total, [o.class_embedding for o in empty])
    silent = [(g[0].abs().sum(dim=1) == 0).sum().item() for g in gradients]
    assert silent == [2, 2]
    total = tiny.total_loss(empty, batch, [targets], classify, base, 1.0, config)[0]
    gradients = torch.autograd.grad(total, [o.class_embedding for o in empty])
    assert [(g[0].abs().sum(dim=1) == 0).sum().item() for g in gradients] == [0, 0]


def test_more_proposals_than_queries(frame):
    batch, targets, outputs = frame
    free = (targets.voxel_segment < 0).nonzero()[:, 0][:9]
    voxel = torch.full((60,), -1)
    voxel[free] = torch.arange(len(free))
    many = Proposals(voxel, torch.randn(len(free), tiny.CLIP_DIM), torch.ones(len(free), dtype=torch.bool))
    learned = QUERIES - tiny.BASE_STUFF - 3  # three things are matched
    assert len(free) > learned
    config = LossConfig(terms=("object", "voxel", "proposal"))
    total, log = tiny.total_loss(
        outputs, batch, [replace(targets, proposals=many)], classify, tiny.base_classes(), 1, config
    )
    total.backward()
    assert total.isfinite()
    assert log["last/proposal_dice"] > 0
