"""What progress shows: a bar on a terminal, lines in a log."""

import time

import pytest
from rich.console import Console

from ovps import progress


@pytest.fixture
def shown(monkeypatch):
    """The console that progress writes to, on a terminal or not."""

    def use(*, terminal: bool, width: int = 80) -> Console:
        console = Console(width=width, record=True, force_terminal=terminal, force_interactive=terminal)
        monkeypatch.setattr(progress, "console", console)
        return console

    return use


@pytest.mark.parametrize(
    ("name", "note"),
    [("precompute", "23.55 images/s  3.92 frames/s  383 MB"), ("train", "loss 12.129  data 37 ms  step 234 ms")],
)
def test_counts_and_times_are_whole_in_80_columns(shown, name, note):
    console = shown(terminal=True)
    with progress.progress(name, "frames", 2000) as counter:
        counter.show(2000, note)
    line = [line for line in console.export_text().splitlines() if line.startswith(name)][-1]
    assert "2000/2000" in line
    assert "…" not in line
    assert line.rstrip().endswith(note)
    assert line.rpartition(name)[2].count(":") == 4  # elapsed and eta, h:mm:ss


def test_a_log_has_a_line_at_once_and_again_and_again(shown, monkeypatch):
    console = shown(terminal=False, width=20)  # nothing is cut where nobody sees columns
    monkeypatch.setattr(progress, "TELL_EVERY", 0.2)
    note = "a note that is much longer than the console is wide"
    with progress.progress("precompute", "frames", 240, done=3) as counter:
        first = console.export_text(clear=False)
        counter.advance(note)
        time.sleep(0.7)
        counter.show(240, note)
    assert first == "precompute: 3 of 240 frames\n"
    lines = console.export_text().splitlines()
    assert len(lines) >= 4
    assert lines[1].startswith("precompute: 4 of 240 frames")
    assert lines[-1].startswith("precompute: 240 of 240 frames")
    assert all(line.endswith(note) for line in lines[1:])


def test_a_log_is_never_silent_for_half_a_minute():
    assert progress.TELL_EVERY < 30


@pytest.fixture
def clock(shown, monkeypatch):
    """Time that goes on as told."""
    console, now = shown(terminal=False), [0.0]
    monkeypatch.setattr(console, "get_time", lambda: now[0])
    return now


def test_a_line_says_how_fast_and_how_long(clock):
    with progress.progress("train", "steps", 100) as counter:
        for _ in range(20):
            clock[0] += 2
            counter.advance()
        assert str(counter) == "train: 20 of 100 steps, 0:00:40, 0.5 steps/s, eta 0:02:40"


def test_several_that_end_in_one_moment_are_no_sign_of_speed(clock):
    with progress.progress("world", "scenes", 24) as counter:
        clock[0] = 60
        counter.advance()
        clock[0] = 60.1  # the other of two processes
        counter.advance()
        assert counter.eta == pytest.approx(22 * 60.1 / 2)
        clock[0] = 120  # nothing has come since
        assert counter.eta == pytest.approx(22 * 120 / 2)


def test_what_was_there_before_is_no_sign_of_speed(clock):
    with progress.progress("precompute", "frames", 100, done=90) as counter:
        assert str(counter) == "precompute: 90 of 100 frames"
        clock[0] = 10
        counter.advance()
        assert counter.eta == pytest.approx(90)


def test_an_old_speed_is_forgotten(clock):
    with progress.progress("precompute", "frames", 10_000) as counter:
        for seconds in (1, 10):  # a second a frame, then ten: a slower disk
            for _ in range(200):
                clock[0] += seconds
                counter.advance()
        assert counter.speed == pytest.approx(0.1, rel=0.05)
