"""The two building blocks that several files share."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, LayerNorm, GELU, Linear on the last axis [P3Former]."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, outputs))


def logit(probability: float) -> float:
    """Compute the logit of a probability in 0..1, both ends excluded."""
    return math.log(probability / (1 - probability))


class Attention(nn.Module):
    """Multi-head attention [Vaswani et al. 2017], with separate query and memory, and an optional mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, memory: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Attend from queries (B, Q, D) to memory (B, V, D); allowed (B, Q, V) bool, a True a row -> (B, Q, D)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, queries), (self.key, memory), (self.value, memory))
        )
        mask = None if allowed is None else allowed[:, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2))
