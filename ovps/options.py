"""Options of a command as one pydantic model: defaults, help and checks for the shell, YAML files and Python alike."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args, get_origin

import typer
from pydantic import AfterValidator, BaseModel, ValidationError, field_validator
from pydantic.fields import FieldInfo

from ovps.entries import quoted, split_unquoted, unquoted
from ovps.errors import ConfigError, faults_in
from ovps.places import at_home, check_no_url

Choice = TypeVar("Choice", bound=Sequence[Any] | None)


@dataclass(frozen=True)
class Flag:
    """An option that the shell writes otherwise than its field is called.

    Attributes:
        name: of the option, e.g. `--set`; None: that of the field.
        commas: a tuple as one text, comma-separated; else the option is given again and again.
        positional: an argument, given by its place and without a name; a tuple takes as many as there are.
    """

    name: str | None = None
    commas: bool = False
    positional: bool = False


class Options(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Options of a command. Every field has a description: it is the help of the option."""

    command: ClassVar[str]

    _at_home = field_validator("*")(at_home)

    @classmethod
    def asked(cls, **values: Any) -> Self:
        """Check options as a person gave them.

        Raises:
            ConfigError: a value that cannot be used, or one file as two of them; it names the options. Or a URL as a
                folder or file.
        """
        try:
            options = cls(**values)
        except ValidationError as error:
            found = faults_in(error)
            problems = [f"{_name_of(cls, e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in found]
            raise ConfigError("; ".join(problems), remedy=f"See `ovps {cls.command} --help`") from error
        for _, value in options:
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Path):
                    check_no_url(item)
        options._check_files()
        return options

    def _check_files(self) -> None:
        """What is read is not what is written, and of two files that are written none replaces the other."""
        first: dict[str, tuple[str, bool]] = {}
        for name, value in self:
            for item in value if isinstance(value, tuple) else (value,):
                new = isinstance(item, Path) and not os.path.lexists(item)
                if not isinstance(item, str | Path) or not (new or _is_file(item)):
                    continue
                other, is_path = first.setdefault(os.path.realpath(item), (name, isinstance(item, Path)))
                if other != name and (is_path or isinstance(item, Path)):  # a word may be called like some file
                    both = " and ".join(_name_of(type(self), (one,)) for one in (other, name))
                    raise ConfigError(f"{both} name one and the same file", path=item, remedy="Give two files")

    def command_line(self) -> str:
        """The command as a shell takes it; what is as it would be anyway is left out."""
        words = ["ovps", *self.command.split()]
        for name, field in type(self).model_fields.items():
            value, flag = getattr(self, name), flag_of(name, field)
            if value == field.default or flag.name is None:
                continue
            if flag.positional:
                words += map(str, value if isinstance(value, tuple) else [value])
            elif isinstance(value, bool):
                words.append(flag.name if value else f"--no-{flag.name[2:]}")
            elif isinstance(value, tuple):
                texts = list(map(str, value))
                items = [",".join(map(quoted, texts))] if flag.commas else texts
                words += [word for item in items for word in (flag.name, item)]
            else:
                words += [flag.name, str(value)]
        return shlex.join(words)


def each_once(values: Choice) -> Choice:
    """Check that of things to choose none is named twice, which would be a mistake or count twice; None passes.

    >>> each_once(("a", "b"))
    ('a', 'b')

    Raises:
        ValueError: one is.
    """
    seen: set[Hashable] = set()
    for value in () if values is None else values:
        if value in seen:
            raise ValueError(f"{value} is named twice")
        seen.add(value)
    return values


Once = AfterValidator(each_once)


def _is_file(name: str | Path) -> bool:
    try:
        return os.path.isfile(name)
    except ValueError:  # a text with a null byte
        return False


def flag_of(name: str, field: FieldInfo) -> Flag:
    """Flag that the shell writes for a field; the name is filled in."""
    flag = next((m for m in field.metadata if isinstance(m, Flag)), Flag())
    written = flag.name or (name if flag.positional else f"--{name.replace('_', '-')}")
    return replace(flag, name=written)


def takes(model: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a Typer command, in place of its first parameter, one option for each field of a model."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def run(**values: Any) -> None:
            given = {name: _read(name, field, values.pop(name)) for name, field in model.model_fields.items()}
            for name, value in given.items():
                if "" in (value if isinstance(value, tuple) else (value,)):
                    raise _nothing(name, model.model_fields[name])
            command(model.asked(**given), **values)

        parameters = [_parameter(name, field) for name, field in model.model_fields.items()]
        parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = flag_of(name, field)
    hint: Any = field.annotation
    shown: dict[str, Any] = {}
    if Path in (hint, *get_args(hint)) and not _is_tuple(hint):  # of no text Typer would make the current folder
        hint, shown = str if hint is Path else str | None, {"metavar": "path" if flag.positional else "<path>"}
    default: Any = inspect.Parameter.empty if field.is_required() else field.default
    if _is_tuple(hint):
        if field.is_required():
            hint = list[str]
        elif flag.commas:
            hint, default = str | None, ",".join(map(str, default or ())) or None
        else:
            hint, default = list[str] | None, list(default) or None
    if flag.positional:
        argument = typer.Argument(help=field.description, readable=False, **shown)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, argument]
        )
    written = flag.name if hint is not bool else None  # Typer adds --no-NAME by itself
    option = typer.Option(*([written] if written else []), help=field.description, readable=False, **shown)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option])


def _is_tuple(hint: Any) -> bool:
    """Also of one that may be None."""
    return tuple in (get_origin(hint), *map(get_origin, get_args(hint)))


def _read(name: str, field: FieldInfo, value: Any) -> Any:
    if not _is_tuple(field.annotation) or (value is None and field.default is None):
        return value
    if not isinstance(value, str):
        return tuple(value or ())
    parts = tuple(part for item in split_unquoted(value, ",") if (part := unquoted(item)))
    if not parts and field.default == ():  # which would mean all, where a script has an empty variable
        raise _nothing(name, field)
    return parts


def _nothing(name: str, field: FieldInfo) -> ConfigError:
    """An empty text, as of a variable of a script that is not set: a default is meant by leaving the option out."""
    flag = flag_of(name, field)
    remedy = "Name some" if flag.positional or field.is_required() else "Name some, or leave the option out"
    return ConfigError(f"{flag.name} names nothing", remedy=remedy)


def _name_of(model: type[Options], place: tuple[int | str, ...]) -> str:
    name, *inner = map(str, place or ("options",))
    written = (flag_of(name, model.model_fields[name]).name or name) if name in model.model_fields else name
    return ".".join([written, *inner])
