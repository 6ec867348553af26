"""A few things kept in memory, those used last: by their bytes, so that small frames are kept by the scene."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Memory of what was made and used last.

    Args:
        limit: bytes.
        least: of the newest, kept however large they are.
        size: bytes of one.
    """

    def __init__(self, limit: int, least: int, size: Callable[[T], int]) -> None:
        self.limit, self.least, self.size = limit, least, size
        self._things: OrderedDict[str, T] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._things

    def get(self, key: str, make: Callable[[], T]) -> T:
        """The thing of a key, made if it is not here; what was not used for longest gives way."""
        if key not in self._things:
            self._things[key] = make()
        self._things.move_to_end(key)
        total = sum(map(self.size, self._things.values()))
        while total > self.limit and len(self._things) > self.least:
            total -= self.size(self._things.popitem(last=False)[1])
        return self._things[key]

    def clear(self) -> None:
        """Keep nothing."""
        self._things.clear()
