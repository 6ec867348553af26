"""Names of masks: by the query's class embedding, by CLIP pooled in the mask, or by both.

ovps eval --run runs/ovps --cache ./zarr --set classifier.classes=per_mask --out runs/ovps/per_mask

A rule takes what is known of the masks of one frame (`MaskEvidence`) and gives the probability of every entry of the
vocabulary. `unified` is the paper's head, `ensemble` that of `pfc` (P3Former + FC-CLIP), `per_mask` ours. No rule has
learned anything, and none knows of a novel entry more than that it was not trained on.

FC-CLIP pools CLIP's map before its projection. The cache holds projected, normalised cells, so here projection comes
before pooling: `benchmarks/bench_pooling.py` measures how often the two name a mask differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig, class_cosines
from ovps.model.masks import MaskForm, mask_probability


@dataclass(frozen=True, eq=False)
class MaskEvidence:
    """Evidence on the Q masks of one frame, by which they are named.

    Attributes:
        logits: (Q, E), of the unified head.
        embedding: (Q, C), of the queries.
        classes: E of them, and which were trained on.
        tau: temperature of the unified head.
        pool: gives `pooled`; called only if a rule asks.
    """

    logits: Tensor
    embedding: Tensor
    classes: ClassText
    tau: Tensor | float
    pool: Callable[[], tuple[Tensor, Tensor]]

    @cached_property
    def pooled(self) -> tuple[Tensor, Tensor]:
        """CLIP averaged over each mask, (Q, C), and which masks have any, (Q,) bool."""
        return self.pool()


def pooled_clip(mask_logits: Tensor, clip: Tensor, valid: Tensor, form: MaskForm) -> tuple[Tensor, Tensor]:
    """Average, over each mask, the CLIP features of its voxels that have one.

    Args:
        mask_logits: (Q, V).
        clip: (V, C).
        valid: (V,) bool.
        form: of the masks; inside is a probability above 0.5.

    Returns:
        (Q, C) float32, zeros for a mask without any, and (Q,) bool, which have one.
    """
    inside = (mask_probability(mask_logits[:, valid], form) > 0.5).float()
    count = inside.sum(dim=1)
    return inside @ clip[valid] / count.clamp(min=1)[:, None], count > 0


def name_masks(evidence: MaskEvidence, config: ClassifierConfig) -> Tensor:
    """Compute the class probabilities (Q, E) of the masks of one frame by the rule that the config names."""
    return RULES[config.classes](evidence, config)


def unified(evidence: MaskEvidence, config: ClassifierConfig) -> Tensor:
    """Sigmoids of the unified head, base and novel entries alike [paper]; `base_shift` is calibrated stacking.

    [Chao et al. 2016]: seen classes are favoured by training, so a constant is subtracted from their logits.
    """
    shift = config.base_shift * evidence.classes.trained.to(evidence.logits.dtype)
    return (evidence.logits - shift).sigmoid()


def ensemble(evidence: MaskEvidence, config: ClassifierConfig) -> Tensor:
    """Probability that a mask is an object at all, times which class it is [FC-CLIP, section 3.3].

    Which class: p_in^(1-w) p_out^w, renormalised, with p_in the softmax over cosines to the class embedding and p_out
    to pooled CLIP; p_in alone for a mask without CLIP. Whether: see `objectness`.
    """
    pooled, has_clip = evidence.pooled
    weight = torch.where(evidence.classes.trained, config.base_weight, config.novel_weight)
    p_in = F.log_softmax(class_cosines(evidence.embedding, evidence.classes) / evidence.tau, dim=1)
    p_out = F.log_softmax(class_cosines(pooled, evidence.classes) / config.clip_tau, dim=1)
    mixed = ((1 - weight) * p_in + weight * p_out).softmax(dim=1)
    which = torch.where(has_clip[:, None], mixed, p_in.exp())
    return objectness(evidence, which, config) * which


def per_mask(evidence: MaskEvidence, config: ClassifierConfig) -> Tensor:
    """Name by pooled CLIP the masks that CLIP itself places among novel entries, all others by the head (ours).

    The unified head has seen base classes only and calls what is unlike them by their names; pooled CLIP knows novel
    classes, but tells base ones apart less well. A mask is CLIP's to name if its pooled feature is nearer to some novel
    entry than to every base entry, by more than `margin` of cosine.
    """
    pooled, has_clip = evidence.pooled
    cosine = class_cosines(pooled, evidence.classes)
    trained = evidence.classes.trained
    nearest = [cosine.masked_fill(~kind, -torch.inf).amax(dim=1) for kind in (~trained, trained)]
    by_clip = has_clip & (nearest[0] > nearest[1] + config.margin)
    which = (cosine / config.clip_tau).softmax(dim=1)
    by_pooled = objectness(evidence, which, config) * which
    return torch.where(by_clip[:, None], by_pooled, unified(evidence, config))


def objectness(evidence: MaskEvidence, which: Tensor, config: ClassifierConfig) -> Tensor:
    """Compute the probability (Q, 1) that a mask is an object: the head's largest sigmoid, raised by CLIP's certainty.

    FC-CLIP has a learned "no object" in its softmax; the sigmoids here have the largest probability of any entry.
    Certainty is the largest probability of `which`, (Q, E), weighed by `certainty` [COAT]:
    p' = 1 - (1 - certainty p_clip) (1 - p), written so that a certainty of 0 changes no bit.
    """
    head = evidence.logits.sigmoid().amax(dim=1, keepdim=True)
    return head + config.certainty * which.amax(dim=1, keepdim=True) * (1 - head)


RULES: Mapping[str, Callable[[MaskEvidence, ClassifierConfig], Tensor]] = {
    "unified": unified,
    "ensemble": ensemble,
    "per_mask": per_mask,
}
