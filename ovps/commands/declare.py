"""Commands made of their options, a function and examples."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

import typer

from ovps.commands.shown import show
from ovps.errors import ConfigError
from ovps.options import Options, takes

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def path_of(text: str, name: str) -> Path:
    """Take the text of an option or argument as a path: of none Typer would make the current folder.

    Raises:
        ConfigError: no text, as of a variable of a script that is not set.
    """
    if not text:
        raise ConfigError(f"{name} names nothing", remedy="Name some")
    return Path(text)


def example(*lines: str) -> str:
    """Make an epilog that shows real command lines."""
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def runs(app: typer.Typer, model: type[Options], function: str, about: str, *examples: str) -> None:
    """Make a command of a function that takes its options and returns a summary.

    Args:
        app: of the command, or of its group.
        model: its options, which know its name.
        function: `module:name`, imported when the command is called.
        about: its help; examples: command lines, shown below it.
    """

    @takes(model)
    def command(options: Options, as_json: Json = False) -> None:
        show(resolve_name(function)(options), as_json)

    app.command(model.command.split()[-1], help=about, epilog=example(*examples))(command)
