"""A short campaign of faults; `make chaos` is the long one."""

from __future__ import annotations

import io
import re

import pytest
import typer
from rich.console import Console

from tools.chaos import __main__ as command
from tools.chaos.campaign import campaign
from tools.chaos.damage import DAMAGES
from tools.chaos.ground import Ground
from tools.chaos.outcome import Outcome
from tools.chaos.table import rows, show

SHORT = (*DAMAGES, "kill -9, client", "two runs at once, disk", "read while it grows")


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_read_wrong(tmp_path):
    outcomes = list(campaign(Ground(tmp_path), 12, 3, SHORT))
    assert len(outcomes) >= 12
    assert {outcome.kind for outcome in outcomes} == set(SHORT)
    assert [outcome.plain() for outcome in outcomes if not outcome.good] == []
    told = [outcome for outcome in outcomes if outcome.kind in DAMAGES and outcome.mended != "nothing"]
    assert told
    assert all("verify" in outcome.seen for outcome in told)


def test_what_went_wrong_is_in_the_table():
    good = Outcome("bit flip", "a", {"verify", "reader"}, "repair")
    bad = Outcome("bit flip", "b of c", set(), "nothing", lost=7, wrong=5)
    assert (good.good, bad.good) == (True, False)
    assert rows([good, bad])["all"] == (2, 0, 1, 1, 0, 0, 1, 0, 1, 7, 5)
    console = Console(file=io.StringIO(), width=140)
    show([good, bad], console)
    text = console.file.getvalue()
    assert "b of c: lost 7, wrong 5" in text
    assert "a: lost" not in text


@pytest.mark.parametrize("stopped", [False, True])
def test_it_says_what_it_does_from_the_beginning_and_what_was_done_when_it_is_stopped(monkeypatch, capsys, stopped):
    def faults(*asked):
        (first,) = capsys.readouterr().out.splitlines()
        assert first.startswith("20 faults, at least one of each of 20 kinds")
        for number in range(2):
            yield Outcome("bit flip", f"of {number}", {"verify"}, "repair", lost=number)
            told = capsys.readouterr().out
            assert re.match(rf"{number + 1} of 20 faults, 1 as they should be, \d+ s: bit flip: of {number}", told)
        if stopped:
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "campaign", faults)
    with pytest.raises(typer.Exit) as end:
        command.main(faults=2)
    out = capsys.readouterr().out
    assert end.value.exit_code == (130 if stopped else 1)
    assert re.search(r"all +2 +0 +2", out)
    assert ("interrupted after 2 of 20 faults, seed 0" in out) == stopped
