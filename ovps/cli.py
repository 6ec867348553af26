"""The command line: parse, call, print. No logic."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ovps import __version__
from ovps.errors import OvpsError

# heavy imports (torch, zarr, dask, ...) happen inside the commands, so that --help is quick

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Open-vocabulary 3D panoptic segmentation of LiDAR, with CLIP features computed once.",
)
world_app = typer.Typer(no_args_is_help=True, help="The drive world: an embedded data set in nuScenes format.")
cache_app = typer.Typer(no_args_is_help=True, help="Look into and check a store of CLIP features.")
vocab_app = typer.Typer(no_args_is_help=True, help="Class names as text embeddings.")
app.add_typer(world_app, name="world")
app.add_typer(cache_app, name="cache")
app.add_typer(vocab_app, name="vocab")

out = Console()
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def example(*lines: str) -> str:
    """An epilog that shows real command lines."""
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


@app.command(epilog=example("ovps doctor", "ovps doctor --cache /data/zarr --json"))
def doctor(
    cache: Annotated[Path, typer.Option(help="The folder that precompute would write to.")] = Path("zarr"),
    as_json: Json = False,
) -> None:
    """What is installed, what is missing, and what to do about it. Exit code 1 if something needed is missing."""
    from ovps.doctor import examine

    report = examine(cache)
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        table = Table("", "", "found", "remedy")
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]note[/]", "problem": "[red]missing[/]"}
        for check in report.checks:
            table.add_row(marks[check.status], check.name, check.found, check.remedy)
        out.print(table)
    raise typer.Exit(0 if report.healthy else 1)


def main() -> None:
    """Entry point: an OvpsError becomes one readable message and its own exit code."""
    try:
        app()
    except OvpsError as error:
        if "--json" in sys.argv:
            record = {"error": error.kind, "message": error.message, "path": error.path, "frame": error.frame}
            print(json.dumps(record | {"remedy": error.remedy}))
        Console(stderr=True, highlight=False).print(f"[red]{error.kind} error:[/] ", str(error), sep="", markup=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
