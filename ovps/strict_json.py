"""JSON as the standard has it. Python's own writer puts NaN and Infinity into it, which most readers refuse.

Its reader takes the last of two values of one name, so that a half-edited file of a user's would be read as something
that he does not see at its top.
"""

from __future__ import annotations

import json
import math
from typing import Any


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Numbers, strings, lists and dicts as JSON; NaN and infinity are null.

    >>> dumps({"mean": float("nan"), "rows": (1, 2.5)})
    '{"mean": null, "rows": [1, 2.5]}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def loads(text: str) -> Any:
    """Read JSON that somebody has written by hand.

    Raises:
        ValueError: no JSON, or an object that names a key twice.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key} is named twice")
        found[key] = value
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
