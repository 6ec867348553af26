"""What a progress bar shows."""

import pytest
from rich.console import Console

from ovps import progress


@pytest.mark.parametrize(
    ("name", "note"),
    [("precompute", "23.55 images/s  3.92 frames/s  383 MB"), ("steps", "loss 12.129  data 37 ms  step 234 ms")],
)
def test_counts_and_times_are_whole_in_80_columns(monkeypatch: pytest.MonkeyPatch, name: str, note: str) -> None:
    console = Console(width=80, record=True, force_terminal=False)
    monkeypatch.setattr(progress, "console", console)
    with progress.progress_bar() as bar:
        bar.update(bar.add_task(name, total=2000, note=note), completed=2000)
    line = next(line for line in console.export_text().splitlines() if line.startswith(name))
    assert "2000/2000" in line
    assert "…" not in line
    assert line.endswith(note)
    assert line.count(":") == 4  # elapsed and eta, h:mm:ss
