"""Queries to masks and class embeddings: a masked-attention transformer decoder.

As in Mask2Former and P3Former: each query looks only at the voxels that its mask of the layer before contains, then at
the other queries; masks and classes are predicted before the first layer and after each. Norms come after the
residual sums. The prediction heads are shared by all layers [Mask2Former, FC-CLIP]; P3Former has one set per layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovps.model.config import ModelConfig
from ovps.model.inputs import LayerOutput
from ovps.model.layers import Attention, logit, mlp

_LEAN = 3.0  # of the logit, to begin with


class Decoder(nn.Module):
    """Fused voxel features and queries to L + 1 `LayerOutput`s."""

    def __init__(self, config: ModelConfig, clip_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.heads = Heads(config, clip_dim)

    def forward(
        self, queries: Tensor, voxels: list[Tensor], position: list[Tensor], own: list[Tensor] | None = None
    ) -> list[LayerOutput]:
        """Decode queries (B, Q, D).

        Args:
            voxels, position: B tensors (V_b, D), the second without the first's content.
            own: B tensors (Q, V_b) bool, the cluster that a query started from; None: no query did.
        """
        outputs = [self.heads(queries, voxels, position, own)]
        for layer in self.layers:
            allowed = [attend_where(logits) for logits in outputs[-1].mask_logits]
            if own is not None:
                allowed = [a | o for a, o in zip(allowed, own, strict=True)]
            queries = layer(queries, voxels, allowed)
            outputs.append(self.heads(queries, voxels, position, own))
        return outputs


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward, each with residual sum and norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.width
        self.cross = Attention(d, config.heads)
        self.self_attention = Attention(d, config.heads)
        self.ffn = nn.Sequential(
            nn.Linear(d, config.ffn), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.ffn, d)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, queries: Tensor, voxels: list[Tensor], allowed: list[Tensor]) -> Tensor:
        """Update queries (B, Q, D) from voxels B x (V_b, D), where allowed, B x (Q, V_b) bool: (B, Q, D)."""
        # Frames differ in length: one by one costs less than padding.
        seen = torch.cat(
            [self.cross(q[None], v[None], a[None]) for q, v, a in zip(queries, voxels, allowed, strict=True)]
        )
        queries = self.norms[0](queries + self.dropout(seen))
        queries = self.norms[1](queries + self.dropout(self.self_attention(queries, queries)))
        return self.norms[2](queries + self.dropout(self.ffn(queries)))


class Heads(nn.Module):
    """The heads of a query: its class embedding, and its mask as a dot product with the voxels.

    The mask logit is the sum of a feature and a position branch [P3Former] and a learned offset shared by all queries,
    which starts at the logit of `mask_prior` (ours). A query that started from a cluster leans towards it: `lean`,
    learned, is added inside (ours). Masks begin small, as most objects are, and nearly alike: with torch's own start a
    voxel lay in a dozen masks, L_V began at 13 instead of 1, and learning one frame took twice as many steps.
    """

    def __init__(self, config: ModelConfig, clip_dim: int) -> None:
        super().__init__()
        d = config.width
        self.norm = nn.LayerNorm(d)
        self.class_embedding = mlp(d, d, clip_dim)
        self.mask = mlp(d, d, d)
        self.position = mlp(d, d, d) if config.position_branch else None
        self.mask_bias = nn.Parameter(torch.tensor(logit(config.mask_prior)))
        self.lean = nn.Parameter(torch.tensor(_LEAN)) if config.cluster_queries else None
        for branch in (self.mask, self.position):
            if branch is not None:
                _shrink(branch)

    def forward(
        self, queries: Tensor, voxels: list[Tensor], position: list[Tensor], own: list[Tensor] | None = None
    ) -> LayerOutput:
        """Read the answer of queries (B, Q, D) on voxels and position, B x (V_b, D): float32 whatever autocast does."""
        queries = self.norm(queries)
        embedding = F.normalize(self.class_embedding(queries).float(), dim=-1)
        logits = [(q @ v.T).float() + self.mask_bias for q, v in zip(self.mask(queries), voxels, strict=True)]
        if own is not None and self.lean is not None:
            logits = [logit + self.lean * inside for logit, inside in zip(logits, own, strict=True)]
        if self.position is None:
            return LayerOutput(embedding, logits)
        where = [(q @ p.T).float() for q, p in zip(self.position(queries), position, strict=True)]
        logits = [feature + place for feature, place in zip(logits, where, strict=True)]
        return LayerOutput(embedding, logits, [place + self.mask_bias for place in where])


def _shrink(branch: nn.Sequential) -> None:
    """Start the last linear layer at a tenth of torch's own scale."""
    with torch.no_grad():
        for parameter in branch[-1].parameters():
            parameter.mul_(0.1)


def attend_where(mask_logits: Tensor) -> Tensor:
    """Choose where queries attend, (Q, V) bool: mask over 0.5, everywhere where it is empty [Mask2Former]."""
    inside = mask_logits.detach() > 0
    return inside | ~inside.any(dim=1, keepdim=True)
