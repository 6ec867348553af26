"""python -m tools.chaos [--faults 300] [--seed 0] [--only KIND,...] [--json FILE]"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import torch
import typer
from rich.console import Console

from tools.chaos.campaign import KINDS, campaign
from tools.chaos.ground import Ground
from tools.chaos.outcome import Outcome
from tools.chaos.table import rows, show

SAY_EVERY = 30  # seconds


def main(
    faults: Annotated[int, typer.Option(min=1, help="At least so many, over all kinds.")] = 300,
    seed: Annotated[int, typer.Option(help="Of what is damaged, and when.")] = 0,
    only: Annotated[str, typer.Option(help="Kinds, with | between them; all without it.")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Counts and every outcome, as JSON.")] = None,
) -> None:
    kinds = tuple(name.strip() for name in only.split("|") if name.strip())
    if unknown := [name for name in kinds if name not in KINDS]:
        raise typer.BadParameter(f"no kind {', '.join(unknown)}; there are {' | '.join(KINDS)}")
    torch.set_num_threads(1)
    start, outcomes = time.monotonic(), []
    said = start
    console = Console(width=None if os.isatty(1) else 160)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as quiet:
        for outcome in _run(Ground(Path(folder)), faults, seed, kinds, quiet):
            outcomes.append(outcome)
            if time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                console.print(f"{len(outcomes)} faults, {said - start:.0f} s: {outcome.kind}", highlight=False)
            if not outcome.good:
                console.print(f"{outcome.kind}: {outcome.what}: {outcome.note}", markup=False, soft_wrap=True)
    show(outcomes, console)
    console.print(f"{len(outcomes)} faults, seed {seed}, {time.monotonic() - start:.0f} s", highlight=False)
    if json_file is not None:
        about = {"seed": seed, "counts": rows(outcomes), "outcomes": [outcome.plain() for outcome in outcomes]}
        json_file.write_text(json.dumps(about, indent=1) + "\n")
    raise typer.Exit(any(not outcome.good for outcome in outcomes))


def _run(ground: Ground, faults: int, seed: int, kinds: tuple[str, ...], quiet: TextIO) -> Iterator[Outcome]:
    """What commands say of their progress is no part of the table."""
    with contextlib.redirect_stderr(quiet):
        yield from campaign(ground, faults, seed, kinds)


if __name__ == "__main__":
    typer.run(main)
