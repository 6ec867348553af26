"""`pfc`, P3Former + FC-CLIP: what a mask is called is decided by the 3D model and by CLIP, pooled in the mask.

ovps train --cache ./zarr --system pfc --out runs/pfc

Training is that of the method without fusion and without distillation. Fusion and distillation with this classifier
in place of the unified one are rows of the ablation.

FC-CLIP pools CLIP's map before its projection. The cache holds projected, normalised cells, so here projection comes
before pooling: `benchmarks/bench_pooling.py` measures how often the two name a mask differently.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig, class_cosines
from ovps.model.masks import MaskForm, mask_probability


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


def ensemble_probability(
    logits: Tensor,
    class_embedding: Tensor,
    pooled: Tensor,
    has_clip: Tensor,
    classes: ClassText,
    tau: Tensor | float,
    config: ClassifierConfig,
) -> Tensor:
    """Class probabilities (Q, E): is the query an object at all, times which class it is [FC-CLIP, section 3.3].

    Which class: p_in^(1-w) p_out^w, renormalised, with p_in the softmax over cosines to the class embedding and p_out
    to pooled CLIP; p_in alone for a mask without CLIP. Whether: FC-CLIP has a learned "no object" in its softmax; the
    sigmoids here have the largest probability of any entry instead.

    Args:
        logits: (Q, E), of the unified head.
        class_embedding: (Q, C).
        pooled: (Q, C), has_clip (Q,) bool: see `pooled_clip`.
        classes: E of them, and which were trained on.
        tau: temperature of p_in.
    """
    weight = torch.where(classes.trained, config.base_weight, config.novel_weight)
    p_in = F.log_softmax(class_cosines(class_embedding, classes) / tau, dim=1)
    p_out = F.log_softmax(class_cosines(pooled, classes) / config.clip_tau, dim=1)
    mixed = ((1 - weight) * p_in + weight * p_out).softmax(dim=1)
    which = torch.where(has_clip[:, None], mixed, p_in.exp())
    return logits.sigmoid().amax(dim=1, keepdim=True) * which
