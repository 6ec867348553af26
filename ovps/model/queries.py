"""The queries and their order: learned ones first, then one per base stuff class, in the order of the base classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Queries(nn.Module):
    """Q = learned + base_stuff start vectors of width D."""

    def __init__(self, learned: int, base_stuff: int, width: int) -> None:
        super().__init__()
        self.learned = nn.Parameter(torch.randn(learned, width))
        self.stuff = nn.Parameter(torch.randn(base_stuff, width))

    def forward(self, frames: int) -> Tensor:
        """Repeat the start vectors for B frames, (B, Q, D)."""
        return torch.cat([self.learned, self.stuff]).expand(frames, -1, -1)
