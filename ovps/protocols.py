"""Comparison of a thing with its protocol: attributes, their types, and how its methods may be called."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from inspect import Parameter, Signature, signature, unwrap
from numbers import Integral, Real
from typing import Any, get_args, get_origin, get_type_hints

_TAKEN: dict[Any, Any] = {float: Real, int: Integral, tuple: (tuple, list)}  # of these kinds anything will do


def lacking(thing: Any, protocol: type, optional: Collection[str] = ()) -> list[str]:
    """List the attributes and methods of a protocol that a thing does not have.

    >>> class Named:
    ...     name: str
    ...     def say(self) -> None: ...
    >>> lacking(object(), Named)
    ['name', 'say']
    """
    methods = [name for name, value in vars(protocol).items() if callable(value) or isinstance(value, property)]
    wanted = dict.fromkeys((*getattr(protocol, "__annotations__", ()), *methods))
    return [n for n in wanted if not n.startswith("_") and n not in optional and not hasattr(thing, n)]


def unlike(thing: Any, protocol: type, optional: Mapping[str, str] | None = None) -> tuple[str, str | None] | None:
    """Say how a thing differs from a protocol, and in which line; None if it has all of it.

    What it lacks comes first, then attributes of another type, then methods that cannot be called as the protocol's.

    Args:
        optional: methods that are needed only where the attribute of that name is true.

    >>> class Named:
    ...     name: str
    ...     def say(self, word: str) -> None: ...
    >>> class Mute:
    ...     name = "mute"
    ...     def say(self): ...
    >>> unlike(Mute(), Named)[0]
    'has a method `say` that cannot be called with (word)'
    """
    lacks = lacking(thing, protocol, [n for n, wanted in (optional or {}).items() if not getattr(thing, wanted, False)])
    if lacks:
        return f"lacks {', '.join(lacks)}", None
    for name, hint in _types_of(protocol).items():
        # `at` gives the thing itself, which may have other ones, or none before
        if hasattr(thing, name) and not hasattr(thing, "at") and not _is_a(getattr(thing, name), hint):
            return f"has a {name} that is {described(getattr(thing, name))}, expected {_in_words(hint)}", None
    for name, method in vars(protocol).items():
        own = getattr(thing, name, None)
        if not name.startswith("_") and callable(method) and own is not None and not callable(own):
            return f"has a {name} that is {described(own)}, expected a method", None
        if not name.startswith("_") and callable(method) and own is not None:
            wanted = list(signature(method).parameters.values())[1:]
            if not can_be_called(own, wanted):
                words = ", ".join(parameter.name for parameter in wanted)
                return f"has a method `{name}` that cannot be called with ({words})", line_of(own)
    return None


def _types_of(protocol: type) -> dict[str, Any]:
    hints = get_type_hints(protocol)
    for name, value in vars(protocol).items():
        if isinstance(value, property):
            hints[name] = get_type_hints(value.fget)["return"]
    return hints


def _is_a(value: Any, hint: Any) -> bool:
    origin = get_origin(hint) or hint
    if not isinstance(origin, type):
        return True
    args = get_args(hint)
    each = args[0] if origin is tuple and args and isinstance(args[0], type) else object
    return isinstance(value, _TAKEN.get(origin, origin)) and (each is object or all(isinstance(v, each) for v in value))


def _in_words(hint: Any) -> str:
    args = get_args(hint)
    each = f" of {args[0].__name__}" if args and isinstance(args[0], type) else ""
    return (get_origin(hint) or hint).__name__ + each


def can_be_called(method: Any, parameters: Collection[Parameter]) -> bool:
    """Tell whether a method takes these parameters: by their names those that have no place, by their places others."""
    try:
        own: Signature = signature(method)
    except (TypeError, ValueError):  # of compiled code nothing is known
        return True
    named = {p.name: None for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
    places = [None for p in parameters if p.kind is not Parameter.KEYWORD_ONLY]
    try:
        own.bind(*places, **named)
    except TypeError:
        return False
    return True


def described(given: Any) -> str:
    """Describe a value for a message: an array by type and shape, a number by itself, anything else by its type."""
    if hasattr(given, "dtype") and hasattr(given, "shape"):
        return f"{given.dtype} {tuple(given.shape)}"
    return f"{given!r}" if given is None or isinstance(given, (bool, int, float)) else type(given).__name__


def line_of(method: Any) -> str | None:
    """File and line of a method; None where it is one of ovps, or nothing is known of it."""
    function = unwrap(getattr(method, "__func__", method)) if callable(method) else None
    code = getattr(function, "__code__", None)
    module = str(getattr(function, "__module__", "")).partition(".")[0]
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None and module != "ovps" else None
