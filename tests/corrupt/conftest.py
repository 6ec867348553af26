"""Counts, under the results, of the corrupt inputs that were tried."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tried = Counter(
        (Path(report.fspath).stem.removeprefix("test_"), outcome)
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and Path(report.fspath).parent.name == Path(__file__).parent.name
    )
    for name in sorted({name for name, _ in tried}):
        right, wrong = tried[name, "passed"], tried[name, "failed"]
        terminalreporter.write_line(
            f"corrupt {name}: {right + wrong} inputs, {right} ended as they must, {wrong} did not"
        )
