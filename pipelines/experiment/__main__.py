"""python -m pipelines.experiment --config driveworld --systems closed_set,pfc,ovps"""

from __future__ import annotations

from typing import Annotated

import typer

from ovps.errors import OvpsError
from ovps.progress import console


def main(
    config: Annotated[str, typer.Option(help="An experiment's name, or a YAML file.")] = "driveworld",
    systems: Annotated[str | None, typer.Option(help="Instead of the experiment's, comma-separated.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    yes: Annotated[bool, typer.Option(help="Start however long it takes.")] = False,
) -> None:
    """Run an experiment from data to report."""
    from pipelines.experiment.commands import run  # heavy: a worker process imports this file and needs none of it

    try:
        summary = run(config, systems=systems, jobs=jobs, yes=yes)
    except OvpsError as error:
        console.print(f"{error.kind} error: {error}", style="red", soft_wrap=True, highlight=False)
        raise typer.Exit(error.exit_code) from error
    console.print(f"report: {summary.report.resolve()}", style="green", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    typer.run(main)
