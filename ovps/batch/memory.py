"""Cached frames kept in memory while they fit: least recently used leave first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Keep(Generic[T]):
    """Values by number, loaded when missing, up to a number of bytes.

    Args:
        load: makes a value.
        size: bytes of a value.
        limit: bytes to hold at most; 0 keeps nothing.
    """

    def __init__(self, load: Callable[[int], T], size: Callable[[T], int], limit: int) -> None:
        self._load, self._size, self._limit = load, size, limit
        self._values: OrderedDict[int, T] = OrderedDict()
        self._used = 0

    def __getitem__(self, number: int) -> T:
        if number in self._values:
            self._values.move_to_end(number)
            return self._values[number]
        value = self._load(number)
        self._values[number] = value
        self._used += self._size(value)
        while self._used > self._limit and self._values:
            _, oldest = self._values.popitem(last=False)
            self._used -= self._size(oldest)
        return value
