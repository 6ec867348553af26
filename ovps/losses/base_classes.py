"""The base classes, as the losses know them. Novel classes have no place here."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class BaseClasses:
    """E base classes in vocabulary order.

    Attributes:
        text: (T, C) float32, one row per synonym.
        class_index: (T,) int64, 0..E-1.
        is_thing: (E,) bool.
    """

    text: Tensor
    class_index: Tensor
    is_thing: Tensor

    def __len__(self) -> int:
        return len(self.is_thing)

    @property
    def stuff(self) -> Tensor:
        """(S,) int64, the base stuff classes: the k-th fixed query belongs to the k-th of them."""
        return (~self.is_thing).nonzero()[:, 0]

    def to(self, device: torch.device | str) -> BaseClasses:
        return BaseClasses(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
