"""The merge: queries to one class and one instance per voxel [P3Former, Mask2Former]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor

from ovps.entries import NO_ENTRY
from ovps.model.class_text import ClassText
from ovps.model.classify import class_cosines
from ovps.model.clusters import ClusterConfig, components, rejoined
from ovps.model.masks import MaskForm, mask_probability


class MergeConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Thresholds of the merge.

    Attributes:
        score: queries whose best class probability is lower are dropped [P3Former: 0.4].
        mask: a voxel belongs to a mask from this probability on [P3Former].
        overlap: a segment that keeps less than this part of its own mask is dropped [P3Former]. Queries of one stuff
            class are one segment (ours).
        duplicate: of two queries of one thing class whose masks have a higher IoU, the less sure is dropped (ours);
            else they share the voxels and both may fall under `overlap`. 1: keep all.
        masks: the form that the masks were trained in; voxel distillation and merge must agree.
        split: thing segments that fall apart become several (ours).
        split_gap: metres that part two pieces of a thing.
        split_gap_per_metre: the gap also grows with the distance from the sensor, as cells and the spacing of
            points do: one phi cell of the default cylinder is 0.0175 m wide per metre. 0: `split_gap` everywhere.
        split_length: pieces no farther apart than this times the longer one's length stay one thing (ours): what hides
            or does not reflect part of a lorry leaves a gap at which people are several. 0: the gap alone parts.
        proposals: the clusters that `ovps.model.unclaimed` makes of what no mask claims (ours).
    """

    score: float = Field(0.4, ge=0, le=1)
    mask: float = Field(0.5, ge=0, le=1)
    overlap: float = Field(0.8, ge=0, le=1)
    duplicate: float = Field(1.0, ge=0, le=1)
    masks: MaskForm = "sigmoid"
    split: bool = True
    split_gap: float = Field(0.5, gt=0)
    split_gap_per_metre: float = Field(0.02, ge=0)
    split_length: float = Field(1.0, ge=0)
    proposals: ClusterConfig = ClusterConfig()


@dataclass(frozen=True)
class Panoptic:
    """One frame, voxel by voxel.

    Attributes:
        voxel_class: (V,) int64, position in the vocabulary, -1 unlabelled.
        voxel_instance: (V,) int64, from 1 for things, unique in the frame; 0 for stuff and unlabelled.
        voxel_query: (V,) int64, the query that claimed the voxel, -1 none.
    """

    voxel_class: Tensor
    voxel_instance: Tensor
    voxel_query: Tensor


def merge(
    class_probability: Tensor, mask_logits: Tensor, is_thing: Tensor, position: Tensor, config: MergeConfig
) -> Panoptic:
    """Each voxel goes to the query with the highest score x mask, if the segment survives the thresholds.

    Args:
        class_probability: (Q, E), over the entries of the vocabulary.
        mask_logits: (Q, V).
        is_thing: (E,) bool.
        position: (V, 3), metres, LiDAR frame.
        config: thresholds.
    """
    voxels = mask_logits.shape[1]
    nobody = torch.full((voxels,), NO_ENTRY, dtype=torch.int64, device=mask_logits.device)
    score, label = class_probability.max(dim=1)
    kept = (score >= config.score).nonzero()[:, 0]
    if not len(kept) or not voxels:
        return Panoptic(nobody, torch.zeros_like(nobody), nobody)
    masks = mask_probability(mask_logits, config.masks)[kept]
    inside = masks >= config.mask
    if config.duplicate < 1:
        group = torch.where(is_thing[label[kept]], label[kept], NO_ENTRY)
        first = without_duplicates(inside, score[kept], group, config.duplicate)
        kept, masks, inside = kept[first], masks[first], inside[first]
    winner = (score[kept, None] * masks).argmax(dim=0)
    own = inside & (winner[None] == torch.arange(len(kept), device=winner.device)[:, None])
    survives = _survives(own, inside, label[kept], is_thing, config.overlap)
    claimed = (own & survives[:, None]).any(dim=0)
    query = torch.where(claimed, kept[winner], nobody)
    voxel_class = torch.where(claimed, label[query.clamp(min=0)], nobody)
    return Panoptic(voxel_class, _instances(query, voxel_class, is_thing, position, config), query)


def _survives(own: Tensor, inside: Tensor, label: Tensor, is_thing: Tensor, overlap: float) -> Tensor:
    """(K,) bool: which queries belong to a segment that keeps enough of its mask.

    A segment is one query of a thing, but all queries of a stuff class: what one of them loses to another is not lost.

    Args:
        own, inside: (K, V) bool, the voxels that a query won, and those of its mask.
        label: (K,) int64.
    """
    alone = len(is_thing) + torch.arange(len(label), device=label.device)
    segment = torch.where(is_thing[label], alone, label)
    together = (segment == segment[:, None]).float()
    area = ((together @ own.float()) > 0).sum(dim=1)
    original = ((together @ inside.float()) > 0).sum(dim=1)
    return (area > 0) & (area >= overlap * original)


def without_duplicates(inside: Tensor, score: Tensor, group: Tensor, limit: float) -> Tensor:
    """Greedy non-maximum suppression of masks, as detectors do for boxes.

    Args:
        inside: (Q, V) bool.
        score: (Q,), the surest stays.
        group: (Q,) int64, only masks of one group can be duplicates; -1 never is one.
        limit: IoU above which two are.

    Returns:
        (K,) int64, rows that stay, ascending.
    """
    columns = inside.float()
    both = columns @ columns.T
    area = columns.sum(dim=1)
    alike = both > limit * (area[:, None] + area - both).clamp(min=1)
    alike &= (group[:, None] == group) & (group >= 0)[:, None]
    # one after the other on the CPU, with all that it takes in one piece: a GPU would be asked for each row
    order = score.argsort(descending=True, stable=True)
    alike_of, first = np.split(torch.cat([alike.long(), order[:, None]], dim=1).cpu().numpy(), [len(group)], axis=1)
    stays = np.ones(len(group), bool)
    for row in first[:, 0]:
        if stays[row]:
            stays &= alike_of[row] == 0
            stays[row] = True
    return torch.from_numpy(np.flatnonzero(stays)).to(group.device)


def fill_uncovered(
    panoptic: Panoptic,
    features: Tensor,
    usable: Tensor,
    classes: ClassText,
    position: Tensor,
    config: MergeConfig,
) -> Panoptic:
    """Unlabelled voxels take the nearest text class of a feature of their own: of F_rec, then of F_clip (ours).

    Call it once per kind of feature. New thing voxels join no existing instance: each connected piece of one class
    is an instance of its own.

    Args:
        panoptic: what the merge gave.
        features: (V, C).
        usable: (V,) bool, voxels whose feature means something.
        classes: to choose from.
        position, config: as in `merge`.
    """
    chosen = usable & (panoptic.voxel_class == NO_ENTRY)
    best = class_cosines(features, classes).argmax(dim=1)
    new = torch.where(chosen, best, torch.full_like(best, NO_ENTRY))
    fresh = _instances(
        new, new, classes.is_thing, position, config.model_copy(update={"split": True, "split_length": 0.0})
    )
    fresh = torch.where(fresh > 0, fresh + panoptic.voxel_instance.max(), fresh)
    return Panoptic(
        torch.where(chosen, new, panoptic.voxel_class),
        torch.where(chosen, fresh, panoptic.voxel_instance),
        panoptic.voxel_query,
    )


def _instances(segment: Tensor, voxel_class: Tensor, is_thing: Tensor, position: Tensor, config: MergeConfig) -> Tensor:
    """Number the thing segments (V,), and their pieces, from 1."""
    instance = np.zeros(len(segment), np.int64)
    thing = is_thing[voxel_class.clamp(min=0)] & (voxel_class >= 0)
    ids = torch.where(thing, segment, NO_ENTRY).cpu().numpy()
    place = position.detach().cpu().numpy()
    for one in np.unique(ids[ids != NO_ENTRY]):
        rows = np.flatnonzero(ids == one)
        if config.split:
            piece = components(place[rows], config.split_gap, config.split_gap_per_metre)
            piece = rejoined(place[rows], piece, config.split_length)
        else:
            piece = np.zeros(len(rows), np.int64)
        instance[rows] = instance.max() + 1 + piece
    return torch.from_numpy(instance).to(segment.device)
