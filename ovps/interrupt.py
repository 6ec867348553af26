"""Ctrl-C (SIGINT), SIGTERM and SIGHUP: the first ends a command in order, a second one at once.

What is kept is told by notes on the KeyboardInterrupt (`kept`); the command line turns it into one message.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from time import monotonic
from types import FrameType

from ovps.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed, the connection is lost
AGAIN = 0.02  # seconds until an interrupt that was lost is raised again


class _State:
    signals = 0  # so far
    first = math.inf  # when it came, by time.monotonic
    finishing: str | None = None  # what is brought to its end before anything stops


@contextmanager
def listening(*, insist: bool = True) -> Iterator[None]:
    """Raise KeyboardInterrupt at the first of SIGNALS within, unless something is `finishing`.

    Where an exception cannot leave (a finaliser, a callback of an import) it is raised a moment later again, instead of
    a traceback and nothing else.

    A signal that is ignored already stays so, and off the main thread nothing is changed.

    Args:
        insist: a second signal ends the process at once. Off, it is ignored: for processes whose parent repeats
            signals, and ends them itself when it has waited long enough.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        _State.signals += 1
        if _State.signals == 1:
            _State.first = monotonic()
            if _State.finishing is None:
                raise KeyboardInterrupt
            _tell(f"stopping after {_State.finishing}; once more ends at once" if insist else "")
        elif insist:
            _tell("\x1b[?25h" if sys.stderr.isatty() else "")  # a progress bar hides the cursor
            os._exit(Interrupted.exit_code)

    def raise_again(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    hook = sys.unraisablehook
    _State.signals, _State.first = 0, math.inf

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            hook(lost)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, raise_again if number == signal.SIGALRM else on_signal)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        _State.signals, _State.first = 0, math.inf
        for number, handler in before.items():
            signal.signal(number, handler)


def seconds_since() -> float:
    """Seconds since the first signal that `listening` has heard; -inf where there was none."""
    return monotonic() - _State.first


@contextmanager
def finishing(what: str) -> Iterator[Callable[[], bool]]:
    """Keep a first signal from interrupting what is within: ask what is yielded whether to stop, where one can.

    Args:
        what: is brought to its end first, for people: "this step".
    """
    _State.finishing = what
    try:
        yield lambda: _State.signals > 0
    finally:
        _State.finishing = None


@contextmanager
def kept(note: Callable[[], str]) -> Iterator[None]:
    """Let a KeyboardInterrupt that leaves the block say what of its work is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(note())
        raise


@contextmanager
def deaf_children(*also: signal.Signals) -> Iterator[None]:
    """Processes started in here, and by threads started in here, never see SIGINT or SIGHUP: their parent ends them.

    A terminal sends these to all of them, and each would print a traceback, or be gone before its parent has ended.
    Locks and queues for them are made in here too: these start a process that keeps track of them, once for all.

    Args:
        also: further signals that they, and every thread of theirs, begin without hearing.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        # begun with SIGHUP blocked, the tracker of shared memory and semaphores never hears it; SIGINT and SIGTERM it
        # ignores by itself, and leaves them unblocked here when it has started
        with _unlinking_in_silence():
            resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *also})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _unlinking_in_silence() -> Iterator[None]:
    """The tracker that is started in here unlinks without a word what a killed process has left.

    It would warn of it below the error that says that the process was killed.
    """
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    try:
        yield
    finally:
        sys.warnoptions.pop()


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, however that happened.

    Else what a killed command has begun would go on unseen.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is not a worker"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_children() -> None:
    """Send SIGTERM to the processes that this one has started by multiprocessing."""
    for child in multiprocessing.active_children():
        child.terminate()


@contextmanager
def told() -> Iterator[None]:
    """A KeyboardInterrupt that leaves the block becomes `Interrupted`, as does what compiled code makes of one."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise interrupted(stop) from stop
    except (ImportError, SystemError) as error:  # an import was interrupted, of numpy for example
        if not _State.signals:
            raise
        raise interrupted(KeyboardInterrupt()) from error


def interrupted(stop: KeyboardInterrupt) -> Interrupted:
    """Make the error that the command line shows: what is kept and the command to go on with, or to begin again."""
    notes = getattr(stop, "__notes__", ())
    if not notes:
        return Interrupted("it had not ended", remedy=f"Run it again: {command_line()}")
    return Interrupted("; ".join(notes), remedy=f"Go on with: {command_line()}")


def command_line() -> str:
    """The command of this process as a shell takes it, but without --restart: it goes on."""
    program = Path(sys.argv[0])
    words = [str(program)]
    if launched():
        words = ["torchrun", "--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", "1"), "-m", "ovps"]
    elif program.suffix == ".py" and program.is_file():
        python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else "python"
        words = [python, "-m", f"{program.parent.name}.{program.stem}"]
    elif shutil.which(program.name) == str(program.absolute()):
        words = [program.name]
    return shlex.join([*words, *(word for word in sys.argv[1:] if word != "--restart")])


def launched() -> bool:
    """Tell whether torchrun started this process: it passes signals on that the process may have had already."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _tell(text: str) -> None:
    """A line on stderr, from a signal handler: a stream's own buffer may be in use."""
    if text:
        with suppress(OSError):  # nobody reads it any more
            os.write(2, f"\n{text}\n".encode())
