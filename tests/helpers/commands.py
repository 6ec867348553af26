"""Commands of the command lines with the names and types of their options."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import typer
from typer.models import ArgumentInfo

from driveworld.demo_clip.__main__ import app as demo_clip
from ovps import cli

APPS = {"": cli.app, "demo_clip ": demo_clip}


def options() -> dict[str, dict[str, Any]]:
    """Annotated types by the names of options, or of arguments, by command: `ovps vocab build` is `vocab build`."""
    found: dict[str, dict[str, Any]] = {}
    waiting = list(APPS.items())
    while waiting:
        prefix, app = waiting.pop()
        waiting += [(f"{prefix}{group.name} ", group.typer_instance) for group in app.registered_groups]
        for command in app.registered_commands:
            name = command.name or command.callback.__name__.replace("_", "-")
            parameters = inspect.signature(command.callback, eval_str=True).parameters.values()
            found[prefix + name] = {_name(p): p.annotation for p in parameters}
    return found


def app_of(command: str) -> tuple[typer.Typer, list[str]]:
    """The Typer app of a command, and the words that call it there."""
    prefix = next(prefix for prefix in reversed(APPS) if command.startswith(prefix))
    return APPS[prefix], command.removeprefix(prefix).split()


def _name(parameter: inspect.Parameter) -> str:
    about = get_args(parameter.annotation)[-1]
    if isinstance(about, ArgumentInfo):
        return parameter.name
    written = [about.default, *(about.param_decls or ())]  # in an annotation the first is taken for the default
    usual = f"--{parameter.name.replace('_', '-')}"
    return next((name for name in written if isinstance(name, str) and name.startswith("--")), usual)
