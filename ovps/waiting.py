"""Lines about servers and calls that are waited for, so that no command is silent while one does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from time import monotonic, sleep

from ovps import progress

_LOOKS = 40  # of the watching thread, in the time between two lines


class Waits:
    """The requests of this process that are under way: to servers, and calls of which nobody knows how long they take.

    When one of them takes half of `progress.TELL_EVERY`, a line on stderr says so, and from then on every `TELL_EVERY`
    seconds. The thread that looks lives only as long as something is waited for.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._begun: dict[object, tuple[float, str, str]] = {}
        self._watch = Thread()
        self._told = float("-inf")

    @contextmanager
    def of(self, whom: str, what: str) -> Iterator[None]:
        """Around one request: whom it asks, and for what."""
        request = object()
        with self._lock:
            if not self._watch.is_alive():
                self._watch = Thread(target=self._look, name="waiting", daemon=True)
                self._watch.start()
            self._begun[request] = (monotonic(), whom, what)
        try:
            yield
        finally:
            with self._lock:
                del self._begun[request]

    def _look(self) -> None:
        while True:
            sleep(progress.TELL_EVERY / _LOOKS)
            with self._lock:
                if not self._begun:
                    self._watch = Thread()  # whoever asks next begins another
                    return
                line = self._line(monotonic())
            if line:
                progress.say(line)

    def _line(self, now: float) -> str | None:
        begun, whom, what = min(self._begun.values())
        if now < max(begun + progress.TELL_EVERY / 2, self._told + progress.TELL_EVERY):
            return None
        self._told = now
        others = f", and {len(self._begun) - 1} more requests" if len(self._begun) > 1 else ""
        return f"waiting for {whom} for {now - begun:.0f} s: {what}{others}"
