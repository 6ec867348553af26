"""Cached frames kept in memory while they fit: least recently used leave first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Keep(Generic[T]):
    """Values by key, loaded when missing, up to a number of bytes.

    Args:
        load: makes the value of a key.
        size: bytes of a value.
        limit: bytes to hold at most; 0 keeps nothing.
    """

    def __init__(self, load: Callable[[Hashable], T], size: Callable[[T], int], limit: int) -> None:
        self._load, self._size, self._limit = load, size, limit
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._used = 0

    def __getitem__(self, key: Hashable) -> T:
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._load(key)
        self._values[key] = value
        self._used += self._size(value)
        while self._used > self._limit and self._values:
            _, old = self._values.popitem(last=False)
            self._used -= self._size(old)
        return value
