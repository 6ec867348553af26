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

from tools.chaos.campaign import KINDS, campaign, counts
from tools.chaos.ground import Ground
from tools.chaos.outcome import Outcome
from tools.chaos.table import rows, show


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
    console = Console(width=None if os.isatty(1) else 160)
    asked = counts(faults, kinds)
    total = f"{sum(asked.values())} faults"
    console.print(f"{total}, at least one of each of {len(asked)} kinds; first the store that they are done to")
    interrupted = False
    # a run that was to be killed may still write there
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, open(os.devnull, "w") as quiet:
        try:
            for outcome in _run(Ground(Path(folder)), faults, seed, kinds, quiet):
                outcomes.append(outcome)
                right = sum(one.good for one in outcomes)
                console.print(
                    f"{len(outcomes)} of {total}, {right} as they should be, {time.monotonic() - start:.0f} s:"
                    f" {outcome.kind}: {outcome.what}" + ("" if outcome.good else f": {outcome.note}"),
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
        except KeyboardInterrupt:
            interrupted = True
    show(outcomes, console)
    done = f"interrupted after {len(outcomes)} of {total}" if interrupted else f"{len(outcomes)} faults"
    console.print(f"{done}, seed {seed}, {time.monotonic() - start:.0f} s", highlight=False)
    if json_file is not None:
        about = {"seed": seed, "counts": rows(outcomes), "outcomes": [outcome.plain() for outcome in outcomes]}
        json_file.write_text(json.dumps(about, indent=1) + "\n")
    raise typer.Exit(130 if interrupted else any(not outcome.good for outcome in outcomes))


def _run(ground: Ground, faults: int, seed: int, kinds: tuple[str, ...], quiet: TextIO) -> Iterator[Outcome]:
    """What commands say of their progress is no part of the table."""
    with contextlib.redirect_stderr(quiet):
        yield from campaign(ground, faults, seed, kinds)


if __name__ == "__main__":
    typer.run(main)
