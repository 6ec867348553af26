"""Start of the command line: `ovps`, `python -m ovps`, and `torchrun --nproc-per-node 4 -m ovps train`.

Next to nothing is imported here, so that a signal that comes while the rest is imported is told in one sentence, and so
that output that nobody reads any more is no error.
"""

from __future__ import annotations

import atexit
import codecs
import errno
import io
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import TextIO

from ovps.json_output import json_file, keep_apart, print_json

STOPPED, SETUP = 130, 8  # exit codes of `ovps.errors.Interrupted` and `SetupError`, which cost an import
_ASKS = {"--help", "-h", "--version"}  # are answered however little memory there is
_MESSAGE, _REMEDY = "it had not ended", "Start the same command again"


class _State:
    code = 1  # of an exception that nobody expects


class _Unread(io.FileIO):
    """A file whose reader may go (`| head`, a terminal that is closed): what is written then goes nowhere.

    Nor does what is said beside the work, where the disk of its log is full: the work goes on.
    """

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.fileno() == 2 and error.errno in (errno.ENOSPC, errno.EDQUOT):
                return len(data)
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)


def main() -> None:
    """Run the command line in an orderly process: every exit code is a documented one."""
    _open_standard_files()
    if "--json" in sys.argv and not _ASKS.intersection(sys.argv[1:]):
        keep_apart(_text(os.dup(1), sys.stdout))
    atexit.register(_leave)  # the first to be registered is the last to be called
    # pages need no display; a notebook's kernel leaves its own, which the matplotlib of this environment may not know
    os.environ["MPLBACKEND"] = "agg"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        asks = _ASKS.intersection(sys.argv[1:])
        if not asks and not _in_a_folder():  # libraries that cannot be told where they are end in an abort
            _State.code = SETUP
            _tell("the current folder has been removed", "Go to one that is there (cd)")
            sys.exit(SETUP)
        from ovps.shortage import address_space_too_short

        short = address_space_too_short()
        if short is not None and not asks:
            _State.code = SETUP
            _tell(*short)
            sys.exit(SETUP)
        from ovps.cli import main as run

        run()
        _State.code = 0
    except (ImportError, MemoryError, OSError) as error:
        trouble = _installation(error)
        if trouble is None:
            raise
        _State.code = SETUP
        _tell(*trouble)
        sys.exit(SETUP)
    except SystemExit as end:
        _State.code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _in_a_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _installation(error: Exception) -> tuple[str, str] | None:
    """What is said of a library that cannot be loaded, and of memory that is not there, with the remedy."""
    text = str(error).strip()
    library = isinstance(error, OSError) and ("failed to map segment" in text or "shared object" in text)
    if isinstance(error, OSError) and not library:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if isinstance(error, MemoryError) or limit != resource.RLIM_INFINITY:
        from ovps.shortage import in_words

        return in_words("memory", text)
    remedy = "Run `rm -f .venv/.ovps-setup && make setup`; `ovps doctor` says what is installed"
    return f"cannot be loaded: {text}", remedy


def _tell(message: str, remedy: str) -> None:
    """As `ovps.cli.main` tells an error, which may be what cannot be loaded."""
    message = " ".join(message.split())
    with suppress(OSError):
        if "--json" in sys.argv:
            record = {"error": "setup", "message": message, "path": None, "frame": None, "remedy": remedy}
            print_json(json.dumps(record))
    with suppress(OSError):
        print(f"setup error: {message}. {remedy}", file=sys.stderr, flush=True)


def _leave() -> None:
    """End the process when everything is in order, but before the interpreter is taken down.

    Threads of compiled libraries (pyarrow, torch, dask's event loop) that are still at work then may abort the process,
    which would end with SIGABRT in place of its exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(_State.code)


def _open_standard_files() -> None:
    """Open those that were closed on nothing, or a file of the command would get the number that errors go to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdout, sys.stderr = _text(1, sys.stdout), _text(2, sys.stderr)


def _text(number: int, like: TextIO | None) -> TextIO:
    encoding = like.encoding if like else "utf-8"
    # of what only Unicode has, a plus-minus for example, an older encoding gets the code
    lenient = like is None or codecs.lookup(encoding).name != "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(_Unread(number, "w", closefd=False)),
        encoding=encoding,
        errors="backslashreplace" if lenient or like is None else like.errors,
        line_buffering=number == 2 or os.isatty(number),
    )


def _end(number: int, frame: FrameType | None) -> None:
    """End before anything was begun, or after all was done: to raise inside an import may end in any error.

    Once the command is called, `ovps.interrupt.listening` takes over.
    """
    first = os.environ.get("RANK", "0") == "0"
    with suppress(OSError):
        if first and "--json" in sys.argv:
            record = f'{{"error": "interrupted", "message": "{_MESSAGE}", "path": null, "frame": null'
            os.write(json_file(), f'{record}, "remedy": "{_REMEDY}"}}\n'.encode())
    with suppress(OSError):
        if first:
            os.write(2, f"interrupted: {_MESSAGE}. {_REMEDY}\n".encode())
    os._exit(STOPPED)


if __name__ == "__main__":
    main()
