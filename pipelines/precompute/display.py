"""Progress of precompute, as people see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from ovps.progress import Counter, progress
from pipelines.precompute.task import Done


class Display:
    """Frames done, images/s, frames/s and bytes written; the bar itself knows the ETA.

    Frames are counted as workers report them, bytes as partitions are committed.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._start = perf_counter()
        self._frames = self._images = self._bytes = 0

    def frame_done(self, images: int) -> None:
        self._frames += 1
        self._images += images
        self._show()

    def partition_done(self, done: Done) -> None:
        self._bytes += done.bytes
        self._show()

    def _show(self) -> None:
        seconds = max(perf_counter() - self._start, 1e-6)
        note = f"{self._images / seconds:.2f} images/s  {self._frames / seconds:.2f} frames/s  {size(self._bytes)}"
        self._counter.show(self._frames, note)


@contextmanager
def display(frames: int) -> Iterator[Display]:
    """Show progress over a number of frames while the context lasts."""
    with progress("precompute", "frames", frames) as counter:
        yield Display(counter)


def size(count: float) -> str:
    """A number of bytes for people.

    >>> size(2_500_000)
    '2.5 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
