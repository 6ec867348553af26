"""What the campaigns share, and counts, under the results, of the corrupt inputs that were tried."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from ovps.clip.text import build_vocabulary
from pipelines.precompute import prepare

CAME_OF_IT = {
    "refused": "a typed error",
    "quarantined": "a frame in quarantine",
    "warned": "a warning",
    "taken": "no harm",
}


@pytest.fixture(scope="session")
def texts() -> dict:
    """Embedded texts of the data sets' classes, which no damage changes."""
    return {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, texts: dict) -> None:
    """Each text is embedded once, and no run waits for the disk: hundreds of runs, and power does not fail here."""

    def embedded(encoder, entries):
        key = encoder.weights.sha256, tuple(entries)
        if key not in texts:
            texts[key] = build_vocabulary(encoder, entries)
        return texts[key]

    monkeypatch.setattr(prepare, "build_vocabulary", embedded)


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, record_property) -> None:
    case = getattr(request.node, "callspec", None) and request.node.callspec.params.get("case")
    if case:
        record_property("outcome", case.outcome)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tried: dict[str, Counter[str]] = defaultdict(Counter)
    for state in ("passed", "failed"):
        for report in terminalreporter.stats.get(state, []):
            outcome = dict(report.user_properties).get("outcome")
            path = Path(report.fspath)
            if report.when == "call" and outcome and path.parent.name == Path(__file__).parent.name:
                tried[path.stem.removeprefix("test_")][outcome if state == "passed" else state] += 1
    for name, counts in sorted(tried.items()):
        ends = ", ".join(f"{counts[outcome]} {text}" for outcome, text in CAME_OF_IT.items())
        terminalreporter.write_line(
            f"corrupt {name}: {counts.total()} inputs: {ends}; {counts['failed']} did not end so"
        )
