"""Answers of servers, asked for on a thread of its own: compiled code that waits for one would hear no Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import wait
from functools import cache
from threading import Thread
from time import monotonic
from typing import ParamSpec, TypeVar

from ovps import interrupt

LOOK_EVERY = 0.1  # seconds, for a signal that another thread has heard
LET_GO = 2.0  # seconds after a signal: what is asked to end in order still has them

P = ParamSpec("P")
R = TypeVar("R")


def answer(ask: Callable[P, Awaitable[R]], *arguments: P.args, **named: P.kwargs) -> R:
    """Wait for what a function of the client for asyncio answers; a request that is interrupted is cancelled.

    Raises:
        KeyboardInterrupt: on the main thread as ever; on others where a signal has come, and no answer in `LET_GO`.
        Exception: what the function raises.
    """

    async def request() -> R:
        return await ask(*arguments, **named)

    begun = monotonic()
    asked = asyncio.run_coroutine_threadsafe(request(), _loop())
    try:
        while not wait([asked], LOOK_EVERY).done:
            if min(monotonic() - begun, interrupt.seconds_since()) > LET_GO:
                raise KeyboardInterrupt
        return asked.result()
    except KeyboardInterrupt:
        asked.cancel()
        raise


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One per process, as the clients are."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="answers", daemon=True).start()
    return loop
