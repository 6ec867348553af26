"""Values kept in memory while they fit: those that were not used for longest leave first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class RecentlyUsed(Generic[K, T]):
    """Memory of the values that were used last, up to a number of bytes.

    Args:
        size: bytes of a value; it is asked again whenever the value is used, since a value may grow.
        limit: bytes to hold at most.
        least: how many of the newest values stay however large they are; 0 with a limit of 0 keeps nothing.
    """

    def __init__(self, size: Callable[[T], int], limit: int, least: int = 0) -> None:
        self._size, self._limit, self._least = size, limit, least
        self._values: OrderedDict[K, T] = OrderedDict()
        self._bytes: dict[K, int] = {}
        self._total = 0

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K, make: Callable[[], T]) -> T:
        """The value of a key, made if it is not here."""
        value = self._values[key] if key in self._values else make()
        self._values[key] = value
        self._values.move_to_end(key)
        size = self._size(value)
        self._total += size - self._bytes.get(key, 0)
        self._bytes[key] = size
        while self._total > self._limit and len(self._values) > self._least:
            oldest, _ = self._values.popitem(last=False)
            self._total -= self._bytes.pop(oldest)
        return value

    def clear(self) -> None:
        """Keep nothing."""
        self._values.clear()
        self._bytes.clear()
        self._total = 0
