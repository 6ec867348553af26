"""The standard output of a command with --json: its JSON, and nothing of what libraries and plug-ins print."""

from __future__ import annotations

import os
import sys
from typing import TextIO


class _State:
    stream: TextIO | None = None  # None: nothing is kept apart


def keep_apart(stream: TextIO) -> None:
    """Have JSON written to a stream; what this process and those that it starts print then goes to stderr.

    Args:
        stream: of a copy of file 1.
    """
    os.dup2(2, 1)
    _State.stream = stream


def json_file() -> int:
    """Number of the file that JSON goes to, for a handler of signals."""
    return 1 if _State.stream is None else _State.stream.fileno()


def print_json(text: str) -> None:
    """Print JSON on the standard output.

    Raises:
        OSError: there is no room for it.
    """
    print(text, file=_State.stream or sys.stdout, flush=True)
